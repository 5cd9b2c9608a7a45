"""Serve one copy over standard input and output, for a host whose shells are another user's.

The host runs it as root, with the name of the user to become: by then all code is read, which that
user may not be able to. The home, to which paths are relative, is the HOME of the environment.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from dmsg_trio._errors import DmsgError
from dmsg_trio.apps.pty.process._become import become_user
from dmsg_trio.apps.pty.process._command import Account
from dmsg_trio.apps.pty.process._starting import user_to_become

from ._host import serve_files


async def main() -> None:
    """Serve what comes in."""
    pipes = trio.StapledStream(trio.lowlevel.FdStream(1), trio.lowlevel.FdStream(0))
    await serve_files(pipes, home=Path.home())


if __name__ == "__main__":
    if (user := user_to_become(Account.find(sys.argv[1]))) is not None:
        become_user(user)
    try:
        trio.run(main)
    except DmsgError as error:
        sys.exit(f"error: {error}")
