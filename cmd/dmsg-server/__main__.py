"""``python cmd/dmsg-server`` is the program dmsg-server."""

from dmsg_trio.cli.dmsg_server import main

main()
