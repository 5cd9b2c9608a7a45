"""What carries a session: a byte stream that can be read in large pieces and written without waiting.

There is one read buffer per event loop, not one per connection, so an idle session costs no
buffer. What `receive` returns is a view of it and must be used up before the next `await`.
"""

from __future__ import annotations

import abc
import itertools
import socket
from collections.abc import Sequence
from typing import Final

import trio

from dmsg_trio._wire.yamux import Buffer

READ_SIZE: Final = 256 * 1024  # what one read may bring
MAX_BUFFERS: Final = 512  # of one sendmsg; the kernel's limit is 1024
READS_IN_A_ROW: Final = 4  # before a busy connection gives way to the others

_read_buffer: Final = trio.lowlevel.RunVar[bytearray]("dmsg_trio read buffer")


class Carrier(abc.ABC):
    """One connection, as sessions use it. Only one task reads, and only one waits to send."""

    @abc.abstractmethod
    async def receive(self) -> memoryview:
        """Wait for bytes, take all there are (to a limit); an empty view is the end.

        Raises `trio.BrokenResourceError` when the connection broke.
        """

    @abc.abstractmethod
    def send_now(self, chunks: Sequence[Buffer]) -> int:
        """Send what goes out without waiting, and say how many bytes that was.

        Raises `trio.BrokenResourceError` when the connection broke.
        """

    @abc.abstractmethod
    async def send_some(self, chunks: Sequence[Buffer]) -> int:
        """Wait until something goes out, and say how many bytes that was."""

    @abc.abstractmethod
    async def send_eof(self) -> None:
        """Tell the peer that no more comes; what it sends still arrives.

        Raises `trio.BrokenResourceError` when the connection broke.
        """

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Close at once, without waiting for anything; for the task that owns the carrier."""

    @property
    @abc.abstractmethod
    def peer(self) -> str:
        """Who is at the other end, for logs: ``host:port``."""

    async def send_all(self, data: bytes) -> None:
        """Send all of ``data``; for handshakes, before the session's own writer takes over."""
        rest = memoryview(data)[self.send_now([data]) :]
        while rest:
            rest = rest[await self.send_some([rest]) :]


class SocketCarrier(Carrier):
    """A connected TCP (or Unix) socket, used without any layer in between."""

    def __init__(self, sock: socket.socket, *, peer: str = "") -> None:
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        self._socket = sock
        self._peer = peer or _name_of(sock)
        self._buffer: bytearray | None = None  # the one of the event loop, once it is known
        self._reads_in_a_row = 0
        self._more_expected = False
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def from_trio(cls, stream: trio.SocketStream) -> SocketCarrier:
        """Take over the socket of a Trio stream, which must not be used any more."""
        return cls(socket.socket(fileno=stream.socket.detach()))

    async def receive(self) -> memoryview:
        if not self._more_expected:
            self._reads_in_a_row = 0
            await trio.lowlevel.wait_readable(self._socket)
        elif self._reads_in_a_row >= READS_IN_A_ROW:
            self._reads_in_a_row = 0
            await trio.lowlevel.checkpoint()
        if (buffer := self._buffer) is None:
            buffer = self._buffer = _buffer_of_loop()
        while True:
            try:
                size = self._socket.recv_into(buffer)
            except BlockingIOError:
                self._reads_in_a_row = 0
                await trio.lowlevel.wait_readable(self._socket)
            except OSError as error:
                raise _broken(error) from error
            else:
                self._reads_in_a_row += 1
                # A full socket is worth a second look before the poll.
                self._more_expected = size >= READ_SIZE // 4
                return memoryview(buffer)[:size]

    def send_now(self, chunks: Sequence[Buffer]) -> int:
        try:
            if len(chunks) <= MAX_BUFFERS:
                return self._socket.sendmsg(chunks)
            return self._socket.sendmsg(chunks[:MAX_BUFFERS])
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _broken(error) from error

    async def send_some(self, chunks: Sequence[Buffer]) -> int:
        while True:
            await trio.lowlevel.wait_writable(self._socket)
            if sent := self.send_now(chunks):
                return sent

    async def send_eof(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise _broken(error) from error

    async def aclose(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    @property
    def peer(self) -> str:
        return self._peer


class StreamCarrier(Carrier):
    """Any Trio stream: memory streams in tests, WebSockets. Writing always goes through the queue."""

    def __init__(self, stream: trio.abc.Stream, *, peer: str) -> None:
        self._stream = stream
        self._peer = peer

    async def receive(self) -> memoryview:
        return memoryview(await self._stream.receive_some(READ_SIZE))

    def send_now(self, chunks: Sequence[Buffer]) -> int:
        return 0

    async def send_some(self, chunks: Sequence[Buffer]) -> int:
        data = b"".join(itertools.islice(chunks, MAX_BUFFERS))
        await self._stream.send_all(data)
        return len(data)

    async def send_eof(self) -> None:
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    @property
    def peer(self) -> str:
        return self._peer


def carrier_of(stream: trio.abc.Stream, *, peer: str = "memory:0") -> Carrier:
    """The best carrier for ``stream``, which must not be used any more."""
    if isinstance(stream, trio.SocketStream):
        return SocketCarrier.from_trio(stream)
    return StreamCarrier(stream, peer=peer)


def _buffer_of_loop() -> bytearray:
    try:
        return _read_buffer.get()
    except LookupError:
        buffer = bytearray(READ_SIZE)
        _read_buffer.set(buffer)
        return buffer


def _name_of(sock: socket.socket) -> str:
    try:
        host, port = sock.getpeername()[:2]
    except (OSError, ValueError):
        return "a socket without a name"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _broken(error: OSError) -> trio.BrokenResourceError:
    return trio.BrokenResourceError(error.strerror or str(error))
