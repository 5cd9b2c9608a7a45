"""dmsgcurl: what curl does, from and to those who are reached by a public key.

What it does is in modules of their own, which are imported when it runs.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import Annotated, Final, NoReturn

import typer

from dmsg_trio._errors import ConfigError

from ._curl_help import GroupedCommand
from ._curl_options import (
    AskingOptions,
    FailingOptions,
    IgnoredOptions,
    NetworkOptions,
    SavingOptions,
    ShowingOptions,
)
from ._main import main_of
from ._options import KeyOptions, Level, ToolLogOptions, spread
from ._run import program, run
from ._secrets import refuse_on_command_line

USAGE: Final = 2
VARIABLE: Final = "DMSGCURL_SK"  # as the reference calls it
_NUMBER = re.compile(r"\d+")

app = program()


def main() -> NoReturn:
    """Run the command, as the console script and ``python -m`` do."""
    main_of(app, "dmsgcurl", "curl", failure=USAGE)


@app.command(cls=GroupedCommand)
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
    network: NetworkOptions,
    ignored: IgnoredOptions,
    version: Annotated[bool, typer.Option("-V", "--version", help="Show the version.")] = False,
    keys: KeyOptions,
    log: ToolLogOptions,
) -> None:
    """Transfer what URLs lead to, over dmsg: dmsgcurl dmsg://PK[:port]/path.

    Options and exit codes are those of curl. A file appears when it is complete; what a broken
    download leaves beside it, -C - goes on with.
    """
    if version or (showing.verbose and not urls):
        _show_version()
        return
    if not urls:
        hint = " (-r takes a range; the reference's -r is --replace)" if saving.span else ""
        raise ConfigError(f"no URL: dmsgcurl dmsg://PK[:port]/path, or --help{hint}")
    refuse_on_command_line(network.secret, VARIABLE)
    _set_up_log(log, network.loglvl)
    given = ignored.given or []

    from dmsg_trio.apps.curl import TransferError

    from ._curl_bodies import content_of
    from ._curl_plan import Plan
    from ._curl_run import Run
    from ._curl_watch import Screen

    screen = Screen(silent=showing.silent, shows_errors=showing.show_error)
    for hint in _hints(asking, showing):
        screen.note(hint)
    try:
        transfers = Plan(saving, asking, failing, given).transfers(urls)
        text = showing.write_out
        if text.startswith("@"):
            text = content_of(text[1:]).decode(errors="replace")
    except TransferError as error:
        screen.error(error)
        sys.exit(error.code)
    task = Run(
        transfers,
        showing,
        network,
        keys.secret_key(VARIABLE),
        dump_header=saving.dump_header,
        at_once=saving.parallel_max if saving.parallel else 1,
        format=text,
    )
    sys.exit(run(task.run, failure=USAGE))


def _hints(asking: AskingOptions, showing: ShowingOptions) -> list[str]:
    """Say what an option means here that the reference's dmsgcurl means otherwise."""
    hints = []
    if _NUMBER.fullmatch(asking.referer):
        hints.append(f"-e {asking.referer} is a Referer, as with curl; sessions are --sess")
    if _NUMBER.fullmatch(showing.write_out):
        hints.append(f"-w {showing.write_out} prints this, as with curl; a pause is --wait")
    return hints


def _set_up_log(log: ToolLogOptions, name: str) -> None:
    """Log from the level that was named, here or as the reference does it."""
    if name:
        name = {"fatal": "error", "panic": "error", "warn": "warning", "trace": "debug"}.get(
            name, name
        )
        try:
            log = replace(log, log_level=Level(name))
        except ValueError:
            raise ConfigError(f"--loglvl: debug, info, warning or error, not {name!r}") from None
    log.set_up()


def _show_version() -> None:
    from importlib.metadata import version  # slow to import

    print(f"dmsgcurl (dmsg_trio) {version('dmsg-trio')}")
