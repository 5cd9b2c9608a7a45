"""dmsg: the one program that has all the others as commands.

A command is a line of the table and a module with a Typer ``app``, imported when it runs: so the
help of `dmsg` comes at once, and a command waits for nothing that only another one needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from ._run import call, program

if TYPE_CHECKING:
    from typer._click import Context

COMMANDS: Final = {
    # name: (module of dmsg_trio.cli, what it does)
    "up": ("up", "Run a whole network on this machine, to try things."),
    "ping": ("ping", "Ask whether a client is there, and how far away."),
    "trace": ("trace", "Dial a client step by step, and show each attempt and its time."),
    "cat": ("cat", "Connect standard input and output to a port of a client."),
    "status": ("status", "Show the servers and clients that a discovery knows."),
    "keys": ("keys", "Make, show and check identity files."),
    "server": ("dmsg_server", "Run a server, which relays streams between clients."),
    "discovery": ("dmsg_discovery", "Run a discovery, where clients and servers are found."),
}
ALIASES: Final = {"disc": "discovery"}

app = program(no_args_is_help=True)


class Later(TyperCommand):
    """A command of which only the name and the line of help are known until it runs."""

    def __init__(self, name: str, module: str, line: str, *, hidden: bool = False) -> None:
        super().__init__(name, help=line, hidden=hidden)
        self._module = module

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: object
    ) -> Context:
        """Import the command and let it read its arguments."""
        module = import_module(f"{__package__}.{self._module}")
        return get_command(module.app).make_context(info_name, args, parent, **extra)


def main() -> NoReturn:
    """Run the program."""
    call(umbrella())


def umbrella() -> TyperGroup:
    """Put the commands under one name."""
    commands = [Later(name, module, line) for name, (module, line) in COMMANDS.items()]
    aliases = [Later(alias, *COMMANDS[name], hidden=True) for alias, name in ALIASES.items()]
    group = get_group(app)
    for command in commands + aliases:
        group.add_command(command)
    return group


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
