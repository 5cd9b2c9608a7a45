"""``python cmd/dmsgpty-ui`` is the program dmsgpty-ui."""

from dmsg_trio.cli.dmsgpty_ui import main

main()
