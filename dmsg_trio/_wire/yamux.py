"""The yamux state machine: frames in, events out, bytes to send. No I/O.

A header is ``version 0 | type | flags uint16 | stream id uint32 | length uint32``, all big-endian.
The side that dialed has odd stream ids, the other even ones.

    type            length means                flags
    0 DATA          bytes that follow           SYN  opens the stream
    1 WINDOW        bytes that it grants        ACK  acknowledges a SYN (of a stream or a ping)
    2 PING          an opaque value             FIN  ends this direction
    3 GO_AWAY       a reason                    RST  drops the stream, both directions

The payload of a data frame is handed out as it arrives, in pieces that are views of what was
passed to `receive_data`, so nothing is copied or held back here. Neighbouring frames of one stream
come out as one `DataReceived`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from dmsg_trio._errors import LocalProtocolError, RemoteProtocolError

Buffer = bytes | bytearray | memoryview

INITIAL_WINDOW: Final = 256 * 1024  # of each direction of each stream, by the specification
MAX_STREAMS: Final = 2048  # that may be open at once; a SYN above it is reset
MAX_WINDOW: Final = 2**32 - 1  # what grants may add up to; peers count in 32 bits
LAST_STREAM_ID: Final = 2**31 - 1  # a session is renewed before its ids run out
MAX_SKIPPED: Final = 512  # ids whose SYN may still come: the reference's openers race each other

HEADER: Final = struct.Struct(">BBHII")
HEADER_SIZE: Final = HEADER.size

DATA: Final = 0
WINDOW: Final = 1
PING: Final = 2
GO_AWAY: Final = 3

SYN: Final = 1
ACK: Final = 2
FIN: Final = 4
RST: Final = 8


class GoAwayCode(IntEnum):
    """Why a side wants no more streams."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


# ---- events ----


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer opened a stream."""

    stream_id: int


@dataclass(slots=True)
class DataReceived:
    """Bytes of a stream, in order, as views that live as long as the buffer that was passed in."""

    stream_id: int
    chunks: list[memoryview]
    size: int


@dataclass(frozen=True, slots=True)
class WindowGrown:
    """The peer granted more; see `StreamState.send_window`."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer will send no more on this stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The peer dropped the stream, both directions."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class PingReceived:
    """The peer wants this value back: answer with `YamuxConnection.pong`."""

    value: int


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The peer answered a ping of ours."""

    value: int


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The peer wants no more streams; those that are open go on."""

    code: int


@dataclass(frozen=True, slots=True)
class ProtocolViolated:
    """The peer broke a rule. It is the last event; a go-away that says so is ready to be sent."""

    error: RemoteProtocolError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProtocolViolated) and str(self.error) == str(other.error)

    def __hash__(self) -> int:
        return hash(str(self.error))


Event = (
    StreamOpened
    | DataReceived
    | WindowGrown
    | StreamEnded
    | StreamReset
    | PingReceived
    | PongReceived
    | GoneAway
    | ProtocolViolated
)


# ---- the machine ----


@dataclass(slots=True)
class StreamState:
    """One stream: what each side may still send, and which side has ended."""

    stream_id: int
    send_window: int = INITIAL_WINDOW  # what the peer granted and we have not used
    receive_window: int = INITIAL_WINDOW  # what we granted and has not arrived yet
    local_ended: bool = False
    remote_ended: bool = False
    flags_due: int = 0  # ACK, until the first frame that we send on a stream of the peer's


