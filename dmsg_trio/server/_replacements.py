"""How often the sessions of one key take each other's place, and whose do so again and again.

Now and then is somebody who comes back before the old session was found dead. Again and again is two
programs with one key, as far as a server can tell: it names them, and bounds what it costs.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

import trio

from dmsg_trio._keys import PublicKey

logger = logging.getLogger("dmsg_trio.server")

MAX_REPLACEMENTS: Final = 10  # of one key's session, in a REPLACEMENT_PERIOD
REPLACEMENT_PERIOD: Final = 60  # seconds
CONTESTED_FROM: Final = 5  # replacements in a CONTEST_PERIOD that look like two programs
CONTEST_PERIOD: Final = 600  # seconds
MAX_KEYS: Final = 4096  # of which replacements are remembered


class TooManyReplacementsError(Exception):
    """Two holders of one key take its place from each other, again and again."""


@dataclass(frozen=True, slots=True)
class Contest:
    """A key that more than one program seems to have, and how often it changed hands lately."""

    pk: PublicKey
    replacements: int


@dataclass(slots=True)
class _History:
    times: deque[float] = field(default_factory=deque)  # never empty, once noted
    named_at: float = float("-inf")  # when the log named it


class Replacements:
    """The replacements of the last minutes, by key."""

    def __init__(self) -> None:
        self.total = 0
        self._histories: OrderedDict[PublicKey, _History] = OrderedDict()  # the latest one last

    def note(self, pk: PublicKey, older: str, newer: str) -> None:
        """Count that a session from ``newer`` takes the place of one from ``older``.

        Raises `TooManyReplacementsError` if it must not.
        """
        now = trio.current_time()
        self._forget(now)
        history = self._histories.setdefault(pk, _History())
        while history.times and history.times[0] <= now - CONTEST_PERIOD:
            history.times.popleft()
        lately = sum(time > now - REPLACEMENT_PERIOD for time in history.times)
        if lately >= MAX_REPLACEMENTS:
            raise TooManyReplacementsError(
                f"{MAX_REPLACEMENTS} sessions of this key replaced each other "
                f"within {REPLACEMENT_PERIOD} s"
            )
        self.total += 1
        history.times.append(now)
        self._histories.move_to_end(pk)
        if len(self._histories) > MAX_KEYS:
            self._histories.popitem(last=False)
        count = len(history.times)
        if count >= CONTESTED_FROM and now >= history.named_at + CONTEST_PERIOD:
            history.named_at = now
            logger.warning(
                "key %s: %d sessions took each other's place within %d minutes, the last one from"
                " %s that of one from %s: two programs seem to have this key",
                pk, count, CONTEST_PERIOD // 60, newer, older,
            )  # fmt: skip

    def contested(self) -> list[Contest]:
        """The keys that more than one program seems to have now."""
        if not self._histories:
            return []
        since = trio.current_time() - CONTEST_PERIOD
        counts = {
            pk: sum(time > since for time in history.times)
            for pk, history in self._histories.items()
        }
        return [Contest(pk, count) for pk, count in counts.items() if count >= CONTESTED_FROM]

    def _forget(self, now: float) -> None:
        """Forget keys that have not changed hands for long; those are the first ones."""
        while self._histories:
            oldest = next(iter(self._histories.values()))
            if oldest.times[-1] > now - CONTEST_PERIOD:
                return
            self._histories.popitem(last=False)
