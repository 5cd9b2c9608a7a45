"""How much a peer may send ahead, grown to what the path between the two ends can hold.

The window of a stream starts at the 256 KiB that yamux prescribes. It doubles when its reader had
to wait although all bytes that had arrived were used up, the peer stood at the edge of what it was
allowed, and a grant was already on its way: then the path is longer than the window. A slow reader
never makes it grow. The growth of all streams of a session comes out of one budget.

On a short path nobody waits for long. There a window that is used up time and again within a few
milliseconds grows a little, so that each grant wakes who sends, who relays and who reads for more.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from dmsg_trio._wire.yamux import INITIAL_WINDOW

LARGEST_WINDOW: Final = 16 * 1024 * 1024  # of one stream: 160 MB/s at 100 ms
SESSION_BUDGET: Final = 64 * 1024 * 1024  # what the windows of a session may grow by, in all
SHORTEST_WAIT: Final = 0.001  # seconds; less than this is the scheduler, not the path
LONGEST_CYCLE: Final = 8  # times the wait, since our grant: the wait is what limits the peer
FASTEST: Final = 500e6  # bytes per second that no path carries: a wait that is short for the window
LARGEST_FOR_TURNS: Final = 1024 * 1024  # of one stream on a short path: more leaves the caches
TURN: Final = 0.005  # seconds within which a quick reader uses up a window
TURNS: Final = 8  # in a row, which no reader takes by chance
QUEUE: Final = 2  # times the shortest cycle, above which most of one is spent in queues
FORGETTING: Final = 1.02  # by which the shortest cycle grows with each other one: paths change
EDGE: Final = 2 * 4096  # a sender stops here when no whole Noise frame fits any more


@dataclass(slots=True)
class WindowBudget:
    """What the windows of one session may still grow by."""

    left: int = SESSION_BUDGET

    def take(self, size: int) -> bool:
        """Take ``size`` bytes if there are as many."""
        if size > self.left:
            return False
        self.left -= size
        return True


@dataclass(slots=True)
class ReceiveWindow:
    """The window of one stream, as its reader sees it."""

    budget: WindowBudget
    size: int = INITIAL_WINDOW
    _granted_at: float = -inf  # when our last grants were sent; those of one moment count as one
    _closed: bool = False
    _turns: int = 0  # quick ones, in a row
    _shortest: float = inf  # seconds from a grant to what came by it, of late
    _to_edge: int = INITIAL_WINDOW  # bytes the peer could send before our last grants reached it

    def received(self, size: int) -> None:
        """Note that ``size`` bytes arrived."""
        self._to_edge -= size

    @property
    def is_waiting_for_path(self) -> bool:
        """Whether the peer can only go on when a grant that is under way has reached it."""
        return self._granted_at > -inf and 0 <= self._to_edge < EDGE

    def waited(self, duration: float, now: float) -> None:
        """Note that the reader waited ``duration`` seconds until ``now`` while `is_waiting_for_path`."""
        if self._to_edge >= 0:
            return  # what came had been allowed before
        cycle = now - self._granted_at
        self._shortest = min(cycle, self._shortest * FORGETTING)
        # Who sends a little now and then stands at the edge by chance, long after our grant. And what
        # takes longer than the path is a queue, in front of a slow network or of a busy processor: a
        # larger window would only fill it.
        is_wait = duration >= max(SHORTEST_WAIT, self.size / FASTEST, cycle / LONGEST_CYCLE)
        is_path = is_wait and cycle <= QUEUE * self._shortest
        if is_path:
            self._grow(LARGEST_WINDOW)

    def due(self, outstanding: int, buffered: int) -> int:
        """Say what to grant now: nothing, until half of the window is used and read."""
        held = outstanding + buffered
        if 2 * held > self.size:
            return 0
        return self.size - held

    def granted(self, outstanding: int, now: float) -> None:
        """Note that what was due is granted; before that, the peer could send ``outstanding`` bytes."""
        since = now - self._granted_at
        if since > SHORTEST_WAIT:
            self._granted_at = now
            self._to_edge = outstanding
            self._turns = self._turns + 1 if since < TURN else 0
            if self._turns == TURNS:
                self._turns = 0
                self._grow(LARGEST_FOR_TURNS)

    def _grow(self, largest: int) -> None:
        if self.size < largest and not self._closed and self.budget.take(self.size):
            self.size *= 2

    def close(self) -> None:
        """Give back to the budget what this window grew by."""
        self._closed = True
        self.budget.left += self.size - INITIAL_WINDOW
        self.size = INITIAL_WINDOW
