"""A command with many options: its help in groups, and the order in which they were given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from typer.core import TyperCommand, TyperOption

from ._run import clearly

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

USAGE: Final = 2
OTHERS: Final = "Your key, and the rest"


class GroupedCommand(TyperCommand):
    """Shows options under the headings that they name, and knows in which order they were given.

    A hidden parameter ``given`` gets the names of all options of the command line, in order.
    """

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read the arguments."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        rest = super().parse_args(ctx, args)
        ctx.params["given"] = [each.name for each in order]
        return rest

    def invoke(self, ctx: Context) -> object:
        """Run the command; what it refuses is wrong usage also where others call us."""
        return clearly(partial(super().invoke, ctx), failure=USAGE)

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the help, group by group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for each in self.get_params(ctx):
            record = each.get_help_record(ctx)
            if record is not None and isinstance(each, TyperOption):
                groups.setdefault(each.rich_help_panel or OTHERS, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records, col_max=28)


def in_order(
    given: Sequence[str], values: Mapping[str, Sequence[object]]
) -> list[tuple[str, object]]:
    """Put the values of several options that may be repeated into the order of the command line."""
    rest = {name: iter(each) for name, each in values.items()}
    return [(name, next(rest[name])) for name in given if name in rest]
