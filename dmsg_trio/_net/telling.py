"""Log lines that others can cause, and that therefore have a bound."""

from __future__ import annotations

import logging
import math
from typing import Final

import trio

LINES: Final = 20  # of one kind that are written within a period; the others are counted
PERIOD: Final = 10.0  # seconds


class Sometimes:
    """Writes lines of one kind to a log, and leaves out what is too much."""

    def __init__(self, logger: logging.Logger, level: int) -> None:
        self._logger = logger
        self._level = level
        self._began = -math.inf
        self._said = 0
        self._left_out = 0

    def say(self, text: str) -> None:
        """Write a line, or count it."""
        now = trio.current_time()
        if now >= self._began + PERIOD:
            if self._left_out:
                self._logger.log(self._level, "and %d lines more like the last", self._left_out)
            self._began, self._said, self._left_out = now, 0, 0
        if self._said < LINES:
            self._said += 1
            self._logger.log(self._level, "%s", text)
        else:
            self._left_out += 1
