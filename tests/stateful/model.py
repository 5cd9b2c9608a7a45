"""Which ways there are, and where they lead: a small model of the mesh, by the rules of PROTOCOL, "the
order in which a client dials" and "server-to-server", and not a line of the code that it judges.

The model knows which lines are whole, who is there, and what each client remembers of each
destination. What it does not decide (which server a client picked, which round trip it measured) it
is shown, as `Tables`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from .facts import Health, Life, Servers, Tables, Tier, Verdict
from .memories import ENTRY_AGE, Memory
from .steps import NEVER, Lie

PROMPT: Final = 5.0  # seconds for a way that leads there, over the slowest of lines
UNKNOWN_AGE: Final = 2.0  # seconds that a server goes by there being none
LONG_REPLIES: Final = (
    8.0  # seconds after which it is not certain that a dial waits for both servers
)
LONG_LOOK_UP: Final = 4.0  # seconds after which it is not certain that a new session is waited for
LONG_DEMAND: Final = (
    0.5  # seconds after which it is not certain that a link on demand is waited for
)
CALM: Final = 90.0  # seconds after a fault in which servers may leave one another alone


@dataclass(frozen=True, slots=True)
class Way:
    tier: Tier
    server: str
    rank: tuple[int, bool, float]


def line(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a < b else (b, a)


@dataclass(slots=True)
class World:
    """What is so, as far as the steps decide it."""

    life: dict[str, Life]
    on_demand: bool = False
    lines: dict[tuple[str, str], Health] = field(default_factory=dict)
    lies: dict[str, Servers | Lie] = field(default_factory=dict)
    discovery_is_up: bool = True
    discovery_delay: float = 0.0
    replies: dict[str, float] = field(default_factory=dict)  # server: seconds that they take
    memories: dict[tuple[str, str], Memory] = field(default_factory=dict)
    last_absent: dict[str, float] = field(default_factory=dict)  # when there was no entry
    twinned: set[str] = field(default_factory=set)  # clients that are two programs
    said_servers: set[str] = field(default_factory=set)  # clients that the discovery called servers
    last_fault: float = float("-inf")  # of any kind but those of clients' lines

    def health(self, a: str, b: str) -> Health:
        return self.lines.get(line(a, b), Health.WHOLE)

    def is_whole(self, *path: str) -> bool:
        return all(self.health(a, b) is Health.WHOLE for a, b in pairwise(path))

    def reply_delay(self, *servers: str) -> float:
        return sum(self.replies.get(server, 0.0) for server in servers)

    def memory(self, client: str, to: str) -> Memory:
        return self.memories.setdefault((client, to), Memory())

    def forget_all_of(self, client: str) -> None:
        """What a client knew went with it."""
        self.memories = {pair: each for pair, each in self.memories.items() if pair[0] != client}

    def patience(self, servers: Iterable[str]) -> float:
        """Seconds for a dial whose first way leads there."""
        replies = sum(delay for s in servers if (delay := self.reply_delay(s)) != NEVER)
        return PROMPT + 3 * self.discovery_delay + replies

    # ---- which ways there are ----

    def ways(self, client: str, to: str, entry: Servers, now: float, tables: Tables) -> list[Way]:
        memory = self.memory(client, to)
        sessions = tables.sessions[client]
        ways = []
        for server in {*entry, *sessions}:
            leg = sessions.get(server)
            if leg and server in entry:
                tier = Tier.DELEGATED
            elif leg and leg.relays_across:
                tier = Tier.ACROSS
            elif not leg and now >= memory.pause[1]:
                tier = Tier.NEW_SESSION
            else:
                continue
            round_trip = leg.round_trip if leg else 0.0
            ways.append(Way(tier, server, (tier, server != memory.good, round_trip)))
        return ways

    # ---- where they lead ----

    def leads(self, way: Way, client: str, to: str, now: float, tables: Tables) -> Verdict:
        """Whether a stream opens that way."""
        if not self.is_whole(client, way.server) or self.reply_delay(way.server) == NEVER:
            return Verdict.NO
        if way.tier is Tier.NEW_SESSION:
            if self.life[way.server] is not Life.UP:
                return Verdict.NO
            if not self.discovery_is_up or self.discovery_delay > LONG_LOOK_UP:
                return Verdict.MAYBE  # where the server is may be remembered
        return self._relays(way.server, to, now, tables)

    def _relays(self, server: str, to: str, now: float, tables: Tables) -> Verdict:
        if to in tables.dead_ends.get(server, ()):
            return Verdict.NO
        if to in tables.routes.get(server, ()):
            return Verdict.YES if self.is_whole(server, to) else Verdict.NO
        linked = tables.links.get(server, frozenset())
        there = {
            second
            for second in tables.routes
            if to in tables.routes[second] and self.is_whole(server, second, to)
        }
        mute = {second for second in there if self.reply_delay(second) == NEVER}
        ways_on = (there - mute) & linked
        to_link = there - mute - linked if self.on_demand else set()
        if not (ways_on or to_link):
            return Verdict.NO
        if mute:  # it may be asked first, and swallow the answer
            return Verdict.MAYBE
        if self.reply_delay(server) + max(map(self.reply_delay, there)) >= LONG_REPLIES:
            return Verdict.MAYBE
        is_absent = isinstance(tables.published[to], Lie)
        lately = now - self.last_absent.get(to, -UNKNOWN_AGE) < UNKNOWN_AGE
        if is_absent or lately:
            return Verdict.MAYBE
        if not ways_on and not self._links_on_demand(server, to, to_link, now, tables):
            return Verdict.MAYBE
        return Verdict.YES

    def _links_on_demand(
        self, server: str, to: str, candidates: set[str], now: float, tables: Tables
    ) -> bool:
        """Whether a server certainly links to one of these in time."""
        published = tables.published[to]
        return (
            self.discovery_is_up
            and self.discovery_delay <= LONG_DEMAND
            and now - self.last_fault > max(CALM, ENTRY_AGE)
            and isinstance(published, tuple)
            and any(
                self.life[second] is Life.UP and self.life[server] is Life.UP
                for second in candidates & set(published)
            )
        )
