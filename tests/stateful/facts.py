"""What the model is told: who has sessions and links, and how a dial ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, IntEnum

from .steps import Lie

Servers = tuple[str, ...]
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


CODES_OF_LIES = {
    Lie.ABSENT: Code.NOT_FOUND,
    Lie.NOWHERE: Code.NO_SERVERS,
    Lie.A_SERVER: Code.NOT_A_CLIENT,
}


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
    began: float = 0.0


@dataclass(frozen=True, slots=True)
class Tables:
    """Who has sessions and links with whom now, and what the discovery says."""

    sessions: Mapping[str, Mapping[str, Leg]]  # client: server: …
    twins: Mapping[str, Mapping[str, Leg]]  # those of second programs
    routes: Mapping[str, frozenset[str]]  # server: clients that it reaches
    dead_ends: Mapping[str, frozenset[str]]  # server: clients whose session there is of the dead
    links: Mapping[str, frozenset[str]]  # server: servers that it may ask
    published: Mapping[str, Published]

    def since(self, client: str) -> list[tuple[str, float]]:
        """With whom a client has sessions since when, whichever program it is."""
        programs = (self.sessions.get(client, {}), self.twins.get(client, {}))
        return [(server, leg.began) for legs in programs for server, leg in sorted(legs.items())]

    def without(self, new: Mapping[str, set[str]]) -> Tables:
        """As if these clients had no sessions with these servers: what dials themselves may change."""
        sessions = {
            c: {s: leg for s, leg in legs.items() if s not in new.get(c, ())}
            for c, legs in self.sessions.items()
        }
        routes = {
            s: frozenset(c for c in clients if s not in new.get(c, ()))
            for s, clients in self.routes.items()
        }
        published = {c: said for c, said in self.published.items() if c not in new}
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


@dataclass(frozen=True, slots=True)
class Ended:
    """A dial that is to be judged."""

    client: str
    to: str
    outcome: Outcome
    began: float
    now: float
    listens: bool = True
    enough_time: bool = True
