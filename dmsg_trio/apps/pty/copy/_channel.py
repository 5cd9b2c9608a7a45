"""Frames over a Trio stream, and the calls that block in threads beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Final

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire.file_copy import CopyReader, Event, Refused, Violated, encode

from ._errors import CopyBrokenError, CopyRefusedError

RECEIVE_SIZE: Final = 256 * 1024
FAREWELL: Final = 2  # seconds in which the last words must be gone


class CopyChannel:
    """Says and hears frames; leaving its block well ends the stream, otherwise resets it."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self._reader = CopyReader()
        self._heard: deque[Event] = deque()

    async def say(self, event: Event) -> None:
        """Send one frame."""
        await self.send(encode(event))

    async def send(self, frames: bytes | memoryview) -> None:
        """Send frames that were written already."""
        try:
            await self._stream.send_all(frames)
        except trio.BrokenResourceError as error:
            raise CopyBrokenError(f"the connection was lost: {error}") from error

    async def receive(self) -> bytes:
        """Receive bytes as they come; `CopyBrokenError` at the end of the stream."""
        try:
            data = await self._stream.receive_some(RECEIVE_SIZE)
        except trio.BrokenResourceError as error:
            raise CopyBrokenError(f"the connection was lost: {error}") from error
        if not data:
            raise CopyBrokenError("the other side ended before it was done")
        return bytes(data)

    def understand_untrusted(self, data: Iterable[bytes]) -> list[Event]:
        """Find the frames in bytes; `RemoteProtocolError` for what is none, or a refusal."""
        events: list[Event] = []
        for piece in data:
            for event in self._reader.receive_data(piece):
                if isinstance(event, Violated):
                    raise RemoteProtocolError(event.reason)
                if isinstance(event, Refused):
                    raise CopyRefusedError(event.reason)
                events.append(event)
        return events

    async def hear(self) -> Event:
        """Wait for one frame."""
        while not self._heard:
            self._heard += self.understand_untrusted([await self.receive()])
        return self._heard.popleft()

    def take_heard(self) -> list[Event]:
        """Take what came in behind the frame that was heard last."""
        events = list(self._heard)
        self._heard.clear()
        return events

    async def end(self) -> None:
        """Say that nothing follows, and wait a little for the other side to have it all."""
        with trio.move_on_after(FAREWELL):
            try:
                await self._stream.send_eof()
                while await self._stream.receive_some(RECEIVE_SIZE):
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def __aenter__(self) -> CopyChannel:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            await self._stream.aclose()
        else:
            await trio.aclose_forcefully(self._stream)
