"""Commands of which only the name and one line are known until they run.

So the help of a program comes at once, and a command waits for nothing that only another one needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    from typer._click import Command, Context


class Later(TyperCommand):
    """A command that is imported when it runs: a module with a Typer ``app``."""

    def __init__(self, name: str, module: str, line: str) -> None:
        super().__init__(name, help=line)
        self._module = module

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: object
    ) -> Context:
        """Import the command and let it read its arguments."""
        module = import_module(f"{__package__}.{self._module}")
        return get_command(module.app).make_context(info_name, args, parent, **extra)


class LaterGroup(TyperGroup):
    """A group whose commands are the lines of a table."""

    table: ClassVar[Mapping[str, tuple[str, str]]]  # name: (module of dmsg_trio.cli, what it does)
    aliases: ClassVar[Mapping[str, str]] = {}

    def list_commands(self, ctx: Context) -> list[str]:
        """Name all commands, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Find a command by its name or alias."""
        name = self.aliases.get(cmd_name, cmd_name)
        return Later(cmd_name, *self.table[name]) if name in self.table else None
