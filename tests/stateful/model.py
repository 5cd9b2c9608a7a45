"""What must happen: a small model of the mesh, by the rules of PROTOCOL, "the order in which a client
dials" and "server-to-server", and not a line of the code that it judges.

The model knows which lines are whole and what each client remembers of each destination. What it does
not decide (which server a client picked, which round trip it measured) it is shown, as `Tables`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from itertools import pairwise

from .steps import Lie

ENTRY_AGE = 300.0  # seconds that a client goes by an entry
PROMPT = 5.0  # seconds for a way that leads there, over the slowest of lines
LONGEST_DIAL = 200.0
UNKNOWN_AGE = 2.0  # seconds that a server goes by there being none
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0  # after a dial failed; drawn from the upper half

Servers = tuple[str, ...]
NOWHERE: Servers = ()  # by what entry a dial goes where there is none
Published = Servers | Lie | None  # what the discovery says of a client; None: it does not answer


class Tier(IntEnum):
    DELEGATED = 1
    ACROSS = 2
    NEW_SESSION = 3


class Code(IntEnum):
    """Of the protocol's table; the first two are for what has none there."""

    OUT_OF_TIME = -2
    NO_DISCOVERY = -1
    NOT_FOUND = 100
    NOT_A_CLIENT = 102
    NO_SERVERS = 103
    NOT_REACHED = 202
    NO_LISTENER = 306


class Verdict(Enum):
    YES = "yes"
    NO = "no"
    MAYBE = "maybe"


class Health(Enum):
    WHOLE = "whole"
    CUT = "cut"
    SILENT = "silent"


class Life(Enum):
    DOWN = "down"
    UP = "up"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class Leg:
    """A client's session, as the client has it."""

    round_trip: float
    relays_across: bool


@dataclass(frozen=True, slots=True)
class Tables:
    """Who has sessions and links with whom now, and what the discovery says."""

    sessions: Mapping[str, Mapping[str, Leg]]  # client: server: …
    routes: Mapping[str, frozenset[str]]  # server: clients that it reaches
    links: Mapping[str, frozenset[str]]  # server: servers that it may ask
    published: Mapping[str, Published]

    def without(self, client: str, servers: set[str]) -> Tables:
        """As if a client had no sessions with these servers: what a dial itself may change."""
        mine = {s: leg for s, leg in self.sessions[client].items() if s not in servers}
        routes = {
            s: clients - {client} if s in servers else clients for s, clients in self.routes.items()
        }
        published = {c: said for c, said in self.published.items() if c != client}
        sessions = {**self.sessions, client: mine}
        return replace(self, sessions=sessions, routes=routes, published=published)


