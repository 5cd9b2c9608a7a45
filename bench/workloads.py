"""What two ends do while they are measured, on dmsg and on plain TCP alike.

The first eight bytes of a stream say how many bytes follow, which are counted and answered with one;
zero asks for an echo.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Final

import trio

BLOCK: Final = os.urandom(1 << 20)
MESSAGE: Final = b"x" * 64
READ_SIZE: Final = 1 << 19  # more than a dmsg stream gives at once

Stream = trio.abc.Stream
Connect = Callable[[], Awaitable[Stream]]
Answer = dict[str, float]


# ---- the receiving end ----


async def handle_stream(stream: Stream) -> None:
    """Count or echo, as the first eight bytes say."""
    try:
        async with stream:
            head = await receive_exactly(stream, 8)
            if size := int.from_bytes(head):
                while size and (data := await stream.receive_some(min(size, READ_SIZE))):
                    size -= len(data)
                await stream.send_all(b"k")
                await stream.receive_some()  # the other end closes first
            else:
                while data := await stream.receive_some():
                    await stream.send_all(data)
    except trio.BrokenResourceError:
        pass  # the other end had all that it wanted


async def receive_exactly(stream: Stream, size: int) -> bytes:
    received = b""
    while len(received) < size:
        data = await stream.receive_some(size - len(received))
        if not data:
            raise trio.BrokenResourceError("it ended before it began")
        received += data
    return received


# ---- the sending end ----


async def throughput(connect: Connect, size: int, streams: int) -> Answer:
    """Send ``size`` bytes in all; until the far end has them."""

    async def send_share(stream: Stream) -> None:
        rest = size // streams
        async with stream:
            await stream.send_all(rest.to_bytes(8))
            while rest > 0:
                await stream.send_all(BLOCK[:rest])
                rest -= len(BLOCK)
            await receive_exactly(stream, 1)

    opened = [await connect() for _ in range(streams)]
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for stream in opened:
            nursery.start_soon(send_share, stream)
    return {"seconds": time.perf_counter() - began}


async def round_trips(connect: Connect, count: int) -> Answer:
    """Send 64 bytes there and back, so many times."""
    times = []
    async with await connect() as stream:
        await stream.send_all(bytes(8))
        for _ in range(count):
            began = time.perf_counter()
            await stream.send_all(MESSAGE)
            await receive_exactly(stream, len(MESSAGE))
            times.append(time.perf_counter() - began)
    times.sort()
    return {"p50": times[count // 2], "p99": times[count * 99 // 100]}


async def dials(connect: Connect, count: int, at_once: int) -> Answer:
    """Open and close so many streams."""

    async def dial() -> None:
        for _ in range(count // at_once):
            async with await connect():
                pass

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(dial)
    return {"seconds": time.perf_counter() - began}
