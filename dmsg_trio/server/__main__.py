"""``python -m dmsg_trio.server`` is the program dmsg-server."""

from dmsg_trio.cli.dmsg_server import main

if __name__ == "__main__":
    main()
