"""Being the way to another host, for the users of this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import trio

from dmsg_trio._errors import DmsgError
from dmsg_trio._net.carrying import carry_both_ways
from dmsg_trio._wire.pty import PTY_URI
from dmsg_trio.apps.pty._requests import (
    PtyRefusedError,
    PtyUnansweredError,
    Request,
    accept,
    accept_as_asked,
    refuse,
    request,
)

Dial: TypeAlias = Callable[[], Awaitable[trio.abc.HalfCloseableStream]]


async def serve_proxy(near: trio.abc.HalfCloseableStream, dial: Dial) -> None:
    """Let the client on ``near`` use the ``pty`` service of the host that ``dial`` reaches.

    Calls and answers are passed on as bytes. Each direction of ``near`` begins its gob stream where
    that to the other host begins, so what is described in it is described to the right one.
    """
    async with _reached(near, dial, PTY_URI) as far:
        if far is not None:
            await accept(near)
            # Hosts of the reference do not end a connection because its other direction ended.
            await carry_both_ways(near, far, half_close=False)


async def serve_connection(near: trio.abc.HalfCloseableStream, dial: Dial, asked: Request) -> None:
    """Let the client on ``near`` speak with whom ``dial`` reaches, from the request line on."""
    async with _reached(near, dial) as far:
        if far is not None:
            await carry_both_ways(await accept_as_asked(near, asked), far)


@asynccontextmanager
async def _reached(
    near: trio.abc.HalfCloseableStream, dial: Dial, uri: str = ""
) -> AsyncIterator[trio.abc.HalfCloseableStream | None]:
    """Open a stream for the block, or tell the client on ``near`` why there is none."""
    try:
        far = await dial()
    except DmsgError as error:
        await refuse(near, str(error))
        yield None
        return
    async with far:
        try:
            if uri:
                await request(far, uri)
        except (PtyRefusedError, PtyUnansweredError) as error:
            await refuse(near, str(error))
            yield None
        else:
            yield far
