"""Groups of commands as all programs here have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click import Context


class Group(TyperGroup):
    """A group that needs nothing to know that not its own help is wanted, but a command's."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: object
    ) -> Context:
        """Read the arguments; for the help of a command, none of the group's own is looked at."""
        if len(args) == 2 and args[0] in self.commands and args[1] == "--help" and not extra:
            group = self.context_class(self, info_name=info_name, parent=parent)
            return self.commands[args[0]].make_context(args[0], args[1:], parent=group)
        return super().make_context(info_name, args, parent, **extra)
