"""dmsg: the one program that has all the others as commands.

A command is a line of the table and a module with a Typer ``app``, imported when it runs.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_group

from ._later import LaterGroup
from ._main import run_command
from ._run import program
from ._version import show_version

GROUPS: Final = {
    # name: (module of dmsg_trio.cli, what it does)
    "On the network": {
        "ping": ("ping", "Ask whether a client is there, and how far away."),
        "trace": ("trace", "Dial a client step by step, and show each attempt and its time."),
        "status": ("status", "Show the servers and clients that a discovery knows."),
        "ip": ("dmsgip", "Show the address of this machine as servers see it."),
    },
    "Bytes and files": {
        "cat": ("cat", "Connect standard input and output to a port of a client."),
        "curl": ("dmsgcurl", "Fetch and send files over HTTP, with the options of curl."),
        "http": ("dmsghttp", "Serve a folder, for anybody or for the keys on a list."),
        "web": ("dmsgweb", "Open sites of dmsg in any browser, and put local ports on dmsg."),
        "socks": ("dmsg_socks5", "Go out to the internet at another key, by SOCKS5."),
    },
    "Other machines": {
        "pty": ("pty", "Have a shell on any machine that has a key."),
    },
    "Running a network": {
        "up": ("up", "Run a whole network on this machine, to try things."),
        "server": ("dmsg_server", "Run a server, which relays streams between clients."),
        "discovery": ("dmsg_discovery", "Run a discovery, where clients and servers are found."),
    },
    "Besides": {
        "keys": ("keys", "Make, show and check identity files."),
        "completion": ("completion", "Teach a shell to complete all this with Tab."),
    },
}
COMMANDS: Final = {name: line for group in GROUPS.values() for name, line in group.items()}
ALIASES: Final = {"disc": "discovery"}


class _Programs(LaterGroup):
    table = COMMANDS
    titles: ClassVar = {title: tuple(group) for title, group in GROUPS.items()}
    aliases = ALIASES


app = program(cls=_Programs, no_args_is_help=True)


def main() -> NoReturn:
    """Run the program."""
    run_command(umbrella(), "dmsg")


def umbrella() -> TyperGroup:
    """Make the program as Typer runs it."""
    return get_group(app)


@app.callback()
def dmsg(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Encrypted streams by public key through relay servers."""
