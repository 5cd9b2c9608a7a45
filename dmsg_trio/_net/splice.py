"""Two streams joined: what arrives on one leaves on the other, without a task, a buffer or a wait.

Windows are end to end. What one side grants is granted on to the other, so the receiver governs the
sender, and no more can wait in an outbox than was granted. A grant is held back while the outbox on
either side is full, and what may be under way is capped; so one slow reader costs little memory and
stops nobody else.

The credit of both sides stays exact because a request and its response are passed on at the length
at which they came: what near may still send (`receive_window` there) never exceeds what far may
still be sent (`send_window` there), and the difference is what is held back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from dmsg_trio._wire.yamux import Buffer

from .mux_stream import MuxStream
from .outbox import HARD_LIMIT

LARGEST_CREDIT: Final = 16 * 1024 * 1024  # bytes that one direction may have under way


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
        self.end_reason = self.end_reason or reason
        for half in (self.forward, self.back):
            half.connection.reset(half.state)
            half.connection.flush()
        self.finished.set()


class _Half:
    """One of the two streams: what arrives on it goes to ``other``."""

    other: _Half

    def __init__(self, splice: Splice, stream: MuxStream) -> None:
        self.splice = splice
        self.connection = stream.connection
        self.state = stream.state
        self.relayed = 0

    # ---- what the connection tells (StreamSink) ----

    def on_data(self, chunks: Sequence[Buffer], size: int) -> None:
        far = self.other
        if far.connection.outbox.size > HARD_LIMIT:
            self.splice.reset("the destination does not read, and its queue is full")
            return
        self.relayed += size
        far.connection.yamux.send_data(far.state, chunks, size)
        self.connection.flush_with(far.connection)
        if self.state.receive_window < LARGEST_CREDIT // 2 < far.state.send_window:
            far.on_window()  # a grant beyond the cap was held back, and is due by and by

    def on_window(self) -> None:
        """Let the other side send what this one now takes, unless an outbox is full."""
        near = self.other
        allowed = min(self.state.send_window, LARGEST_CREDIT) - near.state.receive_window
        if allowed <= 0:
            return
        for connection in (self.connection, near.connection):
            if connection.outbox.is_full:
                connection.call_when_room(self)
                return
        near.connection.yamux.grant(near.state, allowed)
        self.connection.flush_with(near.connection)

    def on_room(self) -> None:
        self.on_window()
        self.other.connection.flush()

    def on_end(self) -> None:
        self.other.connection.end(self.other.state)
        self.connection.flush_with(self.other.connection)
        if self.other.state.remote_ended:
            self.splice.end_reason = self.splice.end_reason or "ended"
            self.splice.finished.set()

    def on_reset(self, reason: str) -> None:
        self.splice.reset(reason)
