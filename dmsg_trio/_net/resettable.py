"""Streams that a block ends when it goes well, and resets when it does not."""

from __future__ import annotations

import abc
from types import TracebackType
from typing import Self

import trio


class ResettableStream(trio.abc.HalfCloseableStream):
    """A stream that can also be dropped, so that the peer learns that something went wrong."""

    @abc.abstractmethod
    def reset(self) -> None:
        """Drop the stream at once, without waiting: the peer's reads and writes break."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the stream after a block that went well; reset it after one that did not."""
        if exc_type is None:
            await self.aclose()
        else:
            self.reset()
            await trio.lowlevel.cancel_shielded_checkpoint()
