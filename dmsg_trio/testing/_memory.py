"""Connections in memory, under addresses that look like those of hosts."""

from __future__ import annotations

import math

import trio
from trio.testing import memory_stream_pair

from dmsg_trio._net.carriers import Carrier, StreamCarrier

MemoryStream = trio.StapledStream[trio.abc.SendStream, trio.abc.ReceiveStream]


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Where connections to one address arrive."""

    def __init__(self, net: MemoryNet, address: str) -> None:
        self._net = net
        self.address = address
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

    def deliver(self, stream: trio.abc.Stream) -> None:
        """Put a connection into the queue."""
        self._send.send_nowait(stream)


class MemoryNet:
    """The addresses that somebody listens on, and the way to them."""

    def __init__(self) -> None:
        self._listeners: dict[str, MemoryListener] = {}

    def listen(self, address: str) -> MemoryListener:
        """Listen on ``host:port``."""
        if address in self._listeners:
            raise OSError(f"{address} is in use")
        listener = self._listeners[address] = MemoryListener(self, address)
        return listener

    def forget(self, listener: MemoryListener) -> None:
        """Let nobody connect to ``listener`` any more."""
        if self._listeners.get(listener.address) is listener:
            del self._listeners[listener.address]

    async def connect(self, address: str) -> Carrier:
        """Connect to ``host:port``; `ConnectionRefusedError` if nobody listens there."""
        await trio.lowlevel.checkpoint()
        if (listener := self._listeners.get(address)) is None:
            raise ConnectionRefusedError(f"nobody listens on {address}")
        near, far = memory_stream_pair()
        listener.deliver(far)
        return StreamCarrier(near, peer=address)
