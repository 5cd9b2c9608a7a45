"""Connections in memory, under addresses that look like those of hosts."""

from __future__ import annotations

import math

import trio

from dmsg_trio._net.carriers import Carrier, StreamCarrier

from ._lines import Line
from ._pipe import MemoryStream, memory_connection


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Where connections to one ``address`` arrive; ``connections`` has our ends of all so far."""

    def __init__(self, net: MemoryNet, address: str) -> None:
        self._net = net
        self.address = address
        self.connections: list[MemoryStream] = []  # our ends of all that were made
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](math.inf)

    async def accept(self) -> trio.abc.Stream:
        """Wait for the next connection."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise trio.ClosedResourceError("this listener was closed") from None

    async def aclose(self) -> None:
        """Stop listening."""
        self._net.forget(self)
        self._send.close()
        await trio.lowlevel.checkpoint()

    def deliver(self, stream: MemoryStream) -> None:
        """Put a connection into the queue."""
        self.connections.append(stream)
        self._send.send_nowait(stream)

    def cut(self) -> None:
        """Break all connections that were made here."""
        for stream in self.connections:
            stream.cut()

    def stall(self) -> None:
        """Make black holes of all connections that were made here."""
        for stream in self.connections:
            stream.stall()


class MemoryNet:
    """The addresses that somebody listens on, and the way to them.

    Every connection has ``latency`` seconds each way.
    """

    def __init__(self, *, latency: float = 0) -> None:
        self._latency = latency
        self._listeners: dict[str, MemoryListener] = {}

    def listen(self, address: str) -> MemoryListener:
        """Listen on ``host:port``."""
        if address in self._listeners:
            raise OSError(f"{address} is in use")
        listener = self._listeners[address] = MemoryListener(self, address)
        return listener

    def listener(self, address: str) -> MemoryListener:
        """Who listens on ``host:port``; `ConnectionRefusedError` if nobody does."""
        try:
            return self._listeners[address]
        except KeyError:
            raise ConnectionRefusedError(f"nobody listens on {address}") from None

    def forget(self, listener: MemoryListener) -> None:
        """Let nobody connect to ``listener`` any more."""
        if self._listeners.get(listener.address) is listener:
            del self._listeners[listener.address]

    async def connect(
        self, address: str, *, rate: float = math.inf, line: Line | None = None
    ) -> Carrier:
        """Connect to ``host:port`` at ``rate`` bytes per second, over ``line`` if there is one.

        Raises `ConnectionRefusedError` if nobody listens there, or the line is cut.
        """
        line = line or Line(self._latency)
        await line.connect()
        listener = self.listener(address)
        near, far = memory_connection(latency=line.latency, rate=rate)
        line.add(near)
        listener.deliver(far)
        return StreamCarrier(near, peer=address)
