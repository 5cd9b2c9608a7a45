"""Byte streams in memory that take their time: with latency, and with so many bytes per second."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import trio

from dmsg_trio._wire.yamux import Buffer

QUEUE_TIME: Final = 0.05  # seconds that bytes may wait for a slow line, as in a kernel's buffer
PIECE: Final = 64 * 1024  # what enters a line at once


class _Line:
    """One direction of a connection."""

    def __init__(self, latency: float, rate: float) -> None:
        self._latency = latency
        self._rate = rate
        self._under_way: deque[tuple[float, bytes]] = deque()  # when it arrives, and what
        self._free_at = -math.inf
        self._change = trio.lowlevel.ParkingLot()
        self._ended_at = math.inf
        self.is_cut = False
        self.is_stalled = False

    async def send(self, data: Buffer) -> None:
        """Put bytes on the line, as fast as it takes them."""
        rest = bytes(data)
        while True:
            await trio.sleep_until(self._free_at - QUEUE_TIME)
            if self.is_cut:
                raise trio.BrokenResourceError("the connection was cut")
            piece, rest = rest[:PIECE], rest[PIECE:]
            self._free_at = max(self._free_at, trio.current_time()) + len(piece) / self._rate
            self._under_way.append((self._free_at + self._latency, piece))
            self._change.unpark_all()
            if not rest:
                return

    def end(self) -> None:
        """Let the end follow what is under way."""
        self._ended_at = max(self._free_at, trio.current_time()) + self._latency
        self._change.unpark_all()

    def cut(self) -> None:
        """Break the line; what is under way is lost."""
        self.is_cut = True
        self._under_way.clear()
        self._change.unpark_all()

    def stall(self) -> None:
        """Let nothing arrive any more, and say nothing of it."""
        self.is_stalled = True

    def slow_down(self, latency: float) -> None:
        """Take ``latency`` seconds for what is sent from now on."""
        self._latency = latency

    async def receive(self, max_bytes: int | None) -> bytes:
        """Wait for what arrives next; empty at the end."""
        await trio.lowlevel.checkpoint()
        while True:
            if self.is_cut:
                raise trio.BrokenResourceError("the connection was cut")
            now = trio.current_time()
            if not self.is_stalled:
                if self._under_way and self._under_way[0][0] <= now:
                    return self._take(now, max_bytes)
                if not self._under_way and self._ended_at <= now:
                    return b""
            await self._wait(now)

    async def _wait(self, now: float) -> None:
        arrival = self._under_way[0][0] if self._under_way else self._ended_at
        with trio.move_on_at(arrival if arrival > now and not self.is_stalled else math.inf):
            await self._change.park()

    def _take(self, now: float, max_bytes: int | None) -> bytes:
        arrived: list[bytes] = []
        while self._under_way and self._under_way[0][0] <= now:
            arrived.append(self._under_way.popleft()[1])
        data = b"".join(arrived)
        if max_bytes is not None and len(data) > max_bytes:
            self._under_way.appendleft((now, data[max_bytes:]))
            data = data[:max_bytes]
        return data


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection in memory; made by `memory_connection`."""

    def __init__(self, incoming: _Line, outgoing: _Line) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False

    async def send_all(self, data: Buffer) -> None:
        self._check_open()
        await self._outgoing.send(data)

    async def wait_send_all_might_not_block(self) -> None:
        self._check_open()
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        self._check_open()
        self._outgoing.end()
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        self._check_open()
        return await self._incoming.receive(max_bytes)

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._outgoing.end()
            if not self._incoming.is_stalled:  # out of a black hole nothing tells the other end
                self._incoming.cut()
        await trio.lowlevel.checkpoint()

    # ---- faults ----

    def cut(self) -> None:
        """Break the connection, as a power cut does: both ends lose what was under way."""
        self._incoming.cut()
        self._outgoing.cut()

    def stall(self) -> None:
        """Make a black hole of the connection: nothing arrives at either end, and nobody is told."""
        self._incoming.stall()
        self._outgoing.stall()

    def slow_down(self, latency: float) -> None:
        """Let what is sent from now on take ``latency`` seconds, in both directions."""
        self._incoming.slow_down(latency)
        self._outgoing.slow_down(latency)

    @property
    def is_over(self) -> bool:
        """Whether nothing can come of a fault any more: it was closed or cut."""
        return self._closed or self._incoming.is_cut

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed on this side")


def memory_connection(
    *, latency: float = 0, rate: float = math.inf
) -> tuple[MemoryStream, MemoryStream]:
    """Make the two ends of a connection.

    ``latency`` is in seconds, one way; ``rate`` in bytes per second, for each direction.
    """
    forth, back = _Line(latency, rate), _Line(latency, rate)
    return MemoryStream(back, forth), MemoryStream(forth, back)
