"""Bytes carried both ways between two streams that nothing else joins: a socket and a dmsg stream."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio

from .resettable import ResettableStream
from .stream import RECEIVE_SIZE, SEND_BATCH, DmsgStream

SPARE: Final = 4  # pieces of memory that wait for their next use, per event loop

_spare: Final = trio.lowlevel.RunVar[list[memoryview]]("dmsg_trio memory to carry in")

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
        while size := await _carry_piece(near, far):
            count.to_far += size
        await ended(far)

    async def carry_to_near() -> None:
        while size := await _carry_piece(far, near):
            count.to_near += size
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


async def _carry_piece(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> int:
    """Carry what has come, and say how many bytes; 0 is the end.

    Memory is held while a piece is on its way, and not by the many that wait for one.
    """
    if isinstance(source, DmsgStream):
        await source.wait_ready()
    elif isinstance(source, trio.SocketStream):
        await trio.lowlevel.wait_readable(source.socket)
    with _memory() as memory:
        piece = await receive_to(source, memory)
        if piece:
            await sink.send_all(piece)
        return len(piece)


async def receive_to(source: trio.abc.ReceiveStream, memory: memoryview) -> memoryview:
    """Wait for bytes, and give them in ``memory`` if ``source`` can do that; empty is the end."""
    if isinstance(source, DmsgStream):
        return memory[: await source.receive_into(memory)]
    if not isinstance(source, trio.SocketStream):
        return memoryview(await source.receive_some())
    try:
        return memory[: await source.socket.recv_into(memory[:SEND_BATCH])]
    except OSError as error:
        if source.socket.fileno() < 0:
            raise trio.ClosedResourceError("this socket was closed") from None
        raise trio.BrokenResourceError(f"the connection broke: {error.strerror}") from error


@contextmanager
def _memory() -> Iterator[memoryview]:
    spare = _spare_of_loop()
    memory = spare.pop() if spare else memoryview(bytearray(RECEIVE_SIZE))
    try:
        yield memory
    finally:
        if len(spare) < SPARE:
            spare.append(memory)


def _spare_of_loop() -> list[memoryview]:
    try:
        return _spare.get()
    except LookupError:
        spare: list[memoryview] = []
        _spare.set(spare)
        return spare


def reset_when_closed(stream: trio.abc.Stream) -> None:
    """Let a stream that is about to be closed not look whole to who is at its other end.

    A Unix socket cannot say so: its other end reads an end like any other, if ends are not marked.
    """
    if isinstance(stream, ResettableStream):
        stream.reset()
    elif isinstance(stream, trio.SocketStream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
