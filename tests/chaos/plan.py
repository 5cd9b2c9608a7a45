"""Which faults happen when: decided by a seed, before anything is started."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

DISCOVERY: Final = "discovery"
SERVER: Final = "server"
CLIENT: Final = "client"
WITHIN: Final = 0.2  # of the whole time, for the discovery's outage to begin
SETTLE: Final = 2  # seconds in which a process starts again


class Kind(StrEnum):
    """What happens to a process."""

    KILL = "kill -9"
    STOP = "SIGSTOP"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to one process, and is put right after ``lasts`` seconds."""

    at: float
    target: str
    kind: Kind
    lasts: float

    @property
    def over(self) -> float:
        """When it is put right."""
        return self.at + self.lasts

    def __str__(self) -> str:
        return f"{self.target}: {self.kind} for {self.lasts:g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How large, how long, how bad."""

    servers: int = 5
    clients: int = 50
    seconds: float = 300  # with faults; all of them are over by then
    seed: int = 0
    discovery_outage: float = 0  # seconds without a discovery
    every: float = 4  # seconds from fault to fault, on average
    watch: float = 35  # seconds to look on after the last fault

    def __post_init__(self) -> None:
        if self.servers < 2 or self.clients < 2:
            raise ValueError("two servers and two clients are the least")
        if self.discovery_outage > self.seconds * (1 - WITHIN):
            raise ValueError(
                f"an outage of {self.discovery_outage:g} s needs more than {self.seconds:g} s"
            )


@dataclass(frozen=True, slots=True)
class _Choice:
    weight: int
    role: str
    kind: Kind
    lasts: tuple[float, ...]


CHOICES: Final = (
    _Choice(4, SERVER, Kind.KILL, (1, 5, 20)),
    _Choice(4, SERVER, Kind.STOP, (5, 30, 120)),
    _Choice(2, SERVER, Kind.RESTART, (3,)),  # with a grace of that length
    _Choice(2, CLIENT, Kind.KILL, (1, 5, 20)),
    _Choice(2, CLIENT, Kind.STOP, (5, 30, 120)),
    _Choice(1, DISCOVERY, Kind.STOP, (5, 30)),
)


def names(settings: Settings, role: str) -> list[str]:
    """The processes of a role."""
    if role == DISCOVERY:
        return [DISCOVERY]
    count = settings.servers if role == SERVER else settings.clients
    return [f"{role} {number}" for number in range(count)]


def make_plan(settings: Settings) -> list[Fault]:
    """Draw all faults; one process suffers one at a time, and at most half of the servers do."""
    random = Random(settings.seed)
    plan: list[Fault] = []
    if settings.discovery_outage:
        at = random.uniform(0, WITHIN) * settings.seconds
        plan.append(Fault(at, DISCOVERY, Kind.KILL, settings.discovery_outage))
    time = random.expovariate(1 / settings.every)
    while time < settings.seconds:
        drawn = _draw(random, settings)
        if drawn.over(time) < settings.seconds and _is_free(drawn, time, plan, settings):
            plan.append(Fault(time, drawn.target, drawn.kind, drawn.lasts))
            time += random.expovariate(1 / settings.every)
        else:
            time += 0.1  # one that fits may be drawn later
    return sorted(plan, key=lambda fault: fault.at)


@dataclass(frozen=True, slots=True)
class _Drawn:
    target: str
    kind: Kind
    lasts: float

    def over(self, at: float) -> float:
        return at + self.lasts


def _draw(random: Random, settings: Settings) -> _Drawn:
    (choice,) = random.choices(CHOICES, [choice.weight for choice in CHOICES])
    target = random.choice(names(settings, choice.role))
    return _Drawn(target, choice.kind, random.choice(choice.lasts))


def _is_free(drawn: _Drawn, at: float, plan: list[Fault], settings: Settings) -> bool:
    suffering = list(_suffering(plan, at, at + drawn.lasts))
    if drawn.target in suffering:
        return False
    others = {name for name in suffering if name.startswith(SERVER)}
    return not drawn.target.startswith(SERVER) or len(others) + 1 <= settings.servers // 2


def _suffering(plan: list[Fault], since: float, until: float) -> Iterator[str]:
    for fault in plan:
        if fault.at <= until and since <= fault.over + SETTLE:
            yield fault.target
