"""The bodies that an answer can have, without I/O: what came goes in, what of it is the body comes out.

h11 reads chunks. Bodies of a known length, and those that go on to the end of the stream, do not
pass through it: each piece is given on as it came, the same object, in memory that is not ours.
"""

from __future__ import annotations

from typing import Final, Protocol, cast

import h11

SHORT: Final = 64 * 1024  # bytes

Piece = bytes | memoryview
Head = h11.Response | h11.InformationalResponse


class Body(Protocol):
    """Takes what comes behind a head."""

    is_complete: bool  # nothing more is to come
    has_surplus: bool  # the stream is good for nothing more, whatever is to come

    @property
    def may_be_long(self) -> bool:
        """Whether more is to come than a single read is likely to bring."""
        ...

    def take(self) -> Piece:
        """Give what is there of the body; empty is nothing, for now or for ever."""
        ...

    def receive(self, data: Piece) -> None:
        """Take what came, when nothing is there; empty is the end of the stream."""
        ...


def body_of(http: h11.Connection, method: bytes, head: Head) -> Body:
    """Say what follows a head that ``http`` has just read; what came of it already is in there."""
    rest, _ = http.trailing_data
    names = dict(head.headers)
    if method == b"HEAD" or head.status_code in (204, 304):
        return Sized(0, rest)
    if b"transfer-encoding" in names:
        # The length is not believed, and so is nothing behind the body: somebody on the way may
        # have believed it (RFC 9112, 6.3).
        return Chunked(http, has_surplus=b"content-length" in names)
    if b"content-length" in names:
        return Sized(int(names[b"content-length"]), rest)
    return Endless(rest)


class Sized:
    """So many bytes."""

    def __init__(self, length: int, data: bytes = b"") -> None:
        self._length = length
        self._missing = length
        self._piece: Piece = b""
        self.is_complete = not length
        self.has_surplus = False
        if data:
            self.receive(data)

    @property
    def may_be_long(self) -> bool:
        return self._missing > SHORT

    def take(self) -> Piece:
        piece, self._piece = self._piece, b""
        return piece

    def receive(self, data: Piece) -> None:
        if not data:
            raise h11.RemoteProtocolError(
                "closed without sending complete message body"
                f" (received {self._length - self._missing} bytes, expected {self._length})"
            )
        self.has_surplus = len(data) > self._missing
        self._piece = data[: self._missing] if self.has_surplus else data
        self._missing -= len(self._piece)
        self.is_complete = not self._missing


class Endless:
    """All that comes before the end of the stream."""

    has_surplus = True
    may_be_long = True

    def __init__(self, data: bytes) -> None:
        self._piece: Piece = data
        self.is_complete = False

    def take(self) -> Piece:
        piece, self._piece = self._piece, b""
        return piece

    def receive(self, data: Piece) -> None:
        self._piece = data
        self.is_complete = not data


class Chunked:
    """Chunks; trailers behind them are read and dropped."""

    may_be_long = True

    def __init__(self, http: h11.Connection, *, has_surplus: bool) -> None:
        self._http = http
        self.is_complete = False
        self.has_surplus = has_surplus

    def take(self) -> bytes:
        if self.is_complete:
            return b""
        event = self._http.next_event()
        if isinstance(event, h11.EndOfMessage):
            self.is_complete = True
            self.has_surplus |= bool(self._http.trailing_data[0])
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    def receive(self, data: Piece) -> None:
        self._http.receive_data(cast(bytes, data))  # it copies whatever has bytes
