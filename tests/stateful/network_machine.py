"""Takes the steps of a script on a real network in memory, and has the model judge what comes of it."""

from __future__ import annotations

import hashlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import PublicKey, SecretKey, UnreachableError
from dmsg_trio._errors import Attempt, DiscoveryError
from dmsg_trio._net import backoff
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.splice import Splice
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio.client import Client, DmsgStream, _sessions
from dmsg_trio.discovery import ClientInfo, Entry, MemoryDiscovery, ServerInfo
from dmsg_trio.discovery._rules import Policy
from dmsg_trio.discovery._service import DiscoveryService
from dmsg_trio.discovery._store import MemoryStore
from dmsg_trio.server import Server
from dmsg_trio.testing import Network

from .model import (
    Attempted,
    Code,
    Health,
    Leg,
    Life,
    Outcome,
    Published,
    Tables,
    UnexpectedError,
    World,
    line,
)
from .steps import (
    PATIENT,
    CancelDial,
    Close,
    Cut,
    Dial,
    Drain,
    FindDiscovery,
    HalfClose,
    Heal,
    Lie,
    LoseDiscovery,
    Move,
    Port,
    Reset,
    Rest,
    Script,
    Silence,
    SlowDown,
    Start,
    Step,
    Stop,
    Tell,
    TellTruth,
    Transfer,
)

OPEN_PORT: Final = 80
CLOSED_PORT: Final = 81
LATENCIES: Final = (0.005, 0.01, 0.02)  # seconds, one way; which line has which follows the seed
SERVERS: Final = ("s0", "s1", "s2", "s3")
NAMES_OF_CLIENTS: Final = ("c0", "c1", "c2", "c3")
MESH_TIME: Final = 70.0  # seconds in which each server has looked for the others
MOMENT: Final = 0.5  # seconds after a step until everything that follows from it at once is done
JOINED_WITHIN: Final = 0.001  # seconds: servers join streams right after they passed the answer on
NOTICED_WITHIN: Final = 30.0  # seconds in which a lost stream breaks
WHOLE_WITHIN: Final = 130.0  # seconds after the last fault until everybody reaches everybody
LINGER: Final = 70.0  # seconds in which what was closed is gone
REACHED_WITHIN: Final = 2.0  # seconds for a dial when all is well
MAX_STREAMS: Final = 6
MAX_ON_LINK: Final = 32  # streams, those that are being opened or closed included
MAX_DRAINS: Final = 2  # of one server: clients leave one alone for long that sends them away often


def key(name: str) -> SecretKey:
    return SecretKey(hashlib.sha256(name.encode()).digest())


KEYS: Final = {name: key(name) for name in (*SERVERS, *NAMES_OF_CLIENTS)}
PKS: Final = {name: sk.pk for name, sk in KEYS.items()}
NAMES: Final = {pk: name for name, pk in PKS.items()}


