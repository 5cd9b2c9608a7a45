"""dmsg status: what a discovery and servers know, for people or as JSON."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from ._options import HERE, AsJson, Discovery, ToolLogOptions, spread
from ._parties import DialTimeout
from ._run import program, run

app = program()


@app.command()
@spread
def status(
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY",
            help="Show these servers and clients alone; the first digits of a key will do.",
        ),
    ] = None,
    *,
    as_json: AsJson = False,
    health: Annotated[
        list[str] | None,
        typer.Option(
            "--health",
            envvar="DMSG_HEALTH",
            metavar="URL",
            help="A server's health endpoint; several with commas, or given repeatedly.",
        ),
    ] = None,
    wait: DialTimeout = 10.0,
    discovery: Discovery = HERE,
    log: ToolLogOptions,
) -> None:
    """Show the servers that a discovery knows, and which clients are at each, since when.

    The links between servers are known to their health endpoints, which --health names; those of
    `dmsg up` are found without.
    """
    log.set_up()
    import msgspec

    from . import _health
    from ._status_report import ask
    from ._status_view import lines_of

    report = run(partial(ask, discovery, _health.named(health or []), wait))
    shown = report.about([key.lower().rstrip("…") for key in keys]) if keys else report
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(shown)).decode())
    else:
        print("\n".join(lines_of(shown, whole=report)))