@dataclass(slots=True)
class YamuxConnection:
    """Both directions of one yamux connection.

    Pass what was read to `receive_data`, act on the events, and send what `data_to_send` gives.
    Calls that break the rules raise `LocalProtocolError`; what the peer does wrong comes out as
    `ProtocolViolated`, after which nothing more is taken in.
    """

    client: bool
    max_streams: int = MAX_STREAMS
    streams: dict[int, StreamState] = field(default_factory=dict)
    refused: int = 0  # streams of the peer's that were reset: too many, or we take no more
    _next_id: int = 0
    _highest_peer_id: int = 0
    _skipped_peer_ids: list[int] = field(default_factory=list)
    _refuses: bool = False  # we went away, and take no new streams any more
    _peer_gone_away: bool = False
    _violated: bool = False
    _header: bytearray = field(default_factory=bytearray)  # a header that is only half there
    _body_left: int = 0  # payload of the current data frame that is still to come
    _body_stream: StreamState | None = None  # whose it is; None for a stream that is gone
    _body_flags: int = 0
    _outgoing: list[Buffer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._next_id = 1 if self.client else 2
        self._highest_peer_id = 0 if self.client else -1  # two below the first one

    # ---- in: bytes from the peer ----

    def receive_data(self, data: Buffer) -> list[Event]:
        """Take in what was read from the peer; answer with what it means."""
        events: list[Event] = []
        if self._violated:
            return events
        try:
            self._walk_untrusted(memoryview(data), events)
        except RemoteProtocolError as error:
            self._violated = True
            self.go_away(GoAwayCode.PROTOCOL_ERROR)
            events.append(ProtocolViolated(error))
        return events

    def _walk_untrusted(self, view: memoryview, events: list[Event]) -> None:
        at, end = 0, len(view)
        unpack_header = HEADER.unpack_from
        while True:
            if self._body_left:
                piece = view[at : at + self._body_left]
                at += len(piece)
                self._body_left -= len(piece)
                if (stream := self._body_stream) is not None and piece:
                    stream.receive_window -= len(piece)
                    _append_data(events, stream.stream_id, piece)
                if self._body_left:
                    return
                if self._body_flags and stream is not None:
                    self._close_untrusted(stream, self._body_flags, events)
                self._body_stream = None
            if self._header:
                missing = HEADER_SIZE - len(self._header)
                self._header += view[at : at + missing]
                at += missing
                if len(self._header) < HEADER_SIZE:
                    return
                header = unpack_header(self._header)
                self._header.clear()
            elif end - at >= HEADER_SIZE:
                header = unpack_header(view, at)
                at += HEADER_SIZE
            else:
                self._header += view[at:]
                return
            self._take_header_untrusted(header, events)

    def _take_header_untrusted(
        self, header: tuple[int, int, int, int, int], events: list[Event]
    ) -> None:
        version, kind, flags, stream_id, length = header
        if version:
            raise RemoteProtocolError(f"yamux version {version}, not 0")
        if kind <= WINDOW:
            stream = self.streams.get(stream_id)
            if flags & SYN:
                stream = self._open_untrusted(stream_id, events)
            if kind == DATA:
                self._start_body_untrusted(stream, flags & (FIN | RST), length, events)
            elif stream is not None:
                if length:
                    if stream.send_window + length > MAX_WINDOW:
                        raise RemoteProtocolError(
                            f"stream {stream_id}: a grant of {length} on top of {stream.send_window}"
                        )
                    stream.send_window += length
                    events.append(WindowGrown(stream_id))
                if flags & (FIN | RST):
                    self._close_untrusted(stream, flags, events)
        elif kind == PING:
            events.append(PongReceived(length) if flags & ACK else PingReceived(length))
        elif kind == GO_AWAY:
            self._peer_gone_away = True
            events.append(GoneAway(length))
        else:
            raise RemoteProtocolError(f"yamux frame type {kind}")

    def _start_body_untrusted(
        self, stream: StreamState | None, closing: int, length: int, events: list[Event]
    ) -> None:
        if stream is not None:
            if length > stream.receive_window:
                raise RemoteProtocolError(
                    f"stream {stream.stream_id}: {length} bytes into a window of "
                    f"{stream.receive_window}"
                )
            if length and stream.remote_ended:
                # The reference's writers race its closers. Nobody waits for what comes after an end.
                self._close_untrusted(stream, closing, events)
                stream = None
        if length:
            self._body_left, self._body_stream, self._body_flags = length, stream, closing
        elif closing and stream is not None:
            self._close_untrusted(stream, closing, events)

    def _open_untrusted(self, stream_id: int, events: list[Event]) -> StreamState | None:
        if stream_id == 0 or (stream_id % 2 == 1) == self.client:
            raise RemoteProtocolError(
                f"SYN for stream {stream_id}, which is not the peer's to open"
            )
        if stream_id > self._highest_peer_id:
            first = max(self._highest_peer_id + 2, stream_id - 2 * MAX_SKIPPED)
            self._skipped_peer_ids += range(first, stream_id, 2)
            del self._skipped_peer_ids[:-MAX_SKIPPED]
            self._highest_peer_id = stream_id
        elif stream_id in self._skipped_peer_ids:
            self._skipped_peer_ids.remove(stream_id)
        else:
            raise RemoteProtocolError(f"second SYN for stream {stream_id}")
        if self._refuses or len(self.streams) >= self.max_streams:
            self.refused += 1
            self._send_header(WINDOW, RST, stream_id, 0)
            return None
        stream = self.streams[stream_id] = StreamState(stream_id, flags_due=ACK)
        events.append(StreamOpened(stream_id))
        return stream

    def _close_untrusted(self, stream: StreamState, flags: int, events: list[Event]) -> None:
        if flags & RST:
            self._drop(stream)
            events.append(StreamReset(stream.stream_id))
        elif not stream.remote_ended:
            stream.remote_ended = True
            if stream.local_ended:
                del self.streams[stream.stream_id]
            events.append(StreamEnded(stream.stream_id))

    def _drop(self, stream: StreamState) -> None:
        del self.streams[stream.stream_id]
        stream.send_window = 0

    # ---- out: what we want of the peer ----

    @property
    def can_open(self) -> bool:
        """Whether a new stream may be opened here: the peer takes some, and ids are left.

        A go-away of ours does not matter: it tells the peer to open none.
        """
        gone = self._peer_gone_away or self._violated
        return not gone and self._next_id <= LAST_STREAM_ID

    def open_stream(self) -> StreamState:
        """Open a stream; the SYN goes out with the next `data_to_send`."""
        if not self.can_open:
            raise LocalProtocolError(
                "no new streams here: the peer went away, or the ids are used up"
            )
        stream = self.streams[self._next_id] = StreamState(self._next_id)
        self._next_id += 2
        self._send_header(WINDOW, SYN, stream.stream_id, 0)
        return stream

    def send_data(self, stream: StreamState, chunks: Sequence[Buffer], size: int) -> None:
        """Send ``size`` bytes, which lie in ``chunks``, as one frame; the window must allow them.

        It has no effect on a stream that was reset, since the event that says so may be on its way.
        """
        if stream.local_ended:
            raise LocalProtocolError(f"stream {stream.stream_id}: data after its end")
        if size > stream.send_window:
            if stream.stream_id not in self.streams:
                return
            raise LocalProtocolError(
                f"stream {stream.stream_id}: {size} bytes into a window of {stream.send_window}"
            )
        stream.send_window -= size
        self._send_header(DATA, stream.flags_due, stream.stream_id, size)
        stream.flags_due = 0
        self._outgoing += chunks

    def grant(self, stream: StreamState, size: int) -> None:
        """Let the peer send ``size`` more bytes; it has no effect after the peer's end or a reset."""
        if stream.remote_ended or stream.stream_id not in self.streams:
            return
        if stream.receive_window + size > MAX_WINDOW:
            raise LocalProtocolError(
                f"stream {stream.stream_id}: a grant of {size} on top of {stream.receive_window}"
            )
        stream.receive_window += size
        self._send_header(WINDOW, stream.flags_due, stream.stream_id, size)
        stream.flags_due = 0

    def end(self, stream: StreamState) -> None:
        """End our direction; it has no effect after our end or a reset."""
        if stream.local_ended or stream.stream_id not in self.streams:
            return
        stream.local_ended = True
        self._send_header(WINDOW, FIN | stream.flags_due, stream.stream_id, 0)
        stream.flags_due = 0
        if stream.remote_ended:
            del self.streams[stream.stream_id]

    def reset(self, stream: StreamState) -> None:
        """Drop the stream, both directions; it has no effect on one that is gone."""
        if self._body_stream is stream:
            self._body_stream = None  # what is left of the frame belongs to nobody
        if stream.stream_id in self.streams:
            self._drop(stream)
            self._send_header(WINDOW, RST, stream.stream_id, 0)

    def ping(self, value: int) -> None:
        """Ask for ``value`` (uint32) back."""
        self._send_header(PING, SYN, 0, value)

    def pong(self, value: int) -> None:
        """Give back the value of a ping."""
        self._send_header(PING, ACK, 0, value)

    def go_away(self, code: GoAwayCode = GoAwayCode.NORMAL, *, refuse: bool = True) -> None:
        """Tell the peer to open no more streams; open ones go on, and we may still open some.

        What it opens all the same is reset; or taken without ``refuse``, since it may have been on
        its way already.
        """
        self._refuses = self._refuses or refuse
        self._send_header(GO_AWAY, 0, 0, code)

    def data_to_send(self) -> list[Buffer]:
        """Take what is to be sent; the caller sends all of it, in order."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def _send_header(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        self._outgoing.append(HEADER.pack(0, kind, flags, stream_id, length))


def _append_data(events: list[Event], stream_id: int, piece: memoryview) -> None:
    if events:
        last = events[-1]
        if type(last) is DataReceived and last.stream_id == stream_id:
            last.chunks.append(piece)
            last.size += len(piece)
            return
    events.append(DataReceived(stream_id, [piece], len(piece)))
