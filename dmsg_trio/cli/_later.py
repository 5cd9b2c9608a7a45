"""Commands of which only the name and one line are known until they run.

So the help of a program comes at once, and a command waits for nothing that only another one needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

from typer.core import TyperCommand
from typer.main import get_command

from ._group import Group
from ._settings import prepare

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter


class Later(TyperCommand):
    """A command that is imported when it runs: a module with a Typer ``app``."""

    def __init__(self, name: str, module: str, line: str, path: tuple[str, ...]) -> None:
        super().__init__(name, help=line)
        self._module = module
        self._path = path

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: object
    ) -> Context:
        """Import the command and let it read its arguments."""
        command = get_command(import_module(f"{__package__}.{self._module}").app)
        if isinstance(command, LaterGroup):
            command.path = self._path
        if not extra.get("resilient_parsing"):
            prepare(command, self._path, args)
        return command.make_context(info_name, args, parent, **extra)


class LaterGroup(Group):
    """A group whose commands are the lines of a table."""

    table: ClassVar[Mapping[str, tuple[str, str]]]  # name: (module of dmsg_trio.cli, what it does)
    aliases: ClassVar[Mapping[str, str]] = {}
    titles: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # of groups in the help, if there are any
    path: tuple[str, ...] = ()  # the words that lead here

    def list_commands(self, ctx: Context) -> list[str]:
        """Name all commands, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Find a command by its name or alias."""
        name = self.aliases.get(cmd_name, cmd_name)
        if name not in self.table:
            return None
        return Later(cmd_name, *self.table[name], (*self.path, name))

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the commands, under the titles of their groups."""
        width = max(map(len, self.table))
        for title, names in (self.titles or {"Commands": tuple(self.table)}).items():
            with formatter.section(title):
                # As wide as the widest of all groups.
                formatter.write_dl([(name.ljust(width), self.table[name][1]) for name in names])
