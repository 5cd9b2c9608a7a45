"""``python cmd/dmsgpty-cli`` is the program dmsgpty-cli."""

from dmsg_trio.cli.dmsgpty_cli import main

main()
