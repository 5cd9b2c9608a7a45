"""dmsg trace: dial a client step by step, and show what each step found and how long it took."""

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
def trace(
    address: Annotated[str, typer.Argument(metavar="PK[:PORT]", help="Whom to dial.")],
    *,
    sessions: Annotated[
        int, typer.Option("--sessions", min=0, help="How many to begin with; 0: with all servers.")
    ] = 1,
    wait: DialTimeout = 20.0,
    as_json: AsJson = False,
    discovery: Discovery = HERE,
    keys: KeyOptions,
    log: ToolLogOptions,
) -> None:
    """Dial a client and show the way: its entry, our sessions, and each attempt with its time.

    Exit code 1 means that it was not reached. A refusal by the client itself proves a way, too.
    """
    log.set_up()
    remote, sk = parse_address(address, default_port=ECHO_PORT), keys.secret_key()
    from ._trace_run import trace_dial

    run(partial(trace_dial, sk, discovery, remote, wait, sessions, as_json=as_json))
