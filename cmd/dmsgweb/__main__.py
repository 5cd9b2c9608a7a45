"""``python cmd/dmsgweb`` is the program dmsgweb."""

from dmsg_trio.cli.dmsgweb import main

main()
