"""``python cmd/dmsgip`` is the program dmsgip."""

from dmsg_trio.cli.dmsgip import main

main()
