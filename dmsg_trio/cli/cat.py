"""dmsg cat: standard input and output over a stream, as netcat has them over TCP."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from dmsg_trio._errors import ConfigError

from ._options import HERE, Discovery, KeyOptions, ToolLogOptions, spread
from ._parties import DialTimeout, parse_address
from ._run import program, run

app = program(no_args_is_help=True)


@app.command()
@spread
def cat(
    address: Annotated[str, typer.Argument(metavar="PK:PORT", help="Whom to talk to.")] = "",
    *,
    listen: Annotated[
        int, typer.Option("--listen", "-l", min=0, max=65535, help="Wait on this port instead.")
    ] = 0,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="PK", help="With --listen: only this client; may be repeated."),
    ] = None,
    wait: DialTimeout = 20.0,
    discovery: Discovery = HERE,
    keys: KeyOptions,
    log: ToolLogOptions,
) -> None:
    """Send standard input over a stream, and print what comes back.

    The end of the input ends that direction only; the program goes on until the other one ends. With
    --listen it prints its own address on standard error and takes the first stream that comes.
    Exit code 1 means that the stream did not open, or broke.
    """
    log.set_up()
    if bool(address) == bool(listen):
        raise ConfigError("give either PK:PORT or --listen PORT")
    if keys.key_stdin or str(keys.key_file) == "-":
        raise ConfigError("standard input cannot be both the key and what is sent")
    remote = None if listen else parse_address(address)
    allowed = frozenset(parse_address(pk, default_port=1).pk for pk in allow or [])
    sk = keys.secret_key()
    from ._cat_run import dial_and_talk, wait_and_talk

    if remote is None:
        run(partial(wait_and_talk, sk, discovery, listen, allowed, wait))
    else:
        run(partial(dial_and_talk, sk, discovery, remote.pk, remote.port, wait))
