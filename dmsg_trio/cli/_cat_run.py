"""dmsg cat at work: a stream that is dialed or waited for, and bytes both ways."""

from __future__ import annotations

import logging
import os
import sys

import trio

from dmsg_trio._errors import DmsgError, UnreachableError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio.client import Client, DmsgStream

from ._joining import joined, why
from ._stdio import STDIN, open_output, read_input

logger = logging.getLogger("dmsg_trio.cli")


async def dial_and_talk(
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


async def wait_and_talk(
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
        with open_output() as output:
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(_copy_input, stream)
                async for data in stream:
                    await output.write(data)
                # A pipe may have more to send to a peer that said its last word. A person has not.
                if os.isatty(STDIN):
                    nursery.cancel_scope.cancel()
    except* trio.BrokenResourceError as group:
        raise DmsgError(f"the stream broke: {group.exceptions[0]}") from None


async def _copy_input(stream: DmsgStream) -> None:
    async for data in read_input():
        await stream.send_all(data)
    await stream.send_eof()
