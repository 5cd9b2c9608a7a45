"""A yamux connection on a carrier: the tasks that own it, and the table of its streams.

One task reads, one writes what the kernel would not take at once, one watches that the peer lives.
The reader never waits for a stream. It takes a batch of bytes, tells each stream (a `StreamSink`) what
is its own, and writes through what that led to, here and on the connections that streams of this one
are joined with (`splice`), before it waits for the next batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import trio

from dmsg_trio._errors import LocalProtocolError
from dmsg_trio._wire import yamux
from dmsg_trio._wire.yamux import Buffer, GoAwayCode, StreamState, YamuxConnection

from .carriers import Carrier
from .mux_stream import MuxStream
from .outbox import HARD_LIMIT, Outbox
from .windows import WindowBudget

ACCEPT_BACKLOG: Final = 256  # streams that the peer may open before anybody accepts one
KEEP_ALIVE: Final = 15  # seconds of silence after which the peer is asked for a sign of life
DEAD_AFTER: Final = 5  # seconds more, after which it is taken for dead
LINGER: Final = 60  # seconds that a stream which we closed waits for the peer's end
MAX_UNREAD: Final = 128 * 1024 * 1024  # bytes of all streams that nobody has read yet
FAREWELL: Final = 2  # seconds in which a connection that we close takes leave of the peer


class StreamSink(Protocol):
    """What a connection tells each of its streams; nothing here waits."""

    def on_data(self, chunks: Sequence[Buffer], size: int) -> None:
        """Take bytes; they are views that live until this returns."""

    def on_window(self) -> None:
        """Learn that the peer granted more."""

    def on_room(self) -> None:
        """Learn that the connection has room again, after `MuxConnection.call_when_room`."""

    def on_end(self) -> None:
        """Learn that the peer will send no more."""

    def on_reset(self, reason: str) -> None:
        """Learn that the stream is gone, and why."""


class MuxConnection:
    """One carrier with many streams. It lives as long as `run`."""

    # A server has thousands of these.
    __slots__ = (
        "_arrival",
        "_closed_here",
        "_first_data",
        "_gone",
        "_heard_at",
        "_incoming",
        "_is_broken",
        "_is_in_batch",
        "_lingering",
        "_ping_sent",
        "_pong_owed",
        "_scope",
        "_sinks",
        "_touched",
        "_want_room",
        "_writing",
        "carrier",
        "close_reason",
        "closed",
        "credit_lent",
        "max_unread",
        "outbox",
        "received",
        "room",
        "round_trip",
        "unread",
        "was_sent_away",
        "window_budget",
        "yamux",
    )

    def __init__(
        self,
        carrier: Carrier,
        *,
        client: bool,
        first_data: bytes = b"",
        max_unread: int = MAX_UNREAD,
    ) -> None:
        self.carrier = carrier
        self.yamux = YamuxConnection(client=client)
        self.outbox = Outbox(carrier)
        self.room = trio.lowlevel.ParkingLot()  # where streams wait while the outbox is full
        self.window_budget = WindowBudget()
        self.max_unread = max_unread  # bytes; a stream that brings more is reset
        self.unread = 0
        self.credit_lent = (
            0  # what streams joined with ones of ours may send beyond their first window
        )
        self.closed = trio.Event()
        self.close_reason = ""
        self.received = 0  # bytes
        self.round_trip: float | None = None  # seconds, the latest
        self._first_data = first_data
        self._sinks: dict[int, StreamSink] = {}
        self._gone: list[int] = []  # ended on both sides, but the batch may still tell of them
        self._is_in_batch = False
        self._incoming: list[MuxStream] = []
        self._arrival = trio.lowlevel.ParkingLot()
        self._touched: set[MuxConnection] = set()  # joined connections that this batch wrote to
        self._want_room: dict[StreamSink, None] = {}
        self._scope = trio.CancelScope()
        self._writing = trio.CancelScope(shield=True)  # nobody cuts a piece short that is going out
        self._closed_here = False
        self._is_broken = False  # nothing can be sent any more
        self.was_sent_away = False  # the peer wants no more streams of ours
        self._heard_at = 0.0
        self._ping_sent: tuple[int, float] | None = None
        self._pong_owed: int | None = None
        self._lingering: dict[int, float] = {}  # stream id: when its time is up

    # ---- life ----

    async def run(self) -> None:
        """Own the connection until it ends; `close_reason` then says why it did."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._keep_alive)
                try:
                    with self._scope:
                        await self._read()
                finally:
                    self._finish()
                    nursery.cancel_scope.cancel()
                    if self._closed_here:
                        await self._take_leave()
                    self._writing.cancel()
        finally:
            await self.carrier.aclose()

    async def _take_leave(self) -> None:
        """Send what is left, and let the peer close first.

        A kernel forgets what it has still to send when a socket is closed with bytes unread.
        """
        with trio.move_on_after(FAREWELL, shield=True):
            try:
                while self.outbox.size and not self._is_broken:
                    await self.room.park()
                await self.carrier.send_eof()
                while await self.carrier.receive():
                    pass
            except trio.BrokenResourceError:
                pass  # the peer left first

    def close(self, reason: str, code: GoAwayCode = GoAwayCode.NORMAL) -> None:
        """Say good-bye and end `run`; streams that are still open break with ``reason``."""
        if not self.close_reason:
            self._closed_here = True
            self.yamux.go_away(code)
            self.flush()
            self._end(reason)

    def go_away(self, *, refuse: bool = True) -> None:
        """Tell the peer to open no more streams here; those that are open go on.

        Without ``refuse`` streams are taken that were on their way already.
        """
        self.yamux.go_away(refuse=refuse)
        self.flush()

    @property
    def is_open(self) -> bool:
        """Whether streams can still be opened here."""
        return not self.close_reason and self.yamux.can_open

    @property
    def stream_count(self) -> int:
        """How many streams are open."""
        return len(self._sinks)

    def _end(self, reason: str) -> None:
        self.close_reason = self.close_reason or reason
        self._scope.cancel()

    def _finish(self) -> None:
        """Break what is left; after this nobody hears of the connection any more."""
        if not self.close_reason:  # cancelled by the owner
            self.close("closed on this side")
        for sink in list(self._sinks.values()):
            sink.on_reset(self.close_reason)
        self._sinks.clear()
        self._lingering.clear()
        self._incoming.clear()
        self._want_room.clear()
        self.closed.set()
        self._arrival.unpark_all()
        self.room.unpark_all()

    # ---- in ----

    async def _read(self) -> None:
        self._heard_at = trio.current_time()
        try:
            if self._first_data:
                self._take_untrusted(memoryview(self._first_data))
                self._first_data = b""
            while data := await self.carrier.receive():
                self._take_untrusted(data)
            self._end("the peer closed the connection")
        except trio.BrokenResourceError as error:
            self._end(f"the connection broke: {error}")

    def _take_untrusted(self, data: memoryview) -> None:
        """Handle a batch from beginning to end, without waiting."""
        self._heard_at = trio.current_time()
        if not self.received:
            self._arrival.unpark_all()
        self.received += len(data)
        self._is_in_batch = True
        for event in self.yamux.receive_data(data):
            if isinstance(event, yamux.DataReceived):  # most are, and this is the hot path
                if sink := self._sinks.get(event.stream_id):
                    sink.on_data(event.chunks, event.size)
            else:
                self._dispatch(event)
        self._is_in_batch = False
        if self._gone:
            self._forget_gone()
        self.flush()
        if self._touched:
            for connection in self._touched:
                connection.flush()
            self._touched.clear()

    def _dispatch(self, event: yamux.Event) -> None:
        match event:
            case yamux.WindowGrown(stream_id):
                if sink := self._sinks.get(stream_id):
                    sink.on_window()
            case yamux.StreamOpened(stream_id):
                if state := self.yamux.streams.get(stream_id):  # not reset in the same batch
                    self._accept(state)
            case yamux.StreamEnded(stream_id):
                if sink := self._sinks.get(stream_id):
                    sink.on_end()
                    self._forget_if_gone(stream_id)
            case yamux.StreamReset(stream_id):
                if sink := self._sinks.pop(stream_id, None):
                    self._lingering.pop(stream_id, None)
                    sink.on_reset("the peer reset the stream")
            case yamux.PingReceived(value):
                self._answer_ping(value)
            case yamux.PongReceived(value):
                if self._ping_sent and self._ping_sent[0] == value:
                    self.round_trip = trio.current_time() - self._ping_sent[1]
                    self._ping_sent = None
            case yamux.GoneAway(code):
                self.was_sent_away = True
                self._arrival.unpark_all()
                if code != GoAwayCode.NORMAL:
                    self._end(f"the peer went away with code {code}")
            case yamux.ProtocolViolated(error):
                self._closed_here = True
                self.flush()  # the go-away that says so
                self._end(f"the peer broke the protocol: {error}")

    def _accept(self, state: StreamState) -> None:
        if len(self._incoming) >= ACCEPT_BACKLOG:
            self.yamux.refused += 1
            self.yamux.reset(state)
            return
        stream = MuxStream(self, state)
        self._sinks[state.stream_id] = stream
        self._incoming.append(stream)
        self._arrival.unpark_all()

    async def wait_heard(self) -> None:
        """Wait for the first bytes of the peer, or the end of the connection."""
        while not (self.received or self.closed.is_set()):
            await self._arrival.park()

    async def wait_sent_away(self) -> None:
        """Wait until the peer wants no more streams, or the connection has ended."""
        while not (self.was_sent_away or self.closed.is_set()):
            await self._arrival.park()

    async def accept(self) -> MuxStream | None:
        """Wait for a stream that the peer opens; None when the connection has ended."""
        while not self.closed.is_set():
            if self._incoming:
                return self._incoming.pop(0)
            await self._arrival.park()
        return None

    # ---- out ----

    def open_stream(self) -> MuxStream:
        """Open a stream; raise `LocalProtocolError` where `is_open` is false."""
        if self.close_reason:
            raise LocalProtocolError(f"no new streams here: {self.close_reason}")
        state = self.yamux.open_stream()
        stream = MuxStream(self, state)
        self._sinks[state.stream_id] = stream
        return stream

    def flush(self) -> None:
        """Write through what the state machine has to send."""
        chunks = self.yamux.data_to_send()
        if not chunks or self.closed.is_set():
            return
        try:
            self.outbox.send(chunks)
        except trio.BrokenResourceError as error:
            self._end(f"the connection broke: {error}")
            return
        # Streams stop far below this; what is left is a peer that makes us answer and does not read.
        if self.outbox.size > 2 * HARD_LIMIT:
            self._end("the peer does not read what it asks for")

    def flush_with(self, connection: MuxConnection) -> None:
        """Flush ``connection`` at the end of the batch that is being handled here."""
        self._touched.add(connection)

    async def wait_for_room(self) -> None:
        """Wait until the outbox is no longer full, or the connection has ended."""
        while self.outbox.is_full and not self.closed.is_set():
            await self.room.park()

    def call_when_room(self, sink: StreamSink) -> None:
        """Call ``sink.on_room`` once, when the outbox is no longer full."""
        self._want_room[sink] = None

    def attach(self, state: StreamState, sink: StreamSink) -> None:
        """Let ``sink`` hear of a stream from now on, in place of who heard of it."""
        if state.stream_id in self._sinks:
            self._sinks[state.stream_id] = sink

    def end(self, state: StreamState) -> None:
        """End our direction of a stream."""
        self.yamux.end(state)
        self._forget_if_gone(state.stream_id)

    def reset(self, state: StreamState) -> None:
        """Drop a stream; nobody here hears of it any more."""
        self.yamux.reset(state)
        self._sinks.pop(state.stream_id, None)
        self._lingering.pop(state.stream_id, None)

    def linger(self, state: StreamState) -> None:
        """Wait for the peer's end of a stream that nobody here reads any more, but not for ever."""
        if state.stream_id in self._sinks:
            self._lingering[state.stream_id] = trio.current_time() + LINGER

    def _forget_if_gone(self, stream_id: int) -> None:
        if stream_id not in self.yamux.streams:
            self._gone.append(stream_id)
            if not self._is_in_batch:
                self._forget_gone()

    def _forget_gone(self) -> None:
        for stream_id in self._gone:
            self._sinks.pop(stream_id, None)
            self._lingering.pop(stream_id, None)
        self._gone.clear()

    async def _write(self) -> None:
        try:
            with self._writing:
                while True:
                    await self.outbox.send_kept()
                    if not self.outbox.is_full:
                        self._offer_room()
        except trio.BrokenResourceError as error:
            self._is_broken = True
            self.room.unpark_all()
            self._end(f"the connection broke: {error}")

    def _offer_room(self) -> None:
        self.room.unpark_all()
        if self._pong_owed is not None:
            self.yamux.pong(self._pong_owed)
            self._pong_owed = None
        waiting, self._want_room = self._want_room, {}
        for sink in waiting:
            sink.on_room()
        self.flush()

    # ---- signs of life ----

    def ping(self) -> None:
        """Ask the peer for a sign of life, and measure `round_trip` by it."""
        value = (self._ping_sent[0] + 1 if self._ping_sent else 1) & 0xFFFFFFFF
        self._ping_sent = (value, trio.current_time())
        self.yamux.ping(value)
        self.flush()

    def _answer_ping(self, value: int) -> None:
        if self.outbox.is_full:
            self._pong_owed = (
                value  # one at the most: a peer that does not read gets no heap of them
            )
        else:
            self.yamux.pong(value)

    async def _keep_alive(self) -> None:
        while True:
            await trio.sleep_until(self._heard_at + KEEP_ALIVE)
            now = trio.current_time()
            self._drop_lingering(now)
            if now < self._heard_at + KEEP_ALIVE:  # the same sum as above: a difference rounds
                continue
            received = self.received
            self.ping()
            await trio.sleep(DEAD_AFTER)
            if self.received == received:
                self._end(f"not a byte for {KEEP_ALIVE + DEAD_AFTER} s")

    def _drop_lingering(self, now: float) -> None:
        for stream_id in [each for each, until in self._lingering.items() if until <= now]:
            self.reset(self.yamux.streams[stream_id])
        self.flush()
