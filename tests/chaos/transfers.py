"""Bytes that both ends know before they come: none is wrong, missing or one too many unnoticed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from struct import Struct
from typing import Final, TypeVar

import trio

from dmsg_trio import DmsgStream

STALL_LIMIT: Final = 45.0  # seconds in which a stream must move or break; 20 should do
BLOCK: Final = 1 << 16
HEAD: Final = Struct("!QIIIIQ")  # a transfer as its first bytes say it, and half of their sum

T = TypeVar("T")


class WrongBytesError(Exception):
    """Something came that was not sent, or did not come although the stream ended well."""


class StalledError(Exception):
    """A stream neither moved nor broke."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What is sent and what is sent back, in blocks with pauses in between."""

    seed: int
    size: int
    back: int
    block: int = BLOCK
    pause: int = 0  # milliseconds

    def head(self) -> bytes:
        """The first bytes, which announce the others."""
        fields = (self.seed, self.size, self.back, self.block, self.pause)
        return HEAD.pack(*fields, sum(fields))

    @classmethod
    def from_head(cls, head: bytes) -> Transfer:
        """Read the first bytes."""
        *fields, total = HEAD.unpack(head)
        if sum(fields) != total:
            raise WrongBytesError(f"a head that nobody sent: {head.hex()}")
        return cls(*fields)


class Pattern:
    """Bytes that follow from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._ready = b""

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        while len(self._ready) < count:
            self._ready += self._random.randbytes(BLOCK)
        taken, self._ready = self._ready[:count], self._ready[count:]
        return taken


class End:
    """One end of a transfer, and how many bytes it has looked at."""

    def __init__(self, stream: DmsgStream) -> None:
        self.received = 0
        self._stream = stream

    async def ask(self, transfer: Transfer) -> None:
        """Send, and check what comes back; leave the stream closed."""
        async with self._stream as stream:
            await stream.send_all(transfer.head())
            await self._send(transfer.seed, transfer.size, transfer)
            await stream.send_eof()
            await self._check(transfer.seed + 1, transfer.back)

    async def answer(self) -> None:
        """Check what comes, and send what is asked for; leave the stream closed."""
        async with self._stream:
            transfer = Transfer.from_head(await self._receive_head())
            await self._check(transfer.seed, transfer.size)
            await self._send(transfer.seed + 1, transfer.back, transfer)

    # ---- out ----

    async def _send(self, seed: int, size: int, transfer: Transfer) -> None:
        pattern = Pattern(seed)
        while size:
            data = pattern.take(min(size, transfer.block))
            await _promptly(partial(self._stream.send_all, data))
            size -= len(data)
            await trio.sleep(transfer.pause / 1000)

    # ---- in ----

    async def _receive_head(self) -> bytes:
        head = b""
        while len(head) < HEAD.size:
            data = await _promptly(partial(self._stream.receive_some, HEAD.size - len(head)))
            if not data:
                raise WrongBytesError(f"the stream ended well after {len(head)} bytes of its head")
            head += data
        return head

    async def _check(self, seed: int, size: int) -> None:
        pattern, count = Pattern(seed), 0
        while data := await _promptly(self._stream.receive_some):
            if data != pattern.take(len(data)):
                raise WrongBytesError(f"wrong ones in {count} to {count + len(data)} of {size}")
            count += len(data)
            self.received += len(data)
        if count != size:
            raise WrongBytesError(f"the stream ended well after {count} of {size} bytes")


async def _promptly(act: Callable[[], Awaitable[T]]) -> T:
    with trio.move_on_after(STALL_LIMIT):
        return await act()
    raise StalledError(f"neither moved nor broke for {STALL_LIMIT:g} s")
