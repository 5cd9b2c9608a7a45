"""What a client remembers of a destination, by the rules of PROTOCOL, "the order in which a client dials"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .facts import Code, Outcome, Servers, Tier

ENTRY_AGE: Final = 300.0  # seconds that a client goes by an entry
LONGEST_DIAL: Final = 200.0
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0  # after a dial failed; drawn from the upper half
NOWHERE: Final[Servers] = ()  # by what entry a dial goes where there is none


@dataclass(slots=True)
class Memory:
    """Of one client, of one destination."""

    entry: Servers | None = None
    expires: float = 0.0
    good: str = ""
    failures: int = 0
    pause: tuple[float, float] = (0.0, 0.0)  # no new session until some time between these
    is_known: bool = True  # whether the above is certain

    def is_certain(self, began: float, now: float) -> bool:
        """Whether all of this is known, from one moment to another."""
        expires = self.entry is not None and self.expires - LONGEST_DIAL <= began
        pause_ends = self.pause[0] <= now and began < self.pause[1]
        return self.is_known and not expires and not pause_ends

    def forget_what_is_old(self, now: float) -> None:
        if now >= self.expires:
            self.entry = None
            self.is_known = True

    def learn(
        self, outcome: Outcome, now: float, *, entry: Servers | None, asked_in_time: bool | None
    ) -> None:
        """Take in how a dial ended: by ``entry``, where that is certain, else None.

        ``asked_in_time`` says whether the discovery was asked for a newer entry if need was; None: it
        was away.
        """
        if outcome.path or outcome.code == Code.NO_LISTENER:
            self._learn_where(entry, now)
            if outcome.path:
                self.good = outcome.path[0]
                self.failures = 0
                self.pause = (0.0, 0.0)
        elif outcome.code == Code.NOT_REACHED:
            if any(each.tier == Tier.NEW_SESSION for each in outcome.attempts):
                self._pause(now)
            if asked_in_time:
                self.entry = None
                self.is_known = True
            elif asked_in_time is False and self.entry is not None:
                self.is_known = False
        elif outcome.code in (Code.NOT_FOUND, Code.NOT_A_CLIENT, Code.NO_SERVERS):
            self.entry = None
        elif outcome.code != Code.NO_DISCOVERY:
            self.is_known = False
            self.expires = now + ENTRY_AGE

    def _learn_where(self, entry: Servers | None, now: float) -> None:
        if entry is None:
            self.is_known = False
        if entry != NOWHERE:  # by which nothing is learned of where it is
            if self.entry is None or entry != self.entry:
                self.expires = now + ENTRY_AGE
            self.entry = entry

    def _pause(self, now: float) -> None:
        ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self.failures)
        self.failures += 1
        self.pause = (now + ceiling / 2, now + ceiling)
