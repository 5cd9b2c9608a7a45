"""``python cmd/dmsgcurl`` is the program dmsgcurl."""

from dmsg_trio.cli.dmsgcurl import main

main()
