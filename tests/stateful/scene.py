"""The network of one script, and what its steps share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import trio

from dmsg_trio import PublicKey
from dmsg_trio._net.session import Session
from dmsg_trio._net.splice import Splice
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio.client import Client, DmsgStream
from dmsg_trio.server import PeerOptions, Server
from dmsg_trio.testing import Network

from .checks import NOTICED_WITHIN
from .facts import Health, Leg, Life, Tables
from .faulty_discovery import FaultyDiscovery
from .judging import Judge
from .model import World, line
from .parties import CLIENTS, KEYS, NAMES, PKS, SERVERS
from .steps import Lie, Script

OPEN_PORT: Final = 80
CLOSED_PORT: Final = 81
MAX_ON_SESSION: Final = 32  # streams, those that are being opened or closed included
MAX_LINES: Final = 3  # of a path: two servers


@dataclass(slots=True, eq=False)
class Holder:
    """A program that is a client, maybe not the only one with its key."""

    name: str
    client: Client
    scope: trio.CancelScope
    gone: trio.Event = field(default_factory=trio.Event)
    arrived: dict[tuple[PublicKey, int], DmsgStream] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Kept:
    """A stream that a script opened: both its ends, and where it leads."""

    near: DmsgStream
    far: DmsgStream
    path: tuple[str, ...]  # client, servers, client
    holders: tuple[Holder, Holder]  # of its ends
    sessions: tuple[Session | None, ...]  # that carry its ends
    ended: set[bool] = field(default_factory=set)  # directions; true is forth
    lost_at: float | None = None  # when a line or server on the path went
    left_at: float | None = None  # when the script let go of it

    def ends(self, *, forth: bool) -> tuple[DmsgStream, DmsgStream]:
        return (self.near, self.far) if forth else (self.far, self.near)

    def leads_over(self, a: str, b: str) -> bool:
        return line(a, b) in [line(*pair) for pair in zip(self.path, self.path[1:], strict=False)]


class Scene:
    """Servers, clients, streams that are kept, and the world as the model has it."""

    def __init__(self, script: Script, nursery: trio.Nursery) -> None:
        first = SERVERS[: script.servers]
        life = {name: Life.UP if name in first else Life.DOWN for name in SERVERS}
        self.script = script
        self.world = World(life, on_demand=script.on_demand)
        self.judge = Judge(self.world)
        self.network = Network(servers=0)
        self.discovery = FaultyDiscovery(self.network, self.world)
        self.network.discovery = self.discovery
        self.latencies: dict[tuple[str, str], float] = {}  # of lines, one way
        self.holders: dict[str, Holder] = {}
        self.twins: dict[str, Holder] = {}
        self.contested: set[str] = set()  # clients whose key somebody else had
        self.handovers: dict[tuple[Server, str], list[float]] = {}  # by `Usurp`: when
        self.kept: list[Kept] = []
        self.left: list[Kept] = []  # that were let go: the news of it may still be on its way
        self.given_up: list[
            float
        ] = []  # ways of dials: until when servers may join streams for them
        self.quiet_from = 0.0  # when nothing is under way any more
        self._nursery = nursery

    # ---- servers ----

    def server(self, name: str) -> Server | None:
        return next((each for each in self.network.servers if each.pk == PKS[name]), None)

    async def start_server(self, name: str) -> Server:
        options = PeerOptions(on_demand=self.script.on_demand)
        server = await self.network.start_server(
            KEYS[name], post_quantum=PostQuantum.OFF, peers=options
        )
        self.world.life[name] = Life.UP
        return server

    # ---- clients ----

    async def start_client(self, name: str, among: dict[str, Holder]) -> None:
        among[name] = await self._nursery.start(self._be_client, name)

    async def _be_client(self, name: str, *, task_status: trio.TaskStatus[Holder]) -> None:
        """Be a client until told to go; what arrives at its port is kept for who looks for it."""
        wanted = self.script.clients[CLIENTS.index(name)]
        gone = trio.Event()
        try:
            with trio.CancelScope() as scope:
                async with self.network.client(
                    KEYS[name], min_sessions=wanted, wait=False, post_quantum=PostQuantum.OFF
                ) as client:
                    holder = Holder(name, client, scope, gone)
                    async with client.listen(OPEN_PORT) as listener:
                        task_status.started(holder)
                        while True:
                            stream = await listener.accept()
                            holder.arrived[stream.remote.pk, stream.remote.port] = stream
        finally:
            gone.set()

    async def end_client(self, name: str, among: dict[str, Holder]) -> None:
        """Let a program end, and wait until it has."""
        holder = among.pop(name)
        holder.scope.cancel()
        await holder.gone.wait()

    def programs(self, name: str) -> list[Holder]:
        """Those that are a client now."""
        return [among[name] for among in (self.holders, self.twins) if name in among]

    def arrival(self, name: str, near: DmsgStream) -> tuple[Holder, DmsgStream] | None:
        """Where a stream arrived."""
        for holder in self.programs(name):
            if far := holder.arrived.pop((near.local.pk, near.local.port), None):
                return holder, far
        return None

    # ---- streams ----

    def joins(self) -> dict[str, set[Splice]]:
        """The streams that each server joins now."""
        return {NAMES[each.pk]: set(each.metrics._splices) for each in self.network.servers}

    def leave(self, kept: Kept) -> None:
        """Note that a script lets go of a stream."""
        self.kept.remove(kept)
        kept.left_at = trio.current_time()
        self.left.append(kept)

    def joined(self, name: str) -> tuple[int, int]:
        """How many streams a server must join now at the least, and may at the most."""
        now = trio.current_time()
        self.left = [each for each in self.left if self._is_joined_until(each) > now]
        over = [each for each in (*self.kept, *self.left) if name in each.path]
        until = [self._is_joined_until(each) for each in over]
        # Of two programs with one key the server knows before them which one it sends away.
        at_risk = [not self.twins.keys().isdisjoint(each.path) for each in over]
        least = sum(end == math.inf and not risk for end, risk in zip(until, at_risk, strict=True))
        return least, sum(end > now for end in until) + self.may_be_joined

    def give_up(self, ways: int) -> None:
        """Note that a dial had no use for so many ways, on which there may be streams."""
        is_silent = Health.SILENT in self.world.lines.values()
        lasts = NOTICED_WITHIN if is_silent else self.news_time
        self.given_up += [trio.current_time() + lasts] * ways

    @property
    def may_be_joined(self) -> int:
        """How many streams of dials that were given up a server may still join."""
        now = trio.current_time()
        self.given_up = [until for until in self.given_up if until > now]
        return len(self.given_up)

    def _is_joined_until(self, kept: Kept) -> float:
        """When no server joins a stream any more."""
        if kept.lost_at is not None:
            return kept.lost_at + NOTICED_WITHIN
        if kept.left_at is not None:
            return kept.left_at + self.news_time
        return math.inf

    @property
    def news_time(self) -> float:
        """Seconds in which what is sent at one end of a stream is known at the other, and back."""
        return 2 * MAX_LINES * max(self.latencies.values(), default=0.0)

    def slow_down(self, a: str, b: str, latency: float) -> None:
        self.latencies[line(a, b)] = latency
        self.network.slow_down(PKS[a], PKS[b], latency)

    def lose(self, is_lost: Callable[[Kept], bool]) -> None:
        """Note that streams cannot live on."""
        for kept in (*self.kept, *self.left):
            if kept.lost_at is None and is_lost(kept):
                kept.lost_at = trio.current_time()

    def lose_what_was_taken(self) -> None:
        """Note the streams in sessions that those of another program with the key replaced."""
        self.lose(
            lambda kept: any(
                name in self.contested
                and (session is None or bool(session.connection.close_reason))
                for name, session in zip((kept.path[0], kept.path[-1]), kept.sessions, strict=True)
            )
        )

    # ---- what there is ----

    def tables(self) -> Tables:
        servers = {NAMES[server.pk]: server for server in self.network.servers}
        routes, dead_ends = {}, {}
        for name, server in servers.items():
            found = {c for c in CLIENTS if server.routes.find(PKS[c])}
            live = {c for c in found if any(PKS[name] in legs for legs in self._legs(c))}
            routes[name], dead_ends[name] = frozenset(live), frozenset(found - live)
        tables = Tables(
            sessions=_all_legs(self.holders),
            twins=_all_legs(self.twins),
            routes=routes,
            dead_ends=dead_ends,
            links={
                name: frozenset(other for other in SERVERS if server.peers.find(PKS[other]))
                for name, server in servers.items()
            },
            published={name: self.discovery.said_of(name) for name in CLIENTS},
        )
        for name, said in tables.published.items():
            if isinstance(said, Lie):
                self.world.last_absent[name] = trio.current_time()
        return tables

    def _legs(self, name: str) -> Iterator[dict[PublicKey, Leg]]:
        for holder in self.programs(name):
            yield legs(holder.client)

    # ---- lines ----

    def harm(self, a: str, b: str, health: Health) -> None:
        if self.world.health(a, b) is not Health.WHOLE:
            return
        self.world.lines[line(a, b)] = health
        self.lose(lambda kept: kept.leads_over(a, b))
        if health is Health.CUT:
            self.network.cut(PKS[a], PKS[b])
        else:
            self.network.silence(PKS[a], PKS[b])
            self.give_up(self.may_be_joined)

    def heal(self, a: str, b: str) -> None:
        self.world.lines.pop(line(a, b), None)
        self.network.heal(PKS[a], PKS[b])


def _all_legs(holders: dict[str, Holder]) -> dict[str, dict[str, Leg]]:
    return {
        name: {NAMES[pk]: leg for pk, leg in legs(holder.client).items()}
        for name, holder in holders.items()
    }


def legs(client: Client) -> dict[PublicKey, Leg]:
    return {
        pk: Leg(session.connection.round_trip or 0.0, session.relays_across, session.began)
        for pk, session in client.sessions.items()
        if session.connection.is_open
    }
