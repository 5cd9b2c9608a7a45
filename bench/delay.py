"""A long path on loopback: ``python -m bench.delay ADDRESS TARGET SECONDS`` delays bytes, each way.

Bandwidth is not limited. What waits here is bounded by the windows of those who send, so there is
no bound of its own, which would be one on the bandwidth.
"""

from __future__ import annotations

import json
import math
import sys
from functools import partial
from typing import Final

import trio

from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.tcp import listen_tcp, parse_host_port

READ_SIZE: Final = 1 << 18


async def carry(source: trio.SocketStream, sink: trio.SocketStream, delay: float) -> None:
    """Pass bytes on when they are ``delay`` seconds old."""
    late, due = trio.open_memory_channel[tuple[float, bytes]](math.inf)

    async def read() -> None:
        async with late:
            while data := await source.receive_some(READ_SIZE):
                late.send_nowait((trio.current_time() + delay, bytes(data)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        async for time, data in due:
            await trio.sleep_until(time)
            await sink.send_all(data)
        await sink.send_eof()


async def handle(near: trio.SocketStream, *, host: str, port: int, delay: float) -> None:
    """Be the path of one connection."""
    try:
        async with near, await trio.open_tcp_stream(host, port) as far:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(carry, near, far, delay)
                nursery.start_soon(carry, far, near, delay)
    except* (trio.BrokenResourceError, OSError):
        pass  # an end is gone, and with it the path


async def main(address: str, target: str, delay: float) -> None:
    """Serve until the end of stdin."""
    host, port = parse_host_port(target)
    listeners = await listen_tcp(address)
    async with open_service_nursery() as nursery:
        path = partial(handle, host=host, port=port, delay=delay)
        nursery.start_soon(trio.serve_listeners, path, listeners)
        print(json.dumps({}), flush=True)
        async for _ in trio.wrap_file(sys.stdin):
            pass


if __name__ == "__main__":
    address, target, seconds = sys.argv[1:]
    trio.run(main, address, target, float(seconds))
