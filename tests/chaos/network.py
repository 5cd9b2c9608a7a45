"""A discovery, servers and clients as processes of their own, and what is known about each."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import msgspec
import trio

from dmsg_trio import SecretKey
from tests.chaos.lines import (
    Count,
    Dialed,
    Event,
    Join,
    Joined,
    Moved,
    Order,
    Rest,
    Resting,
    Sweep,
    Swept,
    Work,
    read_lines,
)
from tests.chaos.plan import CLIENT, DISCOVERY, SERVER, Settings, names
from tests.chaos.processes import Member, free_address
from tests.chaos.report import Look, Report
from tests.waiting import answered

READY_WITHIN: Final = 120  # seconds for everything to start, on a busy machine
AT_ONCE: Final = 4  # clients that start at a time
ANSWER_WITHIN: Final = 20  # seconds; who is dead does not answer
DRAIN: Final = "3"  # seconds for streams when a server is restarted
REACHED: Final = (1, 7)  # whom each client reaches in a sweep: the next one, and another


class ChaosClient(Member):
    """A client process; it is given orders, and tells what happens."""

    def __init__(self, name: str, join: Join, folder: Path) -> None:
        super().__init__(name, ["tests.chaos.client"], folder)
        self.join = join
        self.joined = trio.Event()
        self.swept: dict[int, Swept] = {}
        self.resting: Resting | None = None
        self.stops: list[tuple[float, float]] = []  # from when to when it was stopped

    async def tell(self, order: Order) -> None:
        """Give an order; one that just died does not get it."""
        assert self.process.stdin is not None
        with suppress(trio.BrokenResourceError):
            await self.process.stdin.send_all(msgspec.json.encode(order) + b"\n")

    def was_stopped(self, began: float, ended: float) -> bool:
        """Whether it was stopped at some time in between."""
        return any(since <= ended and began <= until for since, until in self.stops)

    def stop(self) -> None:
        """Let it do nothing any more, and remember since when."""
        self.stops.append((time.monotonic(), math.inf))
        super().stop()

    def go_on(self) -> None:
        """Let it go on."""
        since, _ = self.stops.pop()
        self.stops.append((since, time.monotonic() + 1))
        super().go_on()


class ChaosNetwork:
    """All processes; `aclose` ends them, whatever happened to them."""

    def __init__(
        self, settings: Settings, folder: Path, nursery: trio.Nursery, report: Report
    ) -> None:
        self.report = report
        self._nursery = nursery
        self._ending: set[int] = set()  # processes that end because we wanted that
        self._news = trio.Event()  # something came from a client
        self._sweeps = 0
        self._is_working = False
        discovery = free_address()
        self.url = f"http://{discovery}"
        store = f"sqlite:{folder / 'entries.sqlite'}"
        # No limit: all who ask have one address.
        arguments = ["--addr", discovery, "--test-mode", "--store", store, "--rate-limit", "0"]
        self.discovery = Member(DISCOVERY, ["dmsg_trio.discovery", *arguments], folder)
        self._health: dict[str, str] = {}
        self.servers = [self._server(name, settings, folder) for name in names(settings, SERVER)]
        self.clients = list(self._clients(settings, folder))
        members = [self.discovery, *self.servers, *self.clients]
        self.members = {member.name: member for member in members}

    def _server(self, name: str, settings: Settings, folder: Path) -> Member:
        key, address = key_of(settings, name), free_address()
        self._health[name] = free_address()
        config = {
            "secret_key": key.reveal().hex(),
            "discovery": self.url,
            "public_address": address,
            "local_address": address,
            "health_endpoint_address": self._health[name],
        }
        path = folder / f"{name.replace(' ', '-')}.json"
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        arguments = ["start", str(path), "--drain-time", DRAIN]
        return Member(name, ["dmsg_trio.server", *arguments], folder)

    def _clients(self, settings: Settings, folder: Path) -> Iterator[ChaosClient]:
        everybody = {name: key_of(settings, name) for name in names(settings, CLIENT)}
        for number, (name, key) in enumerate(everybody.items()):
            join = Join(
                key=key.reveal().hex(),
                discovery=self.url,
                min_sessions=1 + number % 2,
                seed=settings.seed * 1_000_003 + number,
                others=tuple(str(other.pk) for other in everybody.values() if other is not key),
            )
            yield ChaosClient(name, join, folder)

    # ---- life ----

    async def start_all(self) -> None:
        """Start everything; wait until all clients are on the network, and have them work."""
        with trio.fail_after(READY_WITHIN):
            for member in (self.discovery, *self.servers):
                await self.start(member)
            await self._await_servers()
            for first in range(0, len(self.clients), AT_ONCE):
                some = self.clients[first : first + AT_ONCE]
                for client in some:
                    await self.start(client)
                for client in some:
                    await client.joined.wait()
        self._is_working = True
        for client in self.clients:
            await client.tell(Work())

    async def start(self, member: Member) -> None:
        """Start a process, and watch it."""
        process = await member.start()
        self._nursery.start_soon(self._watch, member, process)
        if isinstance(member, ChaosClient):
            await member.tell(member.join)
            if self._is_working:
                await member.tell(Work())

    async def kill(self, member: Member) -> None:
        """Kill a process."""
        self._ending.add(member.pid)
        await member.kill()

    async def end(self, member: Member) -> None:
        """End a process in peace."""
        self._ending.add(member.pid)
        await member.end()

    async def aclose(self) -> None:
        """End all processes, at once."""
        self._ending.update(member.pid for member in self.members.values() if member.starts)
        async with trio.open_nursery() as nursery:
            for member in self.members.values():
                nursery.start_soon(member.aclose)

    async def _await_servers(self) -> None:
        async with httpx.AsyncClient() as http:
            for server in self.servers:
                await answered(partial(self._has_begun, server, http), within=READY_WITHIN)

    async def _has_begun(self, server: Member, http: httpx.AsyncClient) -> bool:
        if not server.is_running:
            raise RuntimeError(f"{server.name} ended: {server.log.read_text()}")
        return await self._metrics(server, http) is not None

    # ---- listening to them ----

    async def _watch(self, member: Member, process: trio.Process) -> None:
        """Take in what a process says, until it ends; that should not be its own idea."""
        assert process.stdout is not None
        async for line in read_lines(process.stdout):
            if isinstance(member, ChaosClient):
                self._take_in(member, msgspec.json.decode(line, type=Event))
        code = await process.wait()
        if process.pid not in self._ending:
            self.report.violations.append(f"{member.name} ended by itself: {code}")

    def _take_in(self, client: ChaosClient, event: Event) -> None:
        match event:
            case Joined():
                client.joined.set()
            case Dialed(began, ended):
                excused = client.was_stopped(began, ended)
                self.report.dialed(client.name, event, excused=excused)
            case Moved(began, ended):
                excused = client.was_stopped(began, ended)
                self.report.moved(client.name, event, excused=excused)
            case Swept(number):
                client.swept[number] = event
            case Resting():
                client.resting = event
        self._news.set()
        self._news = trio.Event()

    # ---- asking them ----

    async def sweep(self) -> list[str]:
        """Have each client reach some others; give those who could not, and why."""
        self._sweeps += 1
        number, count = self._sweeps, len(self.clients)
        keys = [client.join.others for client in self.clients]
        for index, client in enumerate(self.clients):
            chosen = {(step - 1) % (count - 1) for step in REACHED}
            rotated = keys[index][index:] + keys[index][:index]
            await client.tell(Sweep(number, tuple(rotated[step] for step in chosen)))
        await self._until(lambda: all(number in client.swept for client in self.clients))
        failed = [f"{each.name} says nothing" for each in self.clients if number not in each.swept]
        for client in self.clients:
            if swept := client.swept.get(number):
                failed += [f"{client.name} to {reason}" for reason in swept.failed]
        return failed

    async def rest(self) -> None:
        """Have all clients let go of everything."""
        for client in self.clients:
            await client.tell(Rest())

    async def count(self) -> None:
        """Note what is left at the clients."""
        for client in self.clients:
            await client.tell(Count())
        await self._until(lambda: all(client.resting for client in self.clients))
        for client in self.clients:
            if client.resting is None:
                self.report.violations.append(f"{client.name} says nothing")
            else:
                self.report.resting[client.name] = client.resting

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait until all clients have answered, or some never will."""
        with trio.move_on_after(ANSWER_WITHIN):
            while not condition():
                await self._news.wait()

    async def look(self) -> dict[str, Look]:
        """Look at all servers; one that does not answer is missing."""
        looks = {}
        async with httpx.AsyncClient() as http:
            for server in self.servers:
                if figures := await self._metrics(server, http):
                    looks[server.name] = Look(
                        rss=server.resident_mib(),
                        sessions=figures["dmsg_server_sessions"],
                        streams=figures["dmsg_server_streams"],
                        links=figures["dmsg_server_peer_links"],
                        queued=figures["dmsg_server_queued_bytes"],
                        files=figures["process_open_fds"],
                    )
        return looks

    async def _metrics(self, server: Member, http: httpx.AsyncClient) -> dict[str, float] | None:
        try:
            answer = await http.get(f"http://{self._health[server.name]}/metrics")
        except httpx.TransportError:
            return None
        lines = [line.rpartition(" ") for line in answer.text.splitlines() if line[0] != "#"]
        return {name: float(value) for name, _, value in lines}


def key_of(settings: Settings, name: str) -> SecretKey:
    """The key of a party, from the seed."""
    return SecretKey(hashlib.sha256(f"{settings.seed} {name}".encode()).digest())
