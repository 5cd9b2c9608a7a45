"""Serve one copy over standard input and output, for a host that acts as another user.

The home, to which paths are relative, is the HOME of the environment.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from dmsg_trio._errors import DmsgError

from ._host import serve_files


async def main() -> None:
    pipes = trio.StapledStream(trio.lowlevel.FdStream(1), trio.lowlevel.FdStream(0))
    await serve_files(pipes, home=Path.home())


if __name__ == "__main__":
    try:
        trio.run(main)
    except DmsgError as error:
        sys.exit(f"error: {error}")
