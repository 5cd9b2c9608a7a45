"""dmsg up: a discovery, two servers, a web page and an echo in one process, to try things with."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

import typer

from ._options import AsJson, ToolLogOptions, spread
from ._run import program, run

DISCOVERY_PORT: Final = 9090

app = program()


@app.command()
@spread
def up(
    *,
    port: Annotated[
        int, typer.Option("--port", "-p", min=0, max=65535, help="Port of the discovery; 0: any.")
    ] = DISCOVERY_PORT,
    servers: Annotated[int, typer.Option(min=1, max=64, help="How many servers.")] = 2,
    store: Annotated[str, typer.Option(help="memory: or sqlite:PATH")] = "memory:",
    as_json: AsJson = False,
    log: ToolLogOptions,
) -> None:
    """Run a whole network on this machine until Ctrl-C: everything on loopback, all keys fresh.

    Prints what there is and lines to try in a second terminal; with --json one JSON object when
    everything is ready.
    """
    log.set_up()
    from ._up_run import run_network

    run(partial(run_network, port, servers, store, as_json=as_json), service=True)