class FaultyDiscovery(MemoryDiscovery):
    """The real rules, and what a script makes of the answers."""

    def __init__(self, network: Network, world: World) -> None:
        super().__init__(wall_clock=network.wall_clock)
        self._store = MemoryStore(network.wall_clock)
        policy = Policy(test_mode=True)
        self.service = DiscoveryService(self._store, policy, wall_clock=network.wall_clock)
        self._world = world
        self.keeps: set[PublicKey] = set()  # whose withdrawal does not arrive

    async def entry(self, pk: PublicKey) -> Entry:
        await self._answer()
        match self._world.lies.get(NAMES[pk]):
            case None:
                return await super().entry(pk)
            case Lie.ABSENT:
                return await super().entry(SecretKey.generate().pk)
            case Lie.NOWHERE:
                return Entry(pk=pk, timestamp=0, client=ClientInfo(()))
            case Lie.A_SERVER:
                return Entry(pk=pk, timestamp=0, server=ServerInfo(address="nowhere.test:1"))
            case servers:
                info = ClientInfo(tuple(PKS[name] for name in servers))
                return Entry(pk=pk, timestamp=0, client=info)

    async def available_servers(self) -> list[Entry]:
        await self._answer()
        return await super().available_servers()

    async def all_servers(self) -> list[Entry]:
        await self._answer()
        return await super().all_servers()

    async def publish(self, entry: Entry) -> None:
        await self._answer()
        await super().publish(entry)

    async def withdraw(self, entry: Entry) -> None:
        await self._answer()
        if entry.pk not in self.keeps:
            await super().withdraw(entry)

    def truth(self, name: str) -> Published:
        """What a client published."""
        entry = self._store.look_up(PKS[name])
        if entry is None:
            return Lie.ABSENT
        return tuple(NAMES[pk] for pk in entry.delegated_servers) or Lie.NOWHERE

    async def _answer(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self._world.discovery_is_up:
            raise DiscoveryError("the discovery is away")


@dataclass(slots=True, eq=False)
class Kept:
    """A stream that a script opened: both its ends, and where it leads."""

    near: DmsgStream
    far: DmsgStream
    path: tuple[str, ...]  # client, servers, client
    ended: set[bool] = field(default_factory=set)  # directions; true is forth
    lost_at: float | None = None  # when a line or server on the path went

    def ends(self, *, forth: bool) -> tuple[DmsgStream, DmsgStream]:
        return (self.near, self.far) if forth else (self.far, self.near)

    def leads_over(self, a: str, b: str) -> bool:
        return line(a, b) in [line(*pair) for pair in zip(self.path, self.path[1:], strict=False)]


class Machine:
    """One network, and the steps of one script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        first = SERVERS[: script.servers]
        self.world = World({name: Life.UP if name in first else Life.DOWN for name in SERVERS})
        self.clients: dict[str, Client] = {}
        self.kept: list[Kept] = []
        self.network = Network(servers=0)
        self.discovery = FaultyDiscovery(self.network, self.world)
        self.network.discovery = self.discovery
        self._arrived: dict[str, dict[tuple[PublicKey, int], DmsgStream]] = {}
        self._drains: dict[str, int] = {}
        self._sent = 0
        self._usual_tasks: set[str] = set()

    async def run(self) -> None:
        """Take all steps, judge each, and see that all is well at the end."""
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(open_service_nursery())
            await stack.enter_async_context(self.network)
            distances = random.Random(self.script.seed)
            for a, b in combinations((*SERVERS, *NAMES_OF_CLIENTS), 2):
                self.network.slow_down(PKS[a], PKS[b], distances.choice(LATENCIES))
            for name in SERVERS[: self.script.servers]:
                await self._start(name)
            for number, min_sessions in enumerate(self.script.clients):
                name = f"c{number}"
                client = self.network.client(
                    KEYS[name], min_sessions=min_sessions, post_quantum=PostQuantum.OFF
                )
                self.clients[name] = await stack.enter_async_context(client)
                nursery.start_soon(self._accept, name)
            await trio.sleep(MESH_TIME)
            self._usual_tasks = set(tasks())
            for step in self.script.steps:
                await self._take(step)
                await trio.sleep(MOMENT)
                self._check_tables()
            await self._see_that_all_recovers()

    async def _accept(self, name: str) -> None:
        arrived = self._arrived.setdefault(name, {})
        async with self.clients[name].listen(OPEN_PORT) as listener:
            while True:
                stream = await listener.accept()
                arrived[stream.remote.pk, stream.remote.port] = stream

    # ---- steps ----

    async def _take(self, step: Step) -> None:
        match step:
            case Rest(seconds):
                await trio.sleep(seconds)
            case Start(server):
                if self.world.life[server] is Life.DOWN and self.world.discovery_is_up:
                    await self._start(server)
            case Stop(server):
                await self._stop(server)
            case Drain(server):
                self._drain(server)
            case Cut(a, b):
                self._harm(a, b, Health.CUT)
            case Silence(a, b):
                self._harm(a, b, Health.SILENT)
            case SlowDown(a, b, latency):
                self.network.slow_down(PKS[a], PKS[b], latency)
            case Heal(a, b):
                self._heal(a, b)
            case Move(client, servers):
                for server in SERVERS:
                    if server in servers:
                        self._heal(client, server)
                    else:
                        self._harm(client, server, Health.CUT)
            case Tell(client, what):
                self.world.lies[client] = what
            case TellTruth(client):
                self.world.lies.pop(client, None)
            case LoseDiscovery():
                self.world.discovery_is_up = False
            case FindDiscovery():
                self.world.discovery_is_up = True
            case Dial():
                await self._dial(step)
            case CancelDial():
                await self._cancel_dial(step)
            case Transfer() | HalfClose() | Close() | Reset():
                if self.kept:
                    await self._use(self.kept[step.stream % len(self.kept)], step)

    # ---- servers ----

    def _server(self, name: str) -> Server | None:
        return next((each for each in self.network.servers if each.pk == PKS[name]), None)

    async def _start(self, name: str) -> None:
        self.discovery.keeps.discard(PKS[name])
        await self.network.start_server(KEYS[name], post_quantum=PostQuantum.OFF)
        self.world.life[name] = Life.UP

    async def _stop(self, name: str) -> None:
        if server := self._server(name):
            self.discovery.keeps.add(PKS[name])
            self.world.life[name] = Life.DOWN
            self._lose(lambda kept: name in kept.path)
            await self.network.stop_server(server)

    def _drain(self, name: str) -> None:
        server = self._server(name)
        if server and not server.is_draining and self._drains.get(name, 0) < MAX_DRAINS:
            self._drains[name] = self._drains.get(name, 0) + 1
            self.world.life[name] = Life.LEAVING
            self._lose(lambda kept: name in kept.path)
            server.drain()

    # ---- lines ----

    def _harm(self, a: str, b: str, health: Health) -> None:
        if self.world.health(a, b) is not Health.WHOLE:
            return
        self.world.lines[line(a, b)] = health
        self._lose(lambda kept: kept.leads_over(a, b))
        if health is Health.CUT:
            self.network.cut(PKS[a], PKS[b])
        else:
            self.network.silence(PKS[a], PKS[b])

    def _heal(self, a: str, b: str) -> None:
        self.world.lines.pop(line(a, b), None)
        self.network.heal(PKS[a], PKS[b])

    def _lose(self, is_lost: Callable[[Kept], bool]) -> None:
        for kept in self.kept:
            if kept.lost_at is None and is_lost(kept):
                kept.lost_at = trio.current_time()

    # ---- dials ----

    async def _dial(self, step: Dial) -> None:
        client, to = self.clients[step.client], self.clients[step.to]
        port = OPEN_PORT if step.port is Port.OPEN else CLOSED_PORT
        joins, before, began = self._joins(), self._tables(), trio.current_time()
        outcome = Outcome(code=Code.OUT_OF_TIME)
        try:
            with trio.fail_after(step.limit):
                async with open_service_nursery() as nursery:
                    nursery.start_soon(self._watch_links)
                    dialed = await client.dial(to.pk, port)
        except UnreachableError as error:
            outcome = Outcome(attempted(error.attempts), code=error.code)
        except DiscoveryError:
            outcome = Outcome(code=Code.NO_DISCOVERY)
        except trio.TooSlowError:
            pass
        else:
            near = dialed.stream
            await trio.sleep(JOINED_WITHIN)
            far = self._arrived[step.to].pop((near.local.pk, near.local.port))
            path = [name for name, now in self._joins().items() if now - joins.get(name, set())]
            path.sort(key=lambda name: PKS[name] != near.server_pk)
            check(
                {PKS[path[0]], PKS[path[-1]]} == {near.server_pk, far.server_pk},
                f"{path} is not where the ends are",
            )
            outcome = Outcome(attempted(dialed.attempts), tuple(path))
            self.kept.append(Kept(near, far, (step.client, *path, step.to)))
        self.world.judge(
            step.client,
            step.to,
            outcome,
            listens=step.port is Port.OPEN,
            enough_time=step.limit == PATIENT,
            began=began,
            now=trio.current_time(),
            before=before,
            after=self._tables(),
        )
        if len(self.kept) > MAX_STREAMS:
            await self._close(self.kept[0])

    async def _watch_links(self) -> None:
        """See that requests do not multiply on their way."""
        while True:
            for server in self.network.servers:
                for link in server.peers:
                    count = link.session.connection.stream_count
                    check(count < MAX_ON_LINK, f"{count} streams between two servers")
            await trio.sleep(LATENCIES[0])

    async def _cancel_dial(self, step: CancelDial) -> None:
        client, to = self.clients[step.client], self.clients[step.to]
        began, outcome = trio.current_time(), Outcome(code=Code.OUT_OF_TIME)
        with trio.move_on_after(step.after):
            try:
                stream = await client.open_stream(to.pk, OPEN_PORT)
                outcome = Outcome(path=(NAMES[stream.server_pk],))
                stream.reset()
            except UnreachableError as error:
                outcome = Outcome(code=error.code)
            except DiscoveryError:
                outcome = Outcome(code=Code.NO_DISCOVERY)
        self.world.learn(step.client, step.to, outcome, began, trio.current_time())

    def _joins(self) -> dict[str, set[Splice]]:
        """The streams that each server joins now."""
        return {NAMES[each.pk]: set(each.metrics._splices) for each in self.network.servers}

    # ---- streams ----

    async def _use(self, kept: Kept, step: Step) -> None:
        if kept.lost_at is not None:
            await self._see_it_break(kept)
            return
        match step:
            case Transfer(_, size, forth):
                await self._transfer(kept, size, forth=forth)
            case HalfClose(_, forth):
                await self._half_close(kept, forth=forth)
            case Close():
                await self._close(kept)
            case Reset(_, forth):
                sender, receiver = kept.ends(forth=forth)
                sender.reset()
                self.kept.remove(kept)
                if not kept.ended:
                    await self._see_broken(receiver)
                receiver.reset()

    async def _transfer(self, kept: Kept, size: int, *, forth: bool) -> None:
        if forth in kept.ended:
            return
        sender, receiver = kept.ends(forth=forth)
        self._sent += 1
        data = random.Random(self._sent).randbytes(size)
        received = bytearray()
        with arriving(f"{size} bytes over {kept.path}"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.send_all, data)
                while len(received) < size:
                    piece = await receiver.receive_some()
                    check(bool(piece), f"{kept.path} ended without an end")
                    received += piece
        check(received == data, f"other bytes came over {kept.path} than were sent")

    async def _half_close(self, kept: Kept, *, forth: bool) -> None:
        if forth in kept.ended:
            return
        sender, receiver = kept.ends(forth=forth)
        with arriving(f"the end over {kept.path}"):
            await sender.send_eof()
            check(await receiver.receive_some() == b"", "bytes came that nobody sent")
        kept.ended.add(forth)
        await self._transfer(kept, 100, forth=not forth)
        if len(kept.ended) == 2:
            await self._close(kept)

    async def _close(self, kept: Kept) -> None:
        self.kept.remove(kept)
        await kept.near.aclose()
        await kept.far.aclose()

    async def _see_it_break(self, kept: Kept) -> None:
        self.kept.remove(kept)
        for stream, direction in ((kept.near, False), (kept.far, True)):
            if direction not in kept.ended:
                await self._see_broken(stream)
            stream.reset()

    async def _see_broken(self, stream: DmsgStream) -> None:
        with arriving(f"the news that {stream} is gone"):
            try:
                received = await stream.receive_some()
            except trio.BrokenResourceError:
                return
        raise UnexpectedError(f"{stream} should have broken, and brought {bytes(received)!r}")

    # ---- what there is ----

    def _tables(self) -> Tables:
        servers = {NAMES[server.pk]: server for server in self.network.servers}
        return Tables(
            sessions={name: legs(client) for name, client in self.clients.items()},
            routes={
                name: frozenset(c for c in self.clients if server.routes.find(PKS[c]))
                for name, server in servers.items()
            },
            links={
                name: frozenset(other for other in SERVERS if server.peers.find(PKS[other]))
                for name, server in servers.items()
            },
            published={name: self._published(name) for name in self.clients},
        )

    def _published(self, name: str) -> Published:
        if not self.world.discovery_is_up:
            return None
        said = self.world.lies.get(name) or self.discovery.truth(name)
        if isinstance(said, Lie):
            self.world.last_absent[name] = trio.current_time()
        return said

    # ---- invariants ----

    def _check_tables(self) -> None:
        """See that streams are where they should be, and nowhere else."""
        now = trio.current_time()
        for name, life in self.world.life.items():
            if life is Life.LEAVING and not self._server(name):
                self.world.life[name] = Life.DOWN
        alive = [kept for kept in self.kept if kept.lost_at is None]
        dying = [kept for kept in self.kept if kept.lost_at is not None]
        for name, joins in self._joins().items():
            count = len(joins)
            least = sum(name in kept.path for kept in alive)
            most = least + sum(
                name in kept.path and now - (kept.lost_at or now) < NOTICED_WITHIN for kept in dying
            )
            check(least <= count <= most, f"{name} joins {count} streams, not {least} to {most}")

    # ---- the end ----

    async def _see_that_all_recovers(self) -> None:
        """Heal everything: everybody must reach everybody, and nothing may be left of the faults."""
        self.world.discovery_is_up = True
        self.world.lies.clear()
        for pair in list(self.world.lines):
            self._heal(*pair)
        for a, b in combinations((*SERVERS, *self.clients), 2):
            self.network.slow_down(PKS[a], PKS[b], LATENCIES[0])
        for kept in list(self.kept):
            await self._use(kept, Close(0))
        if Life.UP not in self.world.life.values():
            await trio.sleep(NOTICED_WITHIN)
            await self._start("s0")
        await trio.sleep(WHOLE_WITHIN)
        self._check_tables()
        self._check_mesh()
        for client, to in permutations(self.clients, 2):
            began = trio.current_time()
            await self._dial(Dial(client, to))
            check(trio.current_time() - began < REACHED_WITHIN, f"{client} took long to reach {to}")
            check(bool(self.kept), f"{client} does not reach {to}")
            await self._transfer(self.kept[-1], 1000, forth=True)
            await self._close(self.kept[-1])
            await trio.sleep(MOMENT)
        await trio.sleep(LINGER)
        for arrived in self._arrived.values():
            for orphan in arrived.values():  # of dials that were given up
                await self._see_broken(orphan)
        self._check_nothing_is_left()

    def _check_mesh(self) -> None:
        """See that all sessions, links and entries are there again."""
        up = {name for name, life in self.world.life.items() if life is Life.UP}
        tables = self._tables()
        for name in up:
            check(tables.links[name] == up - {name}, f"{name} has links with {tables.links[name]}")
        for name, wanted in zip(self.clients, self.script.clients, strict=True):
            has = set(tables.sessions[name])
            enough = has == up if wanted == 0 else len(has) >= min(wanted, len(up))
            check(enough and has <= up, f"{name} has sessions with {has}")
            check(set(tables.published[name] or ()) == has, f"{name} published another entry")
            at = {server for server in up if name in tables.routes[server]}
            check(at == has, f"{name} has sessions with {has}, and routes lead to it at {at}")

    def _check_nothing_is_left(self) -> None:
        """See that no stream, table entry or task outlived what it was for."""
        living, ends = tasks(), 0
        for server in self.network.servers:
            check(server.metrics.streams_now == 0, f"{NAMES[server.pk]} still joins streams")
            sessions = [*server.routes, *(link.session for link in server.peers.links.all)]
            ends += len(sessions)
            for session in sessions:
                check(session.connection.stream_count == 0, f"{session} still has streams")
        for client in self.clients.values():
            for session in client.sessions.values():
                check(session.connection.stream_count == 0, f"{session} still has streams")
            ends += len(client.sessions)
        check(living.keys() <= self._usual_tasks, f"{living.keys() - self._usual_tasks} go on")
        writers = sum(
            count for name, count in living.items() if name.endswith("MuxConnection._write")
        )
        check(writers == ends, f"{writers} connections for {ends} ends of sessions")


# ---- small things ----


def attempted(attempts: Sequence[Attempt]) -> tuple[Attempted, ...]:
    return tuple(
        Attempted(each.tier, NAMES[PublicKey.parse(each.server)], bool(each.reason), each.reason)
        for each in attempts
    )


def legs(client: Client) -> dict[str, Leg]:
    return {
        NAMES[pk]: Leg(session.connection.round_trip or 0.0, session.relays_across)
        for pk, session in client.sessions.items()
        if session.connection.is_open
    }


def tasks() -> Counter[str]:
    """The tasks of this run, by what they do."""
    root = trio.lowlevel.current_root_task()
    found: Counter[str] = Counter()
    rest = [root] if root else []
    while rest:
        task = rest.pop()
        found[task.name] += 1
        rest += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise UnexpectedError(otherwise)


@contextmanager
def arriving(what: str) -> Iterator[None]:
    """Expect something within the time that a lost stream takes to break."""
    try:
        with trio.fail_after(NOTICED_WITHIN):
            yield
    except trio.TooSlowError:
        raise UnexpectedError(f"{what} did not come") from None


class FaultsOfOurs(logging.Handler):
    """Keeps what is logged as an error: only bugs are."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def no_faults_logged() -> Iterator[None]:
    """Expect no error in the log; the rest of it, which is long, is left out."""
    faults = FaultsOfOurs()
    logger = logging.getLogger("dmsg_trio")
    logger.addHandler(faults)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        logger.removeHandler(faults)
    for record in faults.records:
        raise UnexpectedError(f"a fault of ours was logged: {record.getMessage()}") from (
            record.exc_info[1] if record.exc_info else None
        )


def run_script(script: Script) -> Machine:
    """Take the steps of a script on a network of its own; what is left to chance follows its seed."""
    machine: Machine | None = None

    async def main() -> None:
        nonlocal machine
        machine = Machine(script)
        await machine.run()

    with pytest.MonkeyPatch.context() as patch, no_faults_logged():
        chance = random.Random(script.seed)
        patch.setattr(backoff, "_random", chance)
        patch.setattr(_sessions, "_random", chance)
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert machine
    return machine
