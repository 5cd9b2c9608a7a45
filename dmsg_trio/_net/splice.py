"""Two streams joined: what arrives on one leaves on the other, without a task, a buffer or a wait.

Windows are end to end. What one side grants is granted on to the other, so the receiver governs the
sender, and no more can wait in an outbox than was granted. The credit of both sides stays exact
because a request and its response are passed on at the length at which they came: what near may
still send (`credit` there) never exceeds what far may still be sent (`send_window` there).

The difference is what is held back: while the outbox on either side is full, and where it would take
the credit towards one connection above its budget. Every stream has its share of that, up to the
256 KiB that it began with, so none stands still for want of budget; a stream alone may have all of
it, and so fill a long path. One slow reader costs little memory and stops nobody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from dmsg_trio._wire.yamux import INITIAL_WINDOW, Buffer

from .mux_stream import MuxStream
from .outbox import HARD_LIMIT

CREDIT_BUDGET: Final = 16 * 1024 * 1024  # bytes that may be under way to one connection


class Splice:
    """A pair of joined streams; `finished` is set when both are gone."""

    def __init__(self, near: MuxStream, far: MuxStream) -> None:
        self.finished = trio.Event()
        self.end_reason = ""
        self.forward = _Half(self, near)
        self.back = _Half(self, far)
        self.forward.other, self.back.other = self.back, self.forward
        near.hand_over(self.forward)
        far.hand_over(self.back)
        near.connection.flush()
        far.connection.flush()

    @property
    def relayed(self) -> int:
        """Bytes of both directions."""
        return self.forward.relayed + self.back.relayed

    def reset(self, reason: str) -> None:
        """Drop both streams."""
        for half in (self.forward, self.back):
            half.connection.reset(half.state)
            half.connection.flush()
        self._finish(reason)

    def _finish(self, reason: str) -> None:
        if not self.finished.is_set():
            self.end_reason = reason
            self.forward.give_credit_back()
            self.back.give_credit_back()
            self.finished.set()

    def ended(self) -> None:
        """Note that one side ended; the splice is over when both have."""
        if self.forward.state.remote_ended and self.back.state.remote_ended:
            self._finish("both sides ended")


class _Half:
    """One of the two streams: what arrives on it goes to ``other``."""

    other: _Half

    def __init__(self, splice: Splice, stream: MuxStream) -> None:
        self.splice = splice
        self.connection = stream.connection
        self.state = stream.state
        self.relayed = 0
        # What the peer may still send, as far as it was told here. `receive_window` is ahead of that
        # within a batch: it counts bytes that are yet to be told.
        self.credit = stream.state.receive_window + stream.buffered
        self.lent = 0  # credit of ours above INITIAL_WINDOW, out of the other side's budget

    # ---- what the connection tells (StreamSink) ----

    def on_data(self, chunks: Sequence[Buffer], size: int) -> None:
        far = self.other
        if far.connection.outbox.size > HARD_LIMIT:
            self.splice.reset("the destination does not read, and its queue is full")
            return
        self.relayed += size
        self.credit -= size
        self._count_credit()
        far.connection.yamux.send_data(far.state, chunks, size)
        self.connection.flush_with(far.connection)
        if far.state.send_window - self.credit > self.credit:
            far.on_window()  # a grant that was held back is due by and by

    def on_window(self) -> None:
        """Let the other side send what this one now takes, or as much of it as may be."""
        near = self.other
        if near.state.remote_ended or self.splice.finished.is_set():
            return
        outstanding = near.credit
        streams = max(1, self.connection.stream_count)
        share = min(INITIAL_WINDOW, CREDIT_BUDGET // streams)
        spare = max(0, CREDIT_BUDGET - streams * share - self.connection.credit_lent)
        allowed = min(self.state.send_window, max(outstanding, share) + spare) - outstanding
        if allowed <= 0:
            return
        for connection in (self.connection, near.connection):
            if connection.outbox.is_full:
                connection.call_when_room(self)
                return
        near.connection.yamux.grant(near.state, allowed)
        near.credit += allowed
        near._count_credit()
        self.connection.flush_with(near.connection)

    def _count_credit(self) -> None:
        lent = max(0, self.credit - INITIAL_WINDOW)
        if lent != self.lent:
            self.other.connection.credit_lent += lent - self.lent
            self.lent = lent

    def give_credit_back(self) -> None:
        """Free what this direction had of the budget; the stream is over."""
        self.other.connection.credit_lent -= self.lent
        self.lent = 0

    def on_room(self) -> None:
        self.on_window()
        self.other.connection.flush()

    def on_end(self) -> None:
        self.give_credit_back()
        self.other.connection.end(self.other.state)
        self.connection.flush_with(self.other.connection)
        self.splice.ended()

    def on_reset(self, reason: str) -> None:
        self.splice.reset(reason)
