"""dmsg: the one program that has all the others as commands.

A command is a line of the table and a module with a Typer ``app``, imported when it runs.
"""

from __future__ import annotations

from typing import Annotated, Final, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_group

from ._later import LaterGroup
from ._run import call, program

COMMANDS: Final = {
    # name: (module of dmsg_trio.cli, what it does)
    "up": ("up", "Run a whole network on this machine, to try things."),
    "ping": ("ping", "Ask whether a client is there, and how far away."),
    "trace": ("trace", "Dial a client step by step, and show each attempt and its time."),
    "cat": ("cat", "Connect standard input and output to a port of a client."),
    "socks": ("dmsg_socks5", "Go out to the internet at another key, by SOCKS5."),
    "curl": ("dmsgcurl", "Fetch and send files over HTTP, with the options of curl."),
    "http": ("dmsghttp", "Serve a folder, for anybody or for the keys on a list."),
    "status": ("status", "Show the servers and clients that a discovery knows."),
    "pty": ("pty", "Have a shell on any machine that has a key."),
    "ip": ("dmsgip", "Show the address of this machine as servers see it."),
    "keys": ("keys", "Make, show and check identity files."),
    "server": ("dmsg_server", "Run a server, which relays streams between clients."),
    "discovery": ("dmsg_discovery", "Run a discovery, where clients and servers are found."),
}
ALIASES: Final = {"disc": "discovery"}


class _Programs(LaterGroup):
    table = COMMANDS
    aliases = ALIASES


app = program(cls=_Programs, no_args_is_help=True)


def main() -> NoReturn:
    """Run the program."""
    call(umbrella())


def umbrella() -> TyperGroup:
    """Make the program as Typer runs it."""
    return get_group(app)


def _show_version(*, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # slow to import

        print(f"dmsg_trio {version('dmsg-trio')}")
        raise typer.Exit


@app.callback()
def dmsg(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Encrypted streams by public key through relay servers."""
