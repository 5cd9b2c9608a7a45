"""dmsg ping: is somebody there, through which server, and how far away?"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from ._options import HERE, AsJson, Discovery, KeyOptions, ToolLogOptions, spread
from ._parties import ECHO_PORT, DialTimeout, parse_address
from ._run import program, run

app = program()


@app.command()
@spread
def ping(
    address: Annotated[str, typer.Argument(metavar="PK[:PORT]", help="Whom to ask.")],
    *,
    count: Annotated[
        int, typer.Option("--count", "-c", min=0, help="How often; 0: until Ctrl-C.")
    ] = 4,
    interval: Annotated[
        float, typer.Option("--interval", "-i", min=0.01, help="Seconds between two.")
    ] = 1.0,
    wait: DialTimeout = 10.0,
    as_json: AsJson = False,
    discovery: Discovery = HERE,
    keys: KeyOptions,
    log: ToolLogOptions,
) -> None:
    """Open a stream to a client, again and again, and tell how long each took.

    A client answers even on a port where nobody listens, by a signed refusal. Without a port the
    echo port, 7, is asked, and where somebody echoes the round trip is measured as well. Exit code
    1 means that no answer came at all.
    """
    log.set_up()
    remote = parse_address(address, default_port=ECHO_PORT)
    from ._ping_run import Pinging

    pinging = Pinging(remote, count, interval, wait, as_json=as_json)
    run(partial(pinging.run, keys.secret_key(), discovery))
