"""What a connection has still to send: written through at once, kept only when the kernel is full.

Whoever sends calls `Outbox.send` and goes on; one task per connection (`Outbox.send_kept` in a loop)
waits for the kernel when it would not take all. So no sender ever waits in the middle of a frame.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Final

import trio

from dmsg_trio._wire.yamux import Buffer

from .blocks import copied, give_back
from .carriers import Carrier

HIGH_WATER: Final = 1024 * 1024  # unsent bytes above which streams wait and grants are held back
HARD_LIMIT: Final = 32 * 1024 * 1024  # unsent bytes above which a relayed stream is reset
WRITE_STALL: Final = 30  # seconds without a byte going out, after which the peer is given up
PIECES: Final = 64  # kept pieces offered to the kernel in one call


class Outbox:
    """The bytes that wait for one carrier, in order."""

    __slots__ = ("_carrier", "_kept", "_wanted", "sent", "size")

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._kept: deque[memoryview] | None = None  # made when needed: most never are
        self._wanted = trio.lowlevel.ParkingLot()
        self.size = 0  # bytes kept
        self.sent = 0  # bytes that went out

    @property
    def is_full(self) -> bool:
        """Whether senders should wait for what is kept to go out."""
        return self.size > HIGH_WATER

    def send(self, chunks: list[Buffer]) -> None:
        """Send ``chunks``; what the kernel does not take at once is copied and kept.

        Raises `trio.BrokenResourceError` when the connection broke.
        """
        rest = sum(map(len, chunks))
        while rest and not self.size and (taken := self._carrier.send_now(chunks)):
            # Linux often takes whole segments only, and the rest when it is asked again, with room
            # for all of it. To keep that would be a copy, and a wait for what need not be waited for.
            self.sent += taken
            rest -= taken
            chunks = _after(chunks, taken)
        if rest:
            if self._kept is None:
                self._kept = deque()
            self._kept += copied(chunks, rest)
            self.size += rest
            self._wanted.unpark()

    async def send_kept(self) -> None:
        """Wait until something is kept, and then until some of it went out.

        Raises `trio.BrokenResourceError` when the connection broke or stalls.
        """
        while not self._kept:
            await self._wanted.park()
        with trio.move_on_after(WRITE_STALL) as limit:
            sent = await self._carrier.send_some(list(itertools.islice(self._kept, PIECES)))
        if limit.cancelled_caught:
            raise trio.BrokenResourceError(f"took no byte for {WRITE_STALL} s")
        self.size -= sent
        self.sent += sent
        while sent:
            first = self._kept.popleft()
            if len(first) > sent:
                self._kept.appendleft(first[sent:])
                break
            sent -= len(first)
            give_back(first)


def _after(chunks: list[Buffer], taken: int) -> list[Buffer]:
    """Leave out the first ``taken`` bytes of ``chunks``."""
    for index, chunk in enumerate(chunks):
        if taken < len(chunk):
            return [memoryview(chunk)[taken:], *chunks[index + 1 :]]
        taken -= len(chunk)
    return []
