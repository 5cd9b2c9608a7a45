"""How fast a transfer may be, and how slow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

import trio

from ._codes import ExitCode, TransferError

SHORTEST_SLEEP: Final = 0.01  # seconds: less is left for the next piece


@dataclass(frozen=True, slots=True)
class Stall:
    """Fewer than ``rate`` bytes a second for ``seconds`` are no transfer any more."""

    rate: int
    seconds: int


@dataclass(slots=True)
class Pace:
    """Counts what passes; slows it down to ``rate`` bytes a second, and notices a stall."""

    rate: int | None = None
    stall: Stall | None = None
    passed: int = 0
    _began: float = field(default_factory=trio.current_time)

    async def after(self, count: int) -> None:
        """Count bytes, and wait until more may follow."""
        self.passed += count
        if self.rate:
            ahead = self._began + self.passed / self.rate - trio.current_time()
            if ahead > SHORTEST_SLEEP:
                await trio.sleep(ahead)

    async def watch(self, doing: Callable[[], str]) -> NoReturn:
        """Raise `TransferError`, which says what was being done, when too little passes for too long."""
        if self.stall is None:
            await trio.sleep_forever()
        slow_since = trio.current_time()
        while True:
            before = self.passed
            await trio.sleep(1)
            now = trio.current_time()
            if self.passed - before >= self.stall.rate:
                slow_since = now
            elif now - slow_since >= self.stall.seconds:
                raise TransferError(
                    ExitCode.TIMEOUT,
                    f"{doing()}: less than {self.stall.rate} bytes a second for"
                    f" {self.stall.seconds} s",
                )
