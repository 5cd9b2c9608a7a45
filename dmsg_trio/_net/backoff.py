"""How long to wait before the next try: longer each time, never in step with others."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

FIRST_DELAY: Final = 0.5  # seconds
LONGEST_DELAY: Final = 15.0  # so that two that wait for each other are well within 30 s

_random = secrets.SystemRandom()


@dataclass(slots=True)
class Backoff:
    """Delays that double to a limit; each is drawn from its whole upper half (jitter)."""

    first: float = FIRST_DELAY
    longest: float = LONGEST_DELAY
    failures: int = 0

    def next_delay(self) -> float:
        """Note a failure; say how many seconds to wait."""
        ceiling = min(self.longest, self.first * 2 ** min(self.failures, 16))
        self.failures += 1
        return _random.uniform(ceiling / 2, ceiling)

    def reset(self) -> None:
        """Note a success."""
        self.failures = 0
