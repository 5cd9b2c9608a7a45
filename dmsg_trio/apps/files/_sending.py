"""Files on their way out: in large pieces, and never other bytes than were promised.

A file that is changed while it is sent breaks the answer before its last piece: what has arrived is
known to be a part.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from dmsg_trio._asgi.files import PIECE, read_at
from dmsg_trio._net.nurseries import open_service_nursery

from ._answers import Exchange, FileChangedError
from ._conditions import Version
from ._ranges import Span
from ._tree import Opened

PART: Final = 4 * 1024 * 1024  # bytes of a file that the server is told to send at once

COMPRESSION: Final = 4  # of 9: most of what can be gained, in half the time
MAX_COMPRESSED: Final = 4  # answers that are compressed at once; more go out as they are
GZIP: Final = 31  # zlib's window bits, with gzip's header


class Reader:
    """A file that is read for an answer, from one place on."""

    def __init__(self, opened: Opened, limiter: trio.CapacityLimiter) -> None:
        self._number = opened.number
        self._version = Version.of(opened.status)
        self._limiter = limiter
        self._buffer = bytearray(min(PIECE, max(1, opened.status.st_size)))

    async def read(self, start: int, size: int) -> bytes:
        """Read so many bytes, or fewer; `FileChangedError` if there are none."""
        view = memoryview(self._buffer)[:size]
        count = await read_at(self._number, view, start, self._limiter)
        if not count:
            raise FileChangedError("it is shorter now")
        return bytes(view[:count])

    def check(self) -> None:
        """Raise `FileChangedError` if somebody wrote to the file."""
        if Version.of(os.fstat(self._number)) != self._version:
            raise FileChangedError("it was written to")


class Sender:
    """Sends files, and bounds what that takes of the machine."""

    def __init__(self, limiter: trio.CapacityLimiter) -> None:
        self._limiter = limiter
        self._compressing = 0

    @property
    def may_compress(self) -> bool:
        """Whether there is time to compress another answer."""
        return self._compressing < MAX_COMPRESSED

    @contextmanager
    def compressing(self) -> Iterator[None]:
        """Take the time for an answer that is compressed."""
        self._compressing += 1
        try:
            yield
        finally:
            self._compressing -= 1

    async def send_spans(
        self, exchange: Exchange, opened: Opened, parts: Sequence[tuple[bytes, Span]], end: bytes
    ) -> None:
        """Send parts of a file, each behind bytes of ours, and ``end`` behind the last."""
        reader = Reader(opened, self._limiter)
        last_of_all = parts[-1][1].stop
        for head, (start, stop) in parts:
            if head:
                await exchange.send(head)
            while exchange.sends_files and stop - start > PIECE:
                # All but what is read here below, to be sent after a look at the file.
                count = min(PART, stop - start - PIECE)
                await exchange.send_file(opened.number, start, count)
                start += count
            while start < stop:
                piece = await reader.read(start, min(PIECE, stop - start))
                start += len(piece)
                if is_last := start == last_of_all:
                    reader.check()
                await exchange.send(piece, more=not is_last or bool(end))
        if end:
            await exchange.send(end, more=False)

    async def send_compressed(self, exchange: Exchange, opened: Opened) -> None:
        """Send all of a file, compressed on the way."""
        reader, size = Reader(opened, self._limiter), opened.status.st_size
        compressor = zlib.compressobj(COMPRESSION, zlib.DEFLATED, GZIP)
        start = 0
        while start < size:
            piece = await reader.read(start, min(PIECE, size - start))
            start += len(piece)
            if smaller := await self._in_thread(compressor.compress, piece):
                await exchange.send(smaller)
        reader.check()
        await exchange.send(compressor.flush(), more=False)

    async def _in_thread(self, compress: Callable[[bytes], bytes], piece: bytes) -> bytes:
        return await trio.to_thread.run_sync(compress, piece, limiter=self._limiter)


async def unless_gone(exchange: Exchange, send: Callable[[], Awaitable[None]]) -> None:
    """Send an answer, until it is sent or the client has gone."""
    async with open_service_nursery() as nursery:

        async def wait_for_end() -> None:
            while (await exchange.receive())["type"] != "http.disconnect":
                pass
            sending.cancel()

        with trio.CancelScope() as sending:
            nursery.start_soon(wait_for_end)
            await send()
