"""dmsgcurl: what curl does, from and to those who are reached by a public key.

What it does is in modules of their own, which are imported when it runs.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, cast

import typer

from dmsg_trio._errors import ConfigError

from ._curl_help import USAGE, GroupedCommand, group_of
from ._curl_more_options import (
    FailingOptions,
    IgnoredOptions,
    NetworkOptions,
    RememberingOptions,
    ShowingOptions,
)
from ._curl_options import AskingOptions, SavingOptions
from ._main import main_of
from ._options import KeyOptions, ToolLogOptions, spread
from ._run import program, run
from ._secrets import refuse_on_command_line

if TYPE_CHECKING:
    from dmsg_trio.apps.curl import Cookies

    from ._curl_plan import Planned
    from ._curl_watch import Screen

VARIABLE: Final = "DMSGCURL_SK"  # as the reference calls it
_NUMBER = re.compile(r"\d+")

app = program()


def main() -> NoReturn:
    """Run the command, as the console script and ``python -m`` do."""
    main_of(app, "dmsgcurl", "curl", failure=USAGE)


def _show_version(*, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # slow to import

        print(f"dmsgcurl (dmsg_trio) {version('dmsg-trio')}")
        raise typer.Exit


@app.command(cls=GroupedCommand, context_settings={"help_option_names": ["-h", "--help"]})
@spread
def dmsgcurl(
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="URL...", help="dmsg://PK[:port]/path")
    ] = None,
    *,
    saving: SavingOptions,
    asking: AskingOptions,
    failing: FailingOptions,
    showing: ShowingOptions,
    remembering: RememberingOptions,
    network: NetworkOptions,
    ignored: IgnoredOptions,
    _version: Annotated[
        bool,
        typer.Option(
            "-V", "--version", callback=_show_version, is_eager=True, help="Show the version."
        ),
    ] = False,
    keys: KeyOptions,
    log: ToolLogOptions,
) -> None:
    """Transfer what URLs lead to, over dmsg: dmsgcurl dmsg://PK[:port]/path.

    Options and exit codes are those of curl. A file appears when it is complete; what a broken
    download leaves beside it, -C - goes on with.
    """
    if showing.verbose and not urls:
        _show_version(wanted=True)
    parts = [
        Part(urls or [], saving, asking, failing, remembering, showing, ignored.given or []),
        *(Part.of(each) for each in cast("list[Params]", ignored.more or [])),
    ]
    if not all(part.urls for part in parts):
        hint = " (-r takes a range; the reference's -r is --replace)" if saving.span else ""
        raise ConfigError(f"no URL: dmsgcurl dmsg://PK[:port]/path, or --help{hint}")
    refuse_on_command_line(network.secret, VARIABLE)
    log.set_up(network.loglvl)
    _send_errors_to(showing.stderr)

    from dmsg_trio.apps.curl import TransferError

    from ._curl_remembering import cookies_of, keep_cookies
    from ._curl_run import Run
    from ._curl_watch import Screen

    screen = Screen(silent=showing.silent, shows_errors=showing.show_error)
    for hint in _hints(asking, showing):
        screen.note(hint)
    try:
        cookies = cookies_of([part.remembering for part in parts])
        task = Run(
            [transfer for part in parts for transfer in part.transfers(cookies)],
            showing,
            network,
            keys.secret_key(VARIABLE),
            screen,
            at_once=saving.parallel_max if any(part.saving.parallel for part in parts) else 1,
        )
    except TransferError as error:
        screen.error(error)
        sys.exit(error.code)
    try:
        code = run(task.run, failure=USAGE)
    finally:
        for part in parts:
            if cookies is not None and part.remembering.cookie_jar:
                _tell(screen, partial(keep_cookies, cookies, part.remembering.cookie_jar))
    sys.exit(code)


def _tell(screen: Screen, do: Callable[[], None]) -> None:
    from dmsg_trio.apps.curl import TransferError

    try:
        do()
    except TransferError as error:
        screen.error(error)


Params = dict[str, object]


@dataclass(frozen=True, slots=True)
class Part:
    """A command line up to ``--next``; there the options of a transfer begin anew."""

    urls: list[str]
    saving: SavingOptions
    asking: AskingOptions
    failing: FailingOptions
    remembering: RememberingOptions
    showing: ShowingOptions
    given: list[str]

    @classmethod
    def of(cls, params: Params) -> Part:
        """Take what was said behind a ``--next``."""
        return cls(
            cast("list[str]", params.get("urls") or []),
            group_of(SavingOptions, params),
            group_of(AskingOptions, params),
            group_of(FailingOptions, params),
            group_of(RememberingOptions, params),
            group_of(ShowingOptions, params),
            cast("list[str]", params["given"]),
        )

    def transfers(self, cookies: Cookies | None) -> list[Planned]:
        """Say what is to be done; `TransferError` for what cannot be."""
        from ._curl_bodies import content_of
        from ._curl_plan import Plan

        text = self.showing.write_out
        if text.startswith("@"):
            text = content_of(text[1:]).decode(errors="replace")
        plan = Plan(
            self.saving, self.asking, self.failing, self.given, self.remembering, cookies, text
        )
        return plan.transfers(self.urls)


def _send_errors_to(path: str) -> None:
    """Let standard error be another file."""
    if path == "-":
        os.dup2(sys.stdout.fileno(), sys.stderr.fileno())
    elif path:
        try:
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ConfigError(f"--stderr: {path}: {error.strerror}") from None
        os.dup2(number, sys.stderr.fileno())
        os.close(number)


def _hints(asking: AskingOptions, showing: ShowingOptions) -> list[str]:
    """Say what an option means here that the reference's dmsgcurl means otherwise."""
    hints = []
    if _NUMBER.fullmatch(asking.referer):
        hints.append(f"-e {asking.referer} is a Referer, as with curl; sessions are --sess")
    if _NUMBER.fullmatch(showing.write_out):
        hints.append(f"-w {showing.write_out} prints this, as with curl; a pause is --wait")
    return hints
