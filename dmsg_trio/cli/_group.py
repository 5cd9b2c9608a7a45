"""Groups of commands as all programs here have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click import Context
    from typer.core import TyperOption


class Group(TyperGroup):
    """A group that needs nothing to know that not its own help is wanted, but a command's."""

    def get_help_option(self, ctx: Context) -> TyperOption | None:
        """Give the option ``--help``, which is off unless it was given."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False  # for None, Typer would import what checks values: 60 ms
        return option
