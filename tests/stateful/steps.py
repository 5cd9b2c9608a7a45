"""What a script can do to a network: the steps, as values that print as the code that makes them.

Parties are named: servers ``s0``, ``s1``, …, clients ``c0``, ``c1``, …
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PATIENT: Final = 200.0  # seconds: more than any dial needs that may try all ways


class Port(StrEnum):
    """Where a dial goes."""

    OPEN = "open"
    CLOSED = "closed"  # nobody listens there


class Lie(StrEnum):
    """What a discovery may say of a client, other than the names of servers."""

    ABSENT = "absent"
    NOWHERE = "nowhere"  # a client with no servers
    A_SERVER = "a server"  # no client at all


@dataclass(frozen=True, slots=True)
class Rest:
    """Let time pass."""

    seconds: float = 1.0


# ---- servers ----


@dataclass(frozen=True, slots=True)
class Start:
    """Start a server, under a new address if it ran before."""

    server: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End a server as kill -9 does: its entry stays behind."""

    server: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Let a server leave in good order."""

    server: str


# ---- lines ----


@dataclass(frozen=True, slots=True)
class Cut:
    """Break what connects two parties, until it is healed."""

    a: str
    b: str


@dataclass(frozen=True, slots=True)
class Silence:
    """Make a black hole of what connects two parties, until it is healed."""

    a: str
    b: str


@dataclass(frozen=True, slots=True)
class SlowDown:
    """Let everything between two parties take its time."""

    a: str
    b: str
    latency: float


@dataclass(frozen=True, slots=True)
class Heal:
    """Let two parties connect again."""

    a: str
    b: str


@dataclass(frozen=True, slots=True)
class Move:
    """Let a client reach these servers and no others."""

    client: str
    servers: tuple[str, ...]


# ---- the discovery ----


@dataclass(frozen=True, slots=True)
class Tell:
    """Let the discovery say of a client that it is at these servers, or some other lie."""

    client: str
    what: tuple[str, ...] | Lie


@dataclass(frozen=True, slots=True)
class TellTruth:
    """Let the discovery say of a client what it published."""

    client: str


@dataclass(frozen=True, slots=True)
class LoseDiscovery:
    """Let the discovery answer nobody."""


@dataclass(frozen=True, slots=True)
class FindDiscovery:
    """Let the discovery answer again."""


# ---- streams ----


@dataclass(frozen=True, slots=True)
class Dial:
    """Dial, within ``limit`` seconds; what opens is kept for the steps to come."""

    client: str
    to: str
    port: Port = Port.OPEN
    limit: float = PATIENT


@dataclass(frozen=True, slots=True)
class CancelDial:
    """Dial, and lose interest after so many seconds."""

    client: str
    to: str
    after: float


@dataclass(frozen=True, slots=True)
class Transfer:
    """Send bytes over a stream that is kept, from its dialer or to it."""

    stream: int
    size: int
    forth: bool = True


@dataclass(frozen=True, slots=True)
class HalfClose:
    """End one direction of a stream that is kept."""

    stream: int
    forth: bool = True


@dataclass(frozen=True, slots=True)
class Close:
    """End a stream that is kept, on both sides."""

    stream: int


@dataclass(frozen=True, slots=True)
class Reset:
    """Drop a stream that is kept, on one side."""

    stream: int
    forth: bool = True


Step = (
    Rest | Start | Stop | Drain | Cut | Silence | SlowDown | Heal | Move | Tell | TellTruth
    | LoseDiscovery | FindDiscovery | Dial | CancelDial | Transfer | HalfClose | Close | Reset
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Script:
    """A network, and what happens in it."""

    steps: tuple[Step, ...]
    servers: int = 3  # that run at the beginning
    clients: tuple[int, ...] = (0, 1, 1)  # the sessions that each wants; 0 is all
    seed: int = 0  # of every choice that the code makes by chance
