"""``python -m dmsg_trio.discovery`` is the program dmsg-discovery."""

from dmsg_trio.cli.dmsg_discovery import main

if __name__ == "__main__":
    main()
