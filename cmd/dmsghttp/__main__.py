"""``python cmd/dmsghttp`` is the program dmsghttp."""

from dmsg_trio.cli.dmsghttp import main

main()
