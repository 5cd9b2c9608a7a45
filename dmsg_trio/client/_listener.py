"""Where streams arrive that others open to a port of ours."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from dmsg_trio._address import Address
from dmsg_trio._net.stream import DmsgStream

ACCEPT_QUEUE: Final = 256  # streams that wait for `accept`; more are refused with code 401


class DmsgListener(trio.abc.Listener[DmsgStream]):
    """A port of a client; ``async with client.listen(80) as listener``, then `accept`.

    Works with `trio.serve_listeners`. Closing it frees the port and resets what nobody accepted.
    ``address`` is the client's key with the port. 256 streams wait to be accepted at the most; then
    more are refused.
    """

    def __init__(self, address: Address, on_close: Callable[[DmsgListener], None]) -> None:
        self.address = address
        self._on_close = on_close
        self._waiting: deque[DmsgStream] = deque()
        self._reserved = 0
        self._closed = False
        self._arrival = trio.lowlevel.ParkingLot()

    @property
    def is_full(self) -> bool:
        """Whether new streams are refused for now."""
        return len(self._waiting) + self._reserved >= ACCEPT_QUEUE

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Keep a place for a stream that is being answered."""
        self._reserved += 1
        try:
            yield
        finally:
            self._reserved -= 1

    def deliver(self, stream: DmsgStream) -> None:
        """Put a stream into the queue."""
        if self._closed:
            stream.reset()
            return
        self._waiting.append(stream)
        self._arrival.unpark()

    async def accept(self) -> DmsgStream:
        """Wait for the next stream; `trio.ClosedResourceError` once this is closed."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            if self._closed:
                raise trio.ClosedResourceError("this listener was closed")
            if self._waiting:
                stream = self._waiting.popleft()
                await trio.lowlevel.cancel_shielded_checkpoint()
                return stream
            await self._arrival.park()

    async def aclose(self) -> None:
        """Free the port; streams that were accepted live on."""
        if not self._closed:
            self._closed = True
            self._on_close(self)
            self._arrival.unpark_all()
            for stream in self._waiting:
                stream.reset()
            self._waiting.clear()
        await trio.lowlevel.checkpoint()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._waiting)} waiting"
        return f"<DmsgListener {self.address}: {state}>"
