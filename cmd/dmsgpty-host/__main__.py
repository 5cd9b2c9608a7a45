"""``python cmd/dmsgpty-host`` is the program dmsgpty-host."""

from dmsg_trio.cli.dmsgpty_host import main

main()
