"""A command with many options: its help in groups, and the order in which they were given."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, get_type_hints

from typer._click.exceptions import NoSuchOption
from typer.core import TyperCommand, TyperOption

from dmsg_trio._errors import ConfigError, DmsgError

from ._curl_arguments import Option, parts
from ._run import clearly

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

T = TypeVar("T")

USAGE: Final = 2
OTHERS: Final = "Your key, and the rest"

_TLS: Final = "streams are encrypted by their keys, without TLS"
_WAY: Final = "streams go over dmsg servers; dmsgweb is for what goes elsewhere"
# Options of curl that others may look for in vain.
LEFT_OUT: Final = {
    **dict.fromkeys(("--cacert", "--capath", "-E", "--cert", "--key", "--pinnedpubkey"), _TLS),
    **dict.fromkeys(("--tlsv1.2", "--tlsv1.3", "--ciphers", "-1"), _TLS),
    **dict.fromkeys(("-x", "--proxy", "--socks5", "--socks5-hostname", "--noproxy"), _WAY),
    **dict.fromkeys(("--interface", "--resolve", "--connect-to", "--unix-socket"), _WAY),
    **dict.fromkeys(("--http2", "--http3", "-0", "--http1.0"), "HTTP is version 1.1 over dmsg"),
    "--path-as-is": "'..' is taken out of a path before it is sent",
    "--request-target": "what is asked for is the path of the URL",
    "--tr-encoding": "--compressed asks for compression, by Accept-Encoding",
    **dict.fromkeys(
        ("--post301", "--post302", "--post303"),
        "301, 302 and 303 make a GET of a POST, as in browsers; 307 and 308 repeat it",
    ),
    **dict.fromkeys(("--trace", "--trace-ascii"), "-v shows headers, 'dmsg trace' the way"),
}


class GroupedCommand(TyperCommand):
    """Shows options under the headings that they name, and knows in which order they were given.

    A hidden parameter ``given`` gets the names of all options of the command line, in order, and
    ``more`` what was said behind each ``--next``.
    """

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read the arguments."""
        if ctx.resilient_parsing:  # a line that a shell completes
            return super().parse_args(ctx, args)
        first, *others = self._parts(ctx, args)
        rest = self._parse_part(ctx, first)
        ctx.params["more"] = [self._params_of(ctx, each) for each in others]
        return rest

    def _parts(self, ctx: Context, args: list[str]) -> list[list[str]]:
        try:
            return parts(args, self._spellings())
        except DmsgError as error:
            from dmsg_trio.apps.curl import TransferError  # slow to import

            if not isinstance(error, TransferError):
                raise
            print(f"{ctx.info_name}: {error}", file=sys.stderr)  # a file of -K cannot be read
            ctx.exit(error.code)

    def _parse_part(self, ctx: Context, words: list[str]) -> list[str]:
        try:
            _, _, order = self.make_parser(ctx).parse_args(args=list(words))
        except NoSuchOption as error:
            if reason := LEFT_OUT.get(error.option_name):
                raise ConfigError(f"{error.option_name} is not for here: {reason}") from None
            raise
        rest = super().parse_args(ctx, words)
        ctx.params["given"] = [each.name for each in order]
        return rest

    def _params_of(self, ctx: Context, words: list[str]) -> dict[str, object]:
        other = self.context_class(
            self, info_name=ctx.info_name, parent=ctx.parent, **self.context_settings
        )
        with other.scope(cleanup=False):
            self._parse_part(other, words)
        return other.params

    def _spellings(self) -> dict[str, Option]:
        return {
            spelling: Option(each.name or "", takes_value=not (each.is_flag or each.count))
            for each in self.params
            if isinstance(each, TyperOption)
            for spelling in each.opts
        }

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


def group_of(group: type[T], params: Mapping[str, object]) -> T:
    """Make a group of options of what was parsed."""
    types = get_type_hints(group)
    return group(**{name: _typed(types[name], params[name]) for name in types})


def _typed(kind: object, value: object) -> object:
    # What Typer does for the options of a command itself.
    return Path(value) if isinstance(value, str) and kind in (Path, Path | None) else value


def in_order(
    given: Sequence[str], values: Mapping[str, Sequence[object]]
) -> list[tuple[str, object]]:
    """Put the values of several options that may be repeated into the order of the command line."""
    rest = {name: iter(each) for name, each in values.items()}
    return [(name, next(rest[name])) for name in given if name in rest]
