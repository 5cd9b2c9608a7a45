"""What goes on, for the status page: connections that are open, and what went wrong of late."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import trio

from dmsg_trio._net.carrying import Carried
from dmsg_trio._net.telling import Sometimes

MAX_FAULTS: Final = 50  # that are remembered

logger = logging.getLogger("dmsg_trio.web")


@dataclass(eq=False, slots=True)
class Line:
    """A connection or a request that is under way."""

    number: int
    kind: str  # SOCKS5, CONNECT, GET …
    target: str
    way: str  # dmsg, direct, proxy
    began: float
    carried: Carried = field(default_factory=Carried)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that went wrong, and when, by `trio.current_time`."""

    at: float
    target: str
    reason: str


class Book:
    """Keeps both; one for each program."""

    def __init__(self) -> None:
        self.began = trio.current_time()
        self.open: dict[int, Line] = {}
        self.faults: deque[Fault] = deque(maxlen=MAX_FAULTS)
        self.done: Counter[str] = Counter()  # lines that ended, by way
        self.to_far = self.to_near = 0  # bytes of lines that ended
        self._numbers = count(1)
        self._aloud = Sometimes(logger, logging.WARNING)
        self._quietly = Sometimes(logger, logging.INFO)

    @contextmanager
    def line(self, kind: str, target: str, way: str) -> Iterator[Carried]:
        """Have a line for the block; the bytes are counted in what this gives."""
        line = Line(next(self._numbers), kind, target, way, trio.current_time())
        self.open[line.number] = line
        try:
            yield line.carried
        finally:
            del self.open[line.number]
            self.done[way] += 1
            self.to_far += line.carried.to_far
            self.to_near += line.carried.to_near
            logger.debug(
                "%s %s (%s): %d bytes out, %d in, %.3f s",
                *(kind, target, way, line.carried.to_far, line.carried.to_near),
                trio.current_time() - line.began,
            )

    def note(self, target: str, reason: str, *, untold: bool = False) -> None:
        """Remember that something went wrong.

        ``untold``: whoever asked hears a number at most, so the log has to say it.
        """
        self.faults.appendleft(Fault(trio.current_time(), target, reason))
        line = reason if target in reason else f"{target}: {reason}"
        (self._aloud if untold else self._quietly).say(line)
