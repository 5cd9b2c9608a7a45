"""``python cmd/dmsg`` is the program dmsg."""

from dmsg_trio.cli.dmsg import main

main()
