"""A local socket on which a stream that broke does not look like one that ended.

Unix sockets have no reset. Who needs one asks for chunks and a mark behind the last of them.
"""

from __future__ import annotations

from contextlib import suppress
from operator import index
from typing import Final

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._net.resettable import ResettableStream
from dmsg_trio._wire.marked import END, HEAD, MAX_CHUNK, Buffer, MarkedReader, encode_chunk

READ: Final = HEAD + MAX_CHUNK  # bytes at once: a chunk as it was written
LOST: Final = (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)


class MarkedStream(ResettableStream):
    """Carries bytes in chunks over a socket, which is its own from now on."""

    def __init__(self, socket: trio.SocketStream) -> None:
        self._socket = socket
        self._reader = MarkedReader()
        self._unread = b""
        self._end_was_said = False

    # ---- out ----

    async def send_all(self, data: Buffer) -> None:
        if self._end_was_said:
            raise trio.ClosedResourceError("nothing can be sent behind the end")
        if not data:
            await self._socket.send_all(b"")
        for start in range(0, len(data), MAX_CHUNK):
            await self._socket.send_all(encode_chunk(data[start : start + MAX_CHUNK]))

    async def wait_send_all_might_not_block(self) -> None:
        await self._socket.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        if self._end_was_said:
            await trio.lowlevel.checkpoint()
            return
        await self._socket.send_all(END)
        self._end_was_said = True
        await self._socket.send_eof()

    # ---- in ----

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and index(max_bytes) < 1:
            raise ValueError(f"from 1 byte on can be received, not {max_bytes}")
        if self._socket.socket.fileno() == -1:
            raise trio.ClosedResourceError("this stream was closed")
        if self._unread or self._reader.has_ended:
            await trio.lowlevel.checkpoint()
        while not (self._unread or self._reader.has_ended):
            await self._receive_chunk()
        data = self._unread[:max_bytes]
        self._unread = self._unread[len(data) :]
        return data

    async def _receive_chunk(self) -> None:
        data = bytes(await self._socket.receive_some(READ))
        if not data:
            raise trio.BrokenResourceError("it broke off without an end")
        try:
            self._unread = self._reader.receive_data_untrusted(data)
        except RemoteProtocolError as error:
            raise trio.BrokenResourceError(str(error)) from error

    # ---- the end ----

    async def aclose(self) -> None:
        """Say that this is the end, if that was not said, and close the socket."""
        try:
            with suppress(*LOST):
                await self.send_eof()
        finally:
            await self._socket.aclose()

    def reset(self) -> None:
        """Close the socket without a mark."""
        self._socket.socket.close()
