"""Bytes carried both ways between two streams that nothing else joins: a socket and a dmsg stream."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

import trio

from .resettable import ResettableStream

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # for SO_LINGER


@dataclass(eq=False, slots=True)
class Carried:
    """How many bytes went each way, up to now."""

    to_far: int = 0
    to_near: int = 0


async def carry_both_ways(
    near: trio.abc.HalfCloseableStream,
    far: trio.abc.HalfCloseableStream,
    *,
    half_close: bool = True,
    carried: Carried | None = None,
) -> None:
    """Carry bytes both ways until both sides ended, or without ``half_close`` until one did.

    When one side is reset the other one is, too. ``carried`` counts.
    """
    count = carried or Carried()

    async def carry_to_far() -> None:
        async for data in near:
            await far.send_all(data)
            count.to_far += len(data)
        await ended(far)

    async def carry_to_near() -> None:
        async for data in far:
            await near.send_all(data)
            count.to_near += len(data)
        await ended(near)

    async def ended(sink: trio.abc.HalfCloseableStream) -> None:
        await sink.send_eof()
        if not half_close:
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carry_to_far)
            nursery.start_soon(carry_to_near)
    except* trio.BrokenResourceError:
        for stream in (near, far):
            reset_when_closed(stream)


def reset_when_closed(stream: trio.abc.Stream) -> None:
    """Let a stream that is about to be closed not look whole to who is at its other end.

    A Unix socket cannot say so: its other end reads an end like any other, if ends are not marked.
    """
    if isinstance(stream, ResettableStream):
        stream.reset()
    elif isinstance(stream, trio.SocketStream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
