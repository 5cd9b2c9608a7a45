"""dmsg pty: the programs of the remote shell."""

from __future__ import annotations

from typing import Final

from ._later import LaterGroup
from ._run import program

COMMANDS: Final = {
    # name: (module of dmsg_trio.cli, what it does)
    "host": ("dmsgpty_host", "Give shells on this machine to the keys on its list."),
    "cli": ("dmsgpty_cli", "Have a shell on another machine, its files and its ports."),
    "ui": ("dmsgpty_ui", "Serve a terminal to browsers."),
}


class _Programs(LaterGroup):
    table = COMMANDS


app = program(cls=_Programs, no_args_is_help=True)


@app.callback()
def pty() -> None:
    """Have a shell on any machine that has a key."""
