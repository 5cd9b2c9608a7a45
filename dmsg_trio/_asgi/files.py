"""Files on their way out, for the extension of ASGI by which an app sends a part of one without reading it.

What the system has in memory is read at once; for the rest a thread waits. Each piece goes to the
same memory as the one before.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

import trio

from dmsg_trio._net.stream import SEND_BATCH

EXTENSION: Final = "http.response.zerocopysend"  # its name in a scope, and the type of its messages
SENT: Final = "dmsg.sent"  # in such a message: a `Sent`, for who wants to know how far it got
PIECE: Final = SEND_BATCH  # bytes read and sent at once


class FilePartError(Exception):
    """A part of a file cannot be read to its end; the answer is cut off where it failed."""


@dataclass(slots=True)
class Sent:
    """How many bytes went to a stream, right also where something broke off or was cancelled."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class FilePart:
    """Bytes of an open file; to h11 it is data of this length."""

    number: int  # of the descriptor
    start: int
    stop: int
    sent: Sent = field(default_factory=Sent)

    def __len__(self) -> int:
        return self.stop - self.start

    @classmethod
    def of(cls, message: Mapping[str, object]) -> FilePart:
        """Understand a message of an app: ``file``, and perhaps ``offset`` and ``count``.

        Without them it is all from where the file is up to its end, as with `os.sendfile`.
        """
        number = cast("_HasNumber", message["file"]).fileno()
        start = cast("int | None", message.get("offset"))
        if start is None:
            start = os.lseek(number, 0, os.SEEK_CUR)
        count = cast("int | None", message.get("count"))
        if count is None:
            count = max(0, os.fstat(number).st_size - start)
        sent = cast("Sent | None", message.get(SENT))
        return cls(number, start, start + count, sent or Sent())

    async def pieces(self, limiter: trio.CapacityLimiter) -> AsyncGenerator[memoryview]:
        """Read piece by piece, each good until the next; `FilePartError` if not all can be read."""
        memory = memoryview(bytearray(min(PIECE, len(self))))
        at = self.start
        while at < self.stop:
            try:
                size = await read_at(self.number, memory[: self.stop - at], at, limiter)
            except OSError as error:
                raise FilePartError(f"reading it at {at}: {error.strerror}") from error
            if not size:
                raise FilePartError(f"it ends at {at}, and was to be sent up to {self.stop}")
            yield memory[:size]
            self.sent.count += size
            at += size


class _HasNumber(Protocol):
    def fileno(self) -> int: ...


async def read_at(
    number: int, memory: memoryview, start: int, limiter: trio.CapacityLimiter
) -> int:
    """Read to ``memory`` what is at ``start``; say how many bytes, 0 at the end."""
    try:
        return _read_what_is_in_memory(number, memory, start)
    except BlockingIOError:
        return await trio.to_thread.run_sync(os.preadv, number, [memory], start, limiter=limiter)


def _read_what_is_in_memory(number: int, memory: memoryview, start: int) -> int:
    if not hasattr(os, "RWF_NOWAIT"):  # a system other than Linux
        raise BlockingIOError
    try:
        return os.preadv(number, [memory], start, os.RWF_NOWAIT)
    except OSError as error:
        # Some file systems cannot tell.
        raise BlockingIOError from error
