"""One stream of a `MuxConnection`, for the side that reads and writes it.

It only moves bytes between memory and the connection's outbox; so a cancelled `send_all` leaves no
half frame behind. What arrives waits here in the pieces in which it came, bounded by the window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from dmsg_trio._wire.yamux import Buffer, StreamState

from .blocks import SCRATCH, copied
from .conflict import ConflictDetector
from .resettable import ResettableStream
from .wakeup import Wakeup
from .windows import ReceiveWindow

if TYPE_CHECKING:
    from .mux import MuxConnection, StreamSink

CHUNK: Final = SCRATCH  # what a stream sends in one frame, before the others have their turn
FRAMES_IN_A_ROW: Final = 4  # after which a busy sender gives way to other tasks
SMALL: Final = 2048  # pieces below this are kept together: each has its own cost in memory
NOTHING: Final = memoryview(b"")


class MuxStream(ResettableStream):
    """A stream as Trio knows streams; made by `MuxConnection.open_stream` and `accept`."""

    def __init__(self, connection: MuxConnection, state: StreamState) -> None:
        self.connection = connection
        self.state = state
        self._chunks: deque[memoryview] = deque()
        self._buffered = 0
        self._window = ReceiveWindow(connection.window_budget)
        self._arrival = Wakeup()
        self._grown = trio.lowlevel.ParkingLot()
        self._broken = ""  # why the stream is gone
        self._scope: trio.CancelScope | None = None  # what ends with the stream
        self._closed = False
        self._send_conflict = ConflictDetector("another task is sending on this stream")
        self._receive_conflict = ConflictDetector("another task is receiving on this stream")

    # ---- what the connection tells (StreamSink) ----

    def on_data(self, chunks: Sequence[Buffer], size: int) -> None:
        if self._closed:
            self._drop()  # nobody will read this, and the peer should know
            return
        if self.connection.unread + size > self.connection.max_unread:
            self.fail(f"{self.connection.unread} bytes of this session are unread, and more came")
            return
        if size < SMALL and self._chunks and len(self._chunks[-1]) < SMALL:
            self._chunks[-1] = memoryview(b"".join([self._chunks[-1], *chunks]))
        else:
            self._chunks += copied(chunks, size)
        self._count_unread(size)
        self._window.received(size)
        self._arrival.wake()

    def on_window(self) -> None:
        self._grown.unpark_all()

    def on_room(self) -> None:
        """Nothing to do: senders wait in `MuxConnection.room`."""

    def on_end(self) -> None:
        self._arrival.wake()

    def on_reset(self, reason: str) -> None:
        self._broken = reason
        self._window.close()
        if self._scope is not None:
            self._scope.cancel()
        self._arrival.wake()
        self._grown.unpark_all()
        self.connection.room.unpark_all()

    # ---- out ----

    async def send_all(self, data: Buffer) -> None:
        with self._send_conflict:
            await trio.lowlevel.checkpoint_if_cancelled()
            self.check_sendable()
            rest, frames = memoryview(data).cast("B"), 0
            while rest:
                room = await self.wait_for_room(1)
                self.push([rest[:room]], min(room, len(rest)))
                rest = rest[room:]
                frames += 1
                if frames % FRAMES_IN_A_ROW == 0:
                    await trio.lowlevel.checkpoint()
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def wait_for_room(self, size: int) -> int:
        """Wait until at least ``size`` bytes may be sent, and say how many may."""
        state, connection = self.state, self.connection
        while True:
            self.check_sendable()
            if connection.outbox.is_full:
                await connection.room.park()
            elif state.send_window < size:
                await self._grown.park()
            else:
                return min(state.send_window, CHUNK)

    async def send_ahead(self, data: bytes) -> None:
        """Send a little that the peer waits for, however much is in the outbox already."""
        while self.state.send_window < len(data):
            self.check_sendable()
            await self._grown.park()
        self.check_sendable()
        self.push([data], len(data))

    def push(self, chunks: list[Buffer], size: int) -> None:
        """Send what `wait_for_room` allowed, at once."""
        self.connection.yamux.send_data(self.state, chunks, size)
        self.connection.flush()

    async def wait_send_all_might_not_block(self) -> None:
        with self._send_conflict:
            await trio.lowlevel.checkpoint_if_cancelled()
            await self.wait_for_room(1)
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def send_eof(self) -> None:
        with self._send_conflict:
            if self._closed:
                raise trio.ClosedResourceError("this stream was closed on this side")
            if not self.state.local_ended:
                if self._broken:
                    raise trio.BrokenResourceError(self._broken)
                self.connection.end(self.state)
                self.connection.flush()
            await trio.lowlevel.checkpoint()

    def check_sendable(self) -> None:
        """Raise what `send_all` raises on a stream that is closed, ended or broken."""
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed on this side")
        if self.state.local_ended:
            raise trio.ClosedResourceError("send_eof was called on this stream")
        if self._broken:
            raise trio.BrokenResourceError(self._broken)

    # ---- in ----

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        check_max_bytes(max_bytes)
        with self._receive_conflict:
            await trio.lowlevel.checkpoint_if_cancelled()
            piece = await self.receive_piece(max_bytes)
            await trio.lowlevel.cancel_shielded_checkpoint()
            return bytes(piece)

    @property
    def is_ready(self) -> bool:
        """Whether `receive_piece` would not wait; there may be nothing to wait for."""
        return bool(self._chunks or self._broken or self._closed or self.state.remote_ended)

    async def wait_ready(self) -> None:
        """Wait until `is_ready`."""
        while not self.is_ready:
            await self._wait_for_data()

    @property
    def buffered(self) -> int:
        """How many bytes have arrived and were not taken yet."""
        return self._buffered

    def check_receivable(self) -> None:
        """Raise what `receive_some` raises on a stream that is closed."""
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed on this side")

    async def receive_piece(self, max_bytes: int | None = None) -> memoryview:
        """Wait for bytes and take the first piece of them; empty is the end.

        Who has taken all of a piece may `give_back` it.
        """
        while True:
            self.check_receivable()
            if self._chunks:
                return self.take_piece(max_bytes)
            if self.state.remote_ended:
                return NOTHING
            if self._broken:
                raise trio.BrokenResourceError(self._broken)
            await self._wait_for_data()

    async def _wait_for_data(self) -> None:
        if not self._window.is_waiting_for_path:
            await self._arrival.wait()
            return
        since = trio.current_time()
        await self._arrival.wait()
        now = trio.current_time()
        self._window.waited(now - since, now)

    def take_piece(self, max_bytes: int | None = None) -> memoryview:
        """Take the first piece that waits here; empty if none does. The peer gets credit for it."""
        if not self._chunks:
            return NOTHING
        piece = self._chunks.popleft()
        if max_bytes is not None and len(piece) > max_bytes:
            self._chunks.appendleft(piece[max_bytes:])
            piece = piece[:max_bytes]
        self._count_unread(-len(piece))
        self._give_credit()
        return piece

    def _count_unread(self, change: int) -> None:
        self._buffered += change
        self.connection.unread += change

    def _give_credit(self) -> None:
        if self.state.remote_ended or self._broken:
            return
        if due := self._window.due(self.state.receive_window, self._buffered):
            self._window.granted(self.state.receive_window, trio.current_time())
            self.connection.yamux.grant(self.state, due)
            self.connection.flush()

    def hand_over(self, sink: StreamSink) -> None:
        """Let ``sink`` hear of the stream from now on, and of all that has come so far."""
        self.connection.attach(self.state, sink)
        self._window.close()
        if self._chunks:
            sink.on_data(list(self._chunks), self._buffered)
            self._forget_unread()
        sink.on_window()
        if self.state.remote_ended:
            sink.on_end()
        if self._broken:
            sink.on_reset(self._broken)

    # ---- the end ----

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """End the stream without waiting: what was sent still arrives, nothing more is read."""
        if self._closed:
            return
        unread = self._buffered
        self._let_go()
        if not self._broken:
            # Who waits for room there goes on, and learns by our reset that nobody reads any more;
            # a reset at once would take from it what it has not read of ours.
            if unread:
                self.connection.yamux.grant(self.state, unread)
            self.connection.end(self.state)
            self.connection.linger(self.state)
            self.connection.flush()

    def reset(self) -> None:
        """Drop the stream without waiting; the peer learns that it broke."""
        if not self._closed:
            self._let_go()
            self._drop()

    def fail(self, reason: str) -> None:
        """Drop the stream for what the peer did on it; whoever uses it here sees it broken."""
        self._forget_unread()
        self._drop()
        self.on_reset(reason)

    @contextmanager
    def abandoned_when_reset(self) -> Iterator[None]:
        """Give the block up when the peer resets the stream: `trio.BrokenResourceError`."""
        with trio.CancelScope() as scope:
            if self._broken:
                raise trio.BrokenResourceError(self._broken)
            self._scope = scope
            try:
                yield
            finally:
                self._scope = None
        if scope.cancelled_caught:
            raise trio.BrokenResourceError(self._broken)

    @contextmanager
    def reset_unless_done(self) -> Iterator[None]:
        """Reset the stream if the block is left by an exception, a cancellation among them."""
        done = False
        try:
            yield
            done = True
        finally:
            if not done:
                self.reset()

    def _let_go(self) -> None:
        self._closed = True
        self._forget_unread()
        self._window.close()
        self._arrival.wake()
        self._grown.unpark_all()
        self.connection.room.unpark_all()

    def _forget_unread(self) -> None:
        self._chunks.clear()
        self._count_unread(-self._buffered)

    def _drop(self) -> None:
        self.connection.reset(self.state)
        self.connection.flush()

    def __repr__(self) -> str:
        return f"<MuxStream {self.state.stream_id} with {self.connection.carrier.peer}>"


def check_max_bytes(max_bytes: int | None) -> None:
    """Refuse what is no size, as Trio's streams do."""
    if max_bytes is not None:
        if not isinstance(max_bytes, int):
            raise TypeError(f"max_bytes is an int or None, not {max_bytes!r}")
        if max_bytes < 1:
            raise ValueError(f"max_bytes is at least 1, not {max_bytes}")
