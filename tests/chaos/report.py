"""What came of it: counted while it happens, judged and printed at the end."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.chaos.client import DIAL_LIMIT
from tests.chaos.lines import Dialed, Moved, Resting

WELL_WITHIN: Final = 30  # seconds after the last fault
SLACK: Final = 3  # seconds by which a busy machine may be late
MAX_TRACEBACK: Final = 4000  # characters of it
# No fault of a process explains that one of ours gets such a thing from another.
NEVER: Final = re.compile(
    r"broke the protocol|is not what was sent|within a frame|went away with code [1-9]|Traceback"
)
PARTICULARS: Final = re.compile(r"0[23][0-9a-f]{64}|[0-9.]+:[0-9]+|[0-9]+[.][0-9]+")
MAX_LISTED: Final = 20  # violations that are printed


@dataclass(frozen=True, slots=True)
class Look:
    """How a server is at one moment."""

    rss: float  # MiB
    sessions: float
    streams: float
    links: float
    queued: float
    files: float

    def is_at_rest(self, links: int) -> bool:
        """Whether nothing is left of any transfer, and all links are there."""
        return self.streams == 0 and self.queued == 0 and self.links == links


@dataclass(slots=True)
class Outcomes:
    """How many went well, why the others did not, and how long the longest of each took."""

    count: int = 0
    longest: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    longest_by_reason: dict[str, float] = field(default_factory=dict)

    def add(self, seconds: float, reason: str) -> None:
        """Count one."""
        if not reason:
            self.count += 1
            self.longest = max(self.longest, seconds)
            return
        reason = PARTICULARS.sub("…", reason)
        self.reasons[reason] += 1
        longest = self.longest_by_reason.get(reason, 0.0)
        self.longest_by_reason[reason] = max(longest, seconds)


@dataclass(slots=True)
class Report:
    """All that is known about a run."""

    began: float = field(default_factory=time.monotonic)  # when the first fault could happen
    dials: Outcomes = field(default_factory=Outcomes)
    transfers: Outcomes = field(default_factory=Outcomes)  # at either end
    received: int = 0
    excused: int = 0  # were too long at a client that was stopped meanwhile
    faults: Counter[str] = field(default_factory=Counter)
    well_after: float = math.nan
    before: dict[str, Look] = field(default_factory=dict)
    after: dict[str, Look] = field(default_factory=dict)
    starts: Counter[str] = field(default_factory=Counter)
    resting: dict[str, Resting] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    # ---- what happens ----

    def dialed(self, who: str, event: Dialed, *, excused: bool) -> None:
        """Count a dial; one that took too long is a violation, unless its client was stopped."""
        seconds = event.ended - event.began
        who = f"{event.began - self.began:.1f} s  {who}"
        if excused and (event.fault or seconds > DIAL_LIMIT + SLACK):
            self.excused += 1
        elif event.fault:
            self.violations.append(f"{who}: {event.fault}")
        elif seconds > DIAL_LIMIT + SLACK:
            self.violations.append(f"{who}: a dial took {seconds:.1f} s: {event.reason or 'done'}")
        else:
            self.dials.add(seconds, event.reason)

    def moved(self, who: str, event: Moved, *, excused: bool) -> None:
        """Count a transfer at one end; standing still is a violation, unless its client did too."""
        self.received += event.received
        who = f"{event.began - self.began:.1f} s  {who}"
        if NEVER.search(event.reason):
            self.violations.append(f"{who}: {event.reason}")
        elif not event.fault:
            self.transfers.add(event.ended - event.began, event.reason)
        elif excused and "neither moved nor broke" in event.fault:
            self.excused += 1
        else:
            self.violations.append(f"{who}: {event.fault}")

    def logged(self, who: str, text: str) -> None:
        """Look through a log for what must not be there."""
        if found := NEVER.search(text):
            start = text.rfind("\n", 0, found.start()) + 1
            self.violations.append(f"{who} logged {text[start : found.start() + MAX_TRACEBACK]}")

    # ---- what it comes to ----

    def judge(self) -> None:
        """Add what can be said at the end only."""
        if not self.well_after <= WELL_WITHIN:
            self.violations.append(f"not well {WELL_WITHIN} s after the last fault")
        for name in self.before:
            look = self.after.get(name)
            if look is None or not look.is_at_rest(links=len(self.before) - 1):
                self.violations.append(f"{name} at rest: {look or 'no answer'}")
        least: dict[int, int] = {}  # tasks, by the number of sessions
        for resting in self.resting.values():
            tasks = min(resting.tasks, least.get(resting.sessions, resting.tasks))
            least[resting.sessions] = tasks
        for name, resting in self.resting.items():
            if resting.streams or resting.tasks > least[resting.sessions]:
                self.violations.append(f"{name} at rest: {resting}")
        if not self.dials.count or not self.received:
            self.violations.append("nothing happened at all")

    def print(self, console: Console) -> None:
        """Say all of it."""
        faults = ", ".join(f"{count} {what}" for what, count in sorted(self.faults.items()))
        console.print(f"faults: {faults or 'none'}")
        console.print(_outcomes("dials", self.dials))
        console.print(_outcomes("ends of transfers", self.transfers))
        console.print(self._servers())
        console.print(
            f"bytes looked at: {self.received / 1e6:.1f} MB;"
            f" too long at a client that was stopped: {self.excused}"
        )
        console.print(f"all well {self.well_after:.1f} s after the last fault")
        console.print(self._clients())
        console.print(f"violations: {len(self.violations)}")
        for violation in self.violations[:MAX_LISTED]:
            console.print(f"  {violation}", markup=False, soft_wrap=True)

    def _clients(self) -> str:
        resting = list(self.resting.values())
        tasks = [each.tasks for each in resting]
        return (
            f"clients at rest: {len(resting)},"
            f" with {min(tasks, default=0)} to {max(tasks, default=0)} tasks each,"
            f" {sum(each.sessions for each in resting)} sessions"
            f" and {sum(each.streams for each in resting)} streams in all"
        )

    def _servers(self) -> Table:
        table = Table("", "starts", "MiB", "sessions", "streams", "links", "queued", "files")
        for name, after in self.after.items():
            before = self.before[name]
            table.add_row(
                name,
                str(self.starts[name]),
                f"{before.rss:.0f} → {after.rss:.0f}",
                f"{before.sessions:.0f} → {after.sessions:.0f}",
                f"{after.streams:.0f}",
                f"{after.links:.0f}",
                f"{after.queued:.0f}",
                f"{before.files:.0f} → {after.files:.0f}",
            )
        return table


def _outcomes(what: str, outcomes: Outcomes) -> Table:
    table = Table("", what, "longest")
    table.add_row("went well", str(outcomes.count), f"{outcomes.longest:.1f} s")
    for reason, count in outcomes.reasons.most_common():
        table.add_row(reason, str(count), f"{outcomes.longest_by_reason[reason]:.1f} s")
    return table
