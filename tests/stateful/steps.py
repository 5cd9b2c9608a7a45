"""What a script can do to a network: the steps, as values that print as the code that makes them.

Parties are named: servers ``s0``, ``s1``, …, clients ``c0``, ``c1``, …
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PATIENT: Final = 200.0  # seconds: more than any dial needs that may try all ways
NEVER: Final = math.inf  # seconds until a reply comes that is dropped


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
class OfServer:
    """What a server does."""

    server: str


class Start(OfServer):
    """Start a server, under a new address if it ran before."""


class Stop(OfServer):
    """End a server as kill -9 does: its entry stays behind."""


class Drain(OfServer):
    """Let a server leave in good order."""


@dataclass(frozen=True, slots=True)
class DelayReplies:
    """Let what a server says to requests for streams take so many seconds, or `NEVER` come."""

    server: str
    seconds: float


# ---- clients ----


@dataclass(frozen=True, slots=True)
class OfClient:
    """What a client does."""

    client: str


class Leave(OfClient):
    """Let a client go in good order: its entry goes with it."""


class LosePower(OfClient):
    """Let a client vanish: its entry and its sessions stay behind."""


class Return(OfClient):
    """Let a client that is gone come back, with its key and no memory."""


class Twin(OfClient):
    """Let a second program be who this client is."""


class EndTwin(OfClient):
    """Let the second program go, in good order."""


@dataclass(frozen=True, slots=True)
class Usurp:
    """Take a client's place at a server so many times at once, and then leave."""

    client: str
    server: str
    times: int


@dataclass(frozen=True, slots=True)
class Move:
    """Let a client reach these servers and no others."""

    client: str
    servers: tuple[str, ...]


# ---- lines ----


@dataclass(frozen=True, slots=True)
class OfLine:
    """What happens to that which connects two parties."""

    a: str
    b: str


class Cut(OfLine):
    """Break it, until it is healed."""


class Silence(OfLine):
    """Make a black hole of it, until it is healed."""


class Heal(OfLine):
    """Let the two connect again."""


@dataclass(frozen=True, slots=True)
class SlowDown:
    """Let everything between two parties take its time."""

    a: str
    b: str
    latency: float


# ---- the discovery ----


@dataclass(frozen=True, slots=True)
class Tell:
    """Let the discovery say of a client that it is at these servers, or some other lie."""

    client: str
    what: tuple[str, ...] | Lie


class TellTruth(OfClient):
    """Let the discovery say of a client what it published."""


@dataclass(frozen=True, slots=True)
class LoseDiscovery:
    """Let the discovery answer nobody."""


@dataclass(frozen=True, slots=True)
class FindDiscovery:
    """Let the discovery answer again, and at once."""


@dataclass(frozen=True, slots=True)
class DelayDiscovery:
    """Let each answer of the discovery take so many seconds."""

    seconds: float


# ---- streams ----


@dataclass(frozen=True, slots=True)
class Dial:
    """Dial, within ``limit`` seconds; what opens is kept for the steps to come."""

    client: str
    to: str
    port: Port = Port.OPEN
    limit: float = PATIENT


@dataclass(frozen=True, slots=True)
class DialAtOnce:
    """Make several dials, each from one client to another, at the same time; close what opens."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CancelDial:
    """Dial, and lose interest after so many seconds."""

    client: str
    to: str
    after: float


@dataclass(frozen=True, slots=True)
class OfStream:
    """What happens to a stream that is kept."""

    stream: int


class Close(OfStream):
    """End it, on both sides."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Send bytes over a stream that is kept, from its dialer or to it."""

    stream: int
    size: int
    forth: bool = True


@dataclass(frozen=True, slots=True)
class OneWay:
    """What happens to one direction, or one side, of a stream that is kept."""

    stream: int
    forth: bool = True


class HalfClose(OneWay):
    """End it."""


class Reset(OneWay):
    """Drop the stream there."""


Use = Transfer | HalfClose | Close | Reset
Step = (
    Rest | Start | Stop | Drain | DelayReplies | Leave | LosePower | Return | Twin | EndTwin | Usurp
    | Move | Cut | Silence | Heal | SlowDown | Tell | TellTruth | LoseDiscovery | FindDiscovery
    | DelayDiscovery | Dial | DialAtOnce | CancelDial | Use
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Script:
    """A network, and what happens in it."""

    steps: tuple[Step, ...]
    servers: int = 3  # that run at the beginning
    clients: tuple[int, ...] = (0, 1, 1)  # the sessions that each wants; 0 is all
    seed: int = 0  # of every choice that the code makes by chance
    on_demand: bool = False  # whether servers make links only when requests need them