@dataclass(frozen=True, slots=True)
class Attempted:
    """One attempt, as a dial reports it."""

    tier: int
    server: str
    failed: bool
    reason: str = ""

    @property
    def way(self) -> tuple[int, str]:
        return self.tier, self.server


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a dial ended: with a path, or with a code."""

    attempts: tuple[Attempted, ...] = ()
    path: Servers = ()
    code: int | None = None


@dataclass(slots=True)
class Memory:
    """What a client remembers of a destination."""

    entry: Servers | None = None
    expires: float = 0.0
    good: str = ""
    failures: int = 0
    pause: tuple[float, float] = (0.0, 0.0)  # no new session until some time between these
    is_known: bool = True  # whether the above is certain

    def is_certain(self, now: float) -> bool:
        expires_now = self.entry is not None and self.expires - LONGEST_DIAL <= now
        return self.is_known and not expires_now and not self.pause[0] <= now < self.pause[1]

    def forget_what_is_old(self, now: float) -> None:
        if now >= self.expires:
            self.entry = None
            self.is_known = True


@dataclass(frozen=True, slots=True)
class Way:
    tier: Tier
    server: str
    rank: tuple[int, bool, float]


class UnexpectedError(AssertionError):
    """The network did something that the model does not allow."""


def line(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a < b else (b, a)


@dataclass(slots=True)
class World:
    """What is so, as far as the steps decide it."""

    life: dict[str, Life]
    lines: dict[tuple[str, str], Health] = field(default_factory=dict)
    lies: dict[str, Servers | Lie] = field(default_factory=dict)
    discovery_is_up: bool = True
    memories: dict[tuple[str, str], Memory] = field(default_factory=dict)
    judged_exactly: int = 0  # dials
    last_absent: dict[str, float] = field(
        default_factory=dict
    )  # when the discovery lacked a client

    def health(self, a: str, b: str) -> Health:
        return self.lines.get(line(a, b), Health.WHOLE)

    def is_whole(self, *path: str) -> bool:
        return all(self.health(a, b) is Health.WHOLE for a, b in pairwise(path))

    def memory(self, client: str, to: str) -> Memory:
        return self.memories.setdefault((client, to), Memory())

    # ---- which ways there are ----

    def ways(
        self, client: str, entry: Servers, memory: Memory, now: float, tables: Tables
    ) -> list[Way]:
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
        if not self.is_whole(client, way.server):
            return Verdict.NO
        if way.tier is Tier.NEW_SESSION and self.life[way.server] is not Life.UP:
            return Verdict.NO
        if way.tier is Tier.NEW_SESSION and not self.discovery_is_up:
            return Verdict.MAYBE  # where the server is may be remembered
        return self._relays(way.server, to, now, tables)

    def _relays(self, server: str, to: str, now: float, tables: Tables) -> Verdict:
        if to in tables.routes.get(server, ()):
            return Verdict.YES if self.is_whole(server, to) else Verdict.NO
        ways_on = any(
            to in tables.routes.get(second, ()) and self.is_whole(server, second, to)
            for second in tables.links.get(server, ())
        )
        if not ways_on:
            return Verdict.NO
        is_absent = isinstance(tables.published[to], Lie)
        lately = now - self.last_absent.get(to, -UNKNOWN_AGE) < UNKNOWN_AGE
        return Verdict.MAYBE if is_absent or lately else Verdict.YES

    # ---- judging a dial ----

    def judge(
        self,
        client: str,
        to: str,
        outcome: Outcome,
        *,
        listens: bool,
        enough_time: bool,
        began: float,
        now: float,
        before: Tables,
        after: Tables,
    ) -> None:
        """Raise `UnexpectedError` if a dial did not end as it must; remember what it taught."""
        memory = self.memory(client, to)
        memory.forget_what_is_old(began)
        self._judge_path(client, to, outcome)
        if memory.is_certain(began):
            self._judge_time(client, to, began, now, before)
        is_certain = memory.is_certain(began)
        new = {each.server for each in outcome.attempts if each.tier == Tier.NEW_SESSION}
        new -= before.sessions[client].keys()
        stood_still = before.without(client, new) == after.without(client, new)
        entry = None
        if is_certain and stood_still and enough_time:
            self.judged_exactly += 1
            try:
                entry = self._judge_exactly(client, to, outcome, listens, began, [before, after])
            except UnexpectedError as error:
                error.add_note(f"{client} to {to} at {began:.1f}: {outcome}, {memory}, {before}")
                raise
        self._learn(memory, entry, outcome, now, enough_time=enough_time)

    def _judge_path(self, client: str, to: str, outcome: Outcome) -> None:
        if outcome.path:
            _check(len(outcome.path) <= 2, f"{outcome.path} are more than two servers")
            _check(
                self.is_whole(client, *outcome.path, to),
                f"a stream leads over {outcome.path}, and that is not whole",
            )

    def _judge_time(self, client: str, to: str, began: float, now: float, tables: Tables) -> None:
        """See that nothing holds a dial up whose first way leads there."""
        memory = self.memory(client, to)
        entry = tables.published[to] if memory.entry is None else memory.entry
        if not isinstance(entry, tuple):
            return
        ways = self.ways(client, entry, memory, began, tables)
        first = min((way.rank for way in ways), default=None)
        best = [way for way in ways if way.rank == first]
        verdicts = {self.leads(way, client, to, began, tables) for way in best}
        if verdicts == {Verdict.YES}:
            _check(now - began < PROMPT, f"{now - began:.1f} s by a way that leads there at once")

    def _judge_exactly(
        self, client: str, to: str, outcome: Outcome, listens: bool, now: float,
        tables_of_passes: Sequence[Tables],
    ) -> Servers | None:  # fmt: skip
        """Judge attempts and outcome; say by which entry the dial ended, None if by none.

        A dial has a second pass where the first was by an entry that is remembered, and the
        discovery has another by now.
        """
        memory = self.memory(client, to)
        rest = list(outcome.attempts)
        entries: list[Published] = [tables_of_passes[0].published[to]]
        if memory.entry is not None:
            entries.insert(0, memory.entry)
        if isinstance(entries[-1], tuple) and set(memory.entry or ()) == set(entries[-1]):
            entries.pop()
        for number, (entry, tables) in enumerate(zip(entries, tables_of_passes, strict=False)):
            if entry is None and number == 0:
                entry = NOWHERE
            if entry is None or isinstance(entry, Lie):
                self._check_unknown(entry, outcome, rest)
                return None
            if outcome.code == Code.NO_LISTENER:
                verdicts = self._verdicts(client, to, entry, now, tables)
                if verdicts == {Verdict.NO} or not verdicts:
                    continue
                _check(not listens, "refused by a port that is open")
                return entry if verdicts <= {Verdict.YES, Verdict.NO} else None
            if self._follow(client, to, entry, rest, now, tables):
                _check(listens, "opened a port that is closed")
                return entry
            if entry == NOWHERE:
                _check(not rest, f"attempted {rest} without an entry")
                code = Code.NOT_REACHED if outcome.attempts else Code.NO_DISCOVERY
                _check(outcome.code == code, f"{outcome.code} without an entry")
                return None
        _check(not rest, f"attempted {rest} where nothing was left to try")
        _check(outcome.code == Code.NOT_REACHED, f"{outcome.code} where no way leads there")
        return None

    def _verdicts(
        self, client: str, to: str, entry: Servers, now: float, tables: Tables
    ) -> set[Verdict]:
        ways = self.ways(client, entry, self.memory(client, to), now, tables)
        return {self.leads(way, client, to, now, tables) for way in ways}

    def _check_unknown(
        self, entry: Lie | None, outcome: Outcome, rest: Sequence[Attempted]
    ) -> None:
        codes = {
            Lie.ABSENT: Code.NOT_FOUND,
            Lie.NOWHERE: Code.NO_SERVERS,
            Lie.A_SERVER: Code.NOT_A_CLIENT,
        }
        expected = int(codes[entry] if isinstance(entry, Lie) else Code.NOT_REACHED)
        _check(not rest, f"attempted {rest} without an entry")
        _check(outcome.code == expected, f"code {outcome.code} where the entry is {entry}")

    def _follow(
        self, client: str, to: str, entry: Servers, rest: list[Attempted], now: float,
        tables: Tables,
    ) -> bool:  # fmt: skip
        """Take the attempts of one pass over all ways from ``rest``; say whether one led there."""
        ways = self.ways(client, entry, self.memory(client, to), now, tables)
        while ways:
            best = min(way.rank for way in ways)
            candidates = [way for way in ways if way.rank == best]
            _check(bool(rest), f"gave up where these are left: {ways}")
            attempt = rest.pop(0)
            chosen = [way for way in candidates if (way.tier, way.server) == attempt.way]
            _check(bool(chosen), f"attempted {attempt} where these come first: {candidates}")
            verdict = self.leads(chosen[0], client, to, now, tables)
            if not attempt.failed:
                _check(verdict is not Verdict.NO, f"{attempt}: this does not lead to {to}")
                return True
            _check(verdict is not Verdict.YES, f"{attempt}: this leads to {to}")
            ways.remove(chosen[0])
        return False

    def learn(self, client: str, to: str, outcome: Outcome, began: float, now: float) -> None:
        """Remember what a dial taught that was not judged."""
        memory = self.memory(client, to)
        memory.forget_what_is_old(began)
        self._learn(memory, None, outcome, now, enough_time=False)

    def _learn(
        self, memory: Memory, entry: Servers | None, outcome: Outcome, now: float, *,
        enough_time: bool,
    ) -> None:  # fmt: skip
        if outcome.path or outcome.code == Code.NO_LISTENER:
            if entry is None:
                memory.is_known = False
            if entry != NOWHERE:  # by which nothing is learned of where it is
                if memory.entry is None or entry != memory.entry:
                    memory.expires = now + ENTRY_AGE
                memory.entry = entry
            if outcome.path:
                memory.good = outcome.path[0]
                memory.failures = 0
                memory.pause = (0.0, 0.0)
        elif outcome.code == Code.NOT_REACHED:
            if self.discovery_is_up and enough_time:
                memory.entry = None
                memory.is_known = True
            elif self.discovery_is_up and memory.entry is not None:
                memory.is_known = False  # there may have been no time to ask for a newer one
            ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * 2**memory.failures)
            memory.failures += 1
            memory.pause = (now + ceiling / 2, now + ceiling)
        elif outcome.code in (Code.NOT_FOUND, Code.NOT_A_CLIENT, Code.NO_SERVERS):
            memory.entry = None
        elif outcome.code != Code.NO_DISCOVERY:
            memory.is_known = False
            memory.expires = now + ENTRY_AGE


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise UnexpectedError(otherwise)
