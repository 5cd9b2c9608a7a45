"""Streams for libraries that are written for anyio."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import anyio
import anyio.abc
import trio

from dmsg_trio._net.resettable import ResettableStream


class AnyioByteStream(anyio.abc.ByteStream):
    """A Trio stream that can be half closed, as an `anyio.abc.ByteStream`."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Wait for 1 to ``max_bytes`` bytes; `anyio.EndOfStream` is the peer's end.

        All methods raise `anyio.BrokenResourceError` for a stream that broke,
        `anyio.ClosedResourceError` for one that was closed here, and `anyio.BusyResourceError` if
        another task does the same thing.
        """
        with _errors_of_anyio():
            data = await self._stream.receive_some(max_bytes)
        if not data:
            raise anyio.EndOfStream
        return bytes(data)

    async def send(self, item: bytes) -> None:
        """Send all of ``item``, waiting for room where there is none."""
        with _errors_of_anyio():
            await self._stream.send_all(item)

    async def send_eof(self) -> None:
        """End our direction; the peer's goes on."""
        with _errors_of_anyio():
            await self._stream.send_eof()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the stream after a block that went well; reset it after one that did not."""
        if exc_type is not None and isinstance(self._stream, ResettableStream):
            self._stream.reset()
        await self.aclose()

    async def aclose(self) -> None:
        """End the stream; under a cancellation reset it, as anyio has it for what is left halfway."""
        if isinstance(self._stream, ResettableStream) and _is_cancelled():
            self._stream.reset()
        await self._stream.aclose()


def _is_cancelled() -> bool:
    return trio.current_effective_deadline() <= trio.current_time()


@contextmanager
def _errors_of_anyio() -> Iterator[None]:
    try:
        yield
    except trio.ClosedResourceError as error:
        raise anyio.ClosedResourceError from error
    except trio.BrokenResourceError as error:
        raise anyio.BrokenResourceError from error
    except trio.BusyResourceError as error:
        raise anyio.BusyResourceError("using") from error
