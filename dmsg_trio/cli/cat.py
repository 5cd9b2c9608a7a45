"""dmsg cat: standard input and output over a stream, as netcat has them over TCP."""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from typing import Annotated, Final

import trio
import typer

from dmsg_trio._errors import ConfigError, DmsgError, UnreachableError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio.client import Client, DmsgStream

from ._joining import joined, why
from ._options import HERE, Discovery, KeyOptions, ToolLogOptions, spread
from ._parties import DialTimeout, parse_address
from ._run import program, run

logger = logging.getLogger("dmsg_trio.cli")

READ_SIZE: Final = 256 * 1024
STDIN: Final = 0
STDOUT: Final = 1

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
    sk = keys.secret_key()
    if listen:
        allowed = frozenset(parse_address(pk, default_port=1).pk for pk in allow or [])
        run(partial(_wait_and_talk, sk, discovery, listen, allowed, wait))
    else:
        remote = parse_address(address)
        run(partial(_dial_and_talk, sk, discovery, remote.pk, remote.port, wait))


async def _dial_and_talk(
    sk: SecretKey | None, discovery: str, pk: PublicKey, port: int, wait: float
) -> None:
    async with joined(sk, discovery, wait) as client:
        await talk(await _dial(client, pk, port, wait))


async def _dial(client: Client, pk: PublicKey, port: int, wait: float) -> DmsgStream:
    try:
        with trio.fail_after(wait):
            return await client.open_stream(pk, port)
    except UnreachableError as error:
        raise DmsgError(why(error)) from error
    except trio.TooSlowError:
        raise DmsgError(f"{pk}:{port} did not answer within {wait:g} s") from None


async def _wait_and_talk(
    sk: SecretKey | None, discovery: str, port: int, allowed: frozenset[PublicKey], wait: float
) -> None:
    async with joined(sk, discovery, wait) as client, client.listen(port) as listener:
        print(f"listening on {listener.address}", file=sys.stderr, flush=True)
        while True:
            stream = await listener.accept()
            if not allowed or stream.remote.pk in allowed:
                await talk(stream)
                return
            logger.warning("refused %s, which is not among those allowed", stream.remote)
            stream.reset()


async def talk(stream: DmsgStream) -> None:
    """Copy both ways until both directions have ended."""
    try:
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(_copy_input, stream)
            async for data in stream:
                await _write_output(data)
            # A pipe may have more to send to a peer that said its last word. A person has not.
            if os.isatty(STDIN):
                nursery.cancel_scope.cancel()
    except* trio.BrokenResourceError as group:
        raise DmsgError(f"the stream broke: {group.exceptions[0]}") from None


async def _copy_input(stream: DmsgStream) -> None:
    # A thread, since regular files cannot be waited for, and a terminal must stay as it is.
    while data := await trio.to_thread.run_sync(os.read, STDIN, READ_SIZE, abandon_on_cancel=True):
        await stream.send_all(data)
    await stream.send_eof()


async def _write_output(data: bytes | bytearray) -> None:
    rest = memoryview(data)
    while rest:
        written = await trio.to_thread.run_sync(os.write, STDOUT, rest, abandon_on_cancel=True)
        rest = rest[written:]
