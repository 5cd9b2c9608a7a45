"""How tests wait for what other programs do: for a line of their log, or for an answer of theirs.

No test sleeps for as long as something usually takes: it would fail where it takes longer, and be
slow where it does not.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

PATIENCE: Final = 40  # seconds for what a program should do soon, on a machine that is busy
PAUSE: Final = 0.05  # seconds between two questions


class Log:
    """What a program has said so far; whoever waits for more is woken by it."""

    def __init__(self, name: str) -> None:
        self.text = ""
        self._name = name
        self._has_ended = False
        self._news = trio.lowlevel.ParkingLot()

    # ---- writing ----

    async def read(self, source: trio.abc.ReceiveStream) -> None:
        """Take in what the program says, until it ends."""
        async for piece in source:
            self.add(piece.decode(errors="replace"))
        self._has_ended = True
        self._news.unpark_all()

    def add(self, text: str) -> None:
        """Take in what was said."""
        self.text += text
        self._news.unpark_all()

    # ---- waiting ----

    async def said(self, pattern: str) -> str:
        """Wait until this was said; give the group in it, or else all that matches."""
        await self.until(lambda: re.search(pattern, self.text) is not None, f"{pattern!r}")
        found = re.search(pattern, self.text)
        assert found is not None
        return found[1] if found.groups() else found[0]

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition that comes true with something that is said as well."""
        with trio.move_on_after(PATIENCE):
            while not condition():
                assert not self._has_ended, f"{self._name} ended before {what}:\n{self.text}"
                await self._news.park()
            return
        raise AssertionError(f"no {what} of {self._name} within {PATIENCE} s:\n{self.text}")


@contextmanager
def hearing(name: str) -> Iterator[Log]:
    """Hear what a logger of this process says, its infos included."""
    log, logger = Log(name), logging.getLogger(name)
    handler, level = _Hearing(log), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield log
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class _Hearing(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.add(self.format(record) + "\n")


async def answered(ask: Callable[[], Awaitable[bool]], *, within: float) -> bool:
    """Ask until the answer is yes, and say whether it ever was.

    For what a program tells only to those who ask: that it listens, or what it counts.
    """
    with trio.move_on_after(within):
        while True:
            if await ask():
                return True
            await trio.sleep(PAUSE)
    return False
