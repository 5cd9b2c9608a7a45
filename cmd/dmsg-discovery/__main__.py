"""``python cmd/dmsg-discovery`` is the program dmsg-discovery."""

from dmsg_trio.cli.dmsg_discovery import main

main()
