"""A large network lives for some minutes: it starts, rests, and then talks while servers come and go."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from bench.metered import Ledger, MeteredNetwork
from dmsg_trio._errors import DiscoveryError, UnreachableError
from dmsg_trio._keys import SecretKey
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio.client import Client, DmsgStream
from dmsg_trio.server import Server

PORT: Final = 80
AFTERMATH: Final = 5  # seconds after an event in which a dial may fail
DIAL_LIMIT: Final = 20  # seconds that a dial may take
LINK_UP: Final = 180  # seconds that the mesh gets to be whole
LOOK: Final = 0.1  # seconds, by which the time until then is too long at the most
SETTLING: Final = 20  # seconds between joining and rest
JOINS: Final = 50  # clients per second
PAGE: Final = 4096  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is simulated."""

    servers: int = 10
    clients: int = 100
    sessions: int = 1  # that each client keeps
    minutes: float = 5  # of dials and churn
    quiet_minutes: float = 2
    churn: float = 1  # per cent of the servers that leave in a minute
    dials: float = 10  # per second, of all clients together
    latency: float = 0.02  # seconds, one way
    seed: int = 1
    post_quantum: bool = False
    on_demand: bool = False  # links only while requests need them


@dataclass(frozen=True, slots=True)
class Dial:
    """One dial, and what came of it."""

    began: float
    seconds: float
    tier: int = 0  # of the way that worked
    attempts: int = 1
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """A server that left."""

    time: float
    kind: str


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of the life, and what it took."""

    name: str
    seconds: float  # simulated
    cpu: float  # seconds, real
    memory: int  # bytes resident at its end
    links: int
    completeness: float  # links per pair of servers
    before: Ledger
    after: Ledger


@dataclass(slots=True)
class Findings:
    """All that a simulation showed."""

    phases: dict[str, Phase] = field(default_factory=dict)
    dials: list[Dial] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    sessions: int = 0  # of all clients at the end

    def is_soon(self, dial: Dial) -> bool:
        """Whether a server left while a dial was under way, or shortly before."""
        ended = dial.began + dial.seconds
        return any(dial.began - AFTERMATH < event.time <= ended for event in self.events)


class Simulation:
    """A network as a plan wants it."""

    def __init__(self, plan: Plan, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._tell = tell
        self._findings = Findings()
        self._random = random.Random(plan.seed)
        self._post_quantum = PostQuantum.OFFER if plan.post_quantum else PostQuantum.OFF
        self._network = MeteredNetwork(
            latency=plan.latency, post_quantum=self._post_quantum, on_demand=plan.on_demand
        )
        self._clients: list[Client] = []

    async def run(self) -> Findings:
        """Go through all phases."""
        async with self._network, trio.open_nursery() as nursery:
            await self._phase("start", self._start_servers)
            await self._phase("link up", self._link_up)
            await self._phase("join", partial(self._join, nursery))
            await self._phase("settle", partial(trio.sleep, SETTLING))
            await self._phase("quiet", partial(trio.sleep, 60 * self._plan.quiet_minutes))
            await self._phase("churn", self._churn)
            self._findings.sessions = sum(len(client.sessions) for client in self._clients)
            nursery.cancel_scope.cancel()
        return self._findings

    async def _phase(self, name: str, live: Callable[[], Awaitable[None]]) -> None:
        gc.collect()
        gc.freeze()  # so that what lives on costs nothing when the next phase is cleaned up
        before, began, cpu = self._network.ledger.copy(), trio.current_time(), time.process_time()
        await live()
        servers = self._network.servers
        links = sum(len(server.peers) for server in servers) // 2
        phase = Phase(
            name=name,
            seconds=trio.current_time() - began,
            cpu=time.process_time() - cpu,
            memory=_resident(),
            links=links,
            completeness=links / max(1, len(servers) * (len(servers) - 1) // 2),
            before=before,
            after=self._network.ledger.copy(),
        )
        self._findings.phases[name] = phase
        self._tell(
            f"{name}: {phase.seconds:.1f} s, {phase.cpu:.1f} s of CPU, "
            f"{phase.memory / 1e6:.0f} MB, {links} links"
        )

    # ---- how it begins ----

    async def _start_servers(self) -> None:
        for _ in range(self._plan.servers):
            await self._network.add_server(self._new_key())

    async def _link_up(self) -> None:
        wanted = 0 if self._plan.on_demand else self._plan.servers - 1
        with trio.move_on_after(LINK_UP):
            for server in self._network.servers:
                while len(server.peers) < wanted:  # noqa: ASYNC110 - it tells nobody of its links
                    await trio.sleep(LOOK)

    async def _join(self, nursery: trio.Nursery) -> None:
        async with trio.open_nursery() as joining:
            for _ in range(self._plan.clients):
                joining.start_soon(nursery.start, self._be_client)
                await trio.sleep(1 / JOINS)

    async def _be_client(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        sk = self._new_key()
        async with self._network.client(
            sk, min_sessions=self._plan.sessions, post_quantum=self._post_quantum
        ) as client:
            self._clients.append(client)
            task_status.started()
            await trio.serve_listeners(_answer, [client.listen(PORT)])

    def _new_key(self) -> SecretKey:
        return SecretKey(self._random.randbytes(32))

    # ---- how it goes on ----

    async def _churn(self) -> None:
        async with trio.open_nursery() as dials:  # the last ones may take a little longer
            with trio.move_on_after(60 * self._plan.minutes):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._lose_servers)
                    while True:
                        one, other = self._random.sample(self._clients, 2)
                        dials.start_soon(self._dial, one, other)
                        await trio.sleep(self._random.expovariate(self._plan.dials))

    async def _dial(self, one: Client, other: Client) -> None:
        began = trio.current_time()
        tier, attempts, failure = 0, 0, ""
        try:
            with trio.fail_after(DIAL_LIMIT):
                dialed = await one.dial(other.pk, PORT)
                tier, attempts = dialed.attempts[-1].tier, len(dialed.attempts)
                await dialed.stream.aclose()
        except (UnreachableError, DiscoveryError) as error:
            failure = str(error)
        except trio.TooSlowError:
            failure = "too slow"
        except trio.BrokenResourceError:
            pass  # after it was opened
        seconds = trio.current_time() - began
        self._findings.dials.append(Dial(began, seconds, tier, attempts, failure))

    async def _lose_servers(self) -> None:
        """Let servers leave in turn, drained and killed, each for a new one that comes."""
        pause = 60 / (self._plan.servers * self._plan.churn / 100)
        kinds = {"drained": self._drain, "killed": self._network.kill}
        await trio.sleep(pause / 2)
        while True:
            for kind, lose in kinds.items():
                leaving = self._random.choice(self._network.servers)
                self._findings.events.append(Event(trio.current_time(), kind))
                self._tell(f"    {leaving.pk.short} is {kind}")
                await lose(leaving)
                await self._network.add_server(self._new_key())
                await trio.sleep(pause)

    async def _drain(self, server: Server) -> None:
        server.drain()
        await trio.lowlevel.checkpoint()


async def _answer(stream: DmsgStream) -> None:
    """Wait for the end of a stream, whatever it is."""
    try:
        async with stream:
            await stream.receive_some()
    except trio.BrokenResourceError:
        pass  # a server left


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
