"""``python cmd/dmsg-socks5`` is the program dmsg-socks5."""

from dmsg_trio.cli.dmsg_socks5 import main

main()
