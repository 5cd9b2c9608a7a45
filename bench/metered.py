"""A network in memory in which every byte is counted, by whom it is between."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.carriers import Carrier
from dmsg_trio._wire.entries import Entry
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio._wire.yamux import Buffer
from dmsg_trio.discovery import MemoryDiscovery
from dmsg_trio.server import PeerOptions, Server
from dmsg_trio.testing import Network


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went to and fro since the beginning, or between two moments."""

    connections: int = 0  # or requests
    pieces: int = 0  # writes: each is a packet at least
    size: int = 0  # bytes

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.connections + other.connections,
            self.pieces + other.pieces,
            self.size + other.size,
        )

    def __sub__(self, other: Traffic) -> Traffic:
        return self + Traffic(-other.connections, -other.pieces, -other.size)


@dataclass(slots=True)
class Ledger:
    """All traffic, by its kind; and that of each server."""

    links: Traffic = Traffic()
    sessions: Traffic = Traffic()
    look_ups: Traffic = Traffic()  # with the discovery
    by_server: Counter[PublicKey] = field(default_factory=Counter)  # bytes

    def copy(self) -> Ledger:
        return Ledger(self.links, self.sessions, self.look_ups, self.by_server.copy())


class MeteredNetwork(Network):
    """A network without servers at first, that counts what goes over it."""

    def __init__(self, *, latency: float, post_quantum: PostQuantum, on_demand: bool) -> None:
        super().__init__(servers=0, latency=latency)
        self.ledger = Ledger()
        self.discovery: MeteredDiscovery = MeteredDiscovery(self)
        self._post_quantum = post_quantum
        self._peers = PeerOptions(on_demand=on_demand)
        self._server_keys: set[PublicKey] = set()

    async def add_server(self, sk: SecretKey) -> Server:
        """Start a server; ready when this returns."""
        self._server_keys.add(sk.pk)
        return await self.start_server(sk, post_quantum=self._post_quantum, peers=self._peers)

    async def kill(self, server: Server) -> None:
        """End a server as ``kill -9`` does: its entry stays until it expires."""
        self.discovery.lost.add(server.pk)
        await self.stop_server(server)

    async def _connect(self, by: PublicKey, address: str, *, rate: float = math.inf) -> Carrier:
        carrier = await super()._connect(by, address, rate=rate)
        ends = {by, self._at[address]}
        return MeteredCarrier(carrier, self.ledger, tuple(ends & self._server_keys))


class MeteredCarrier(Carrier):
    """The dialer's end of a connection, which sees what goes either way."""

    def __init__(self, carrier: Carrier, ledger: Ledger, servers: tuple[PublicKey, ...]) -> None:
        self._carrier = carrier
        self._ledger = ledger
        self._servers = servers
        self._note(Traffic(connections=1))

    def _note(self, traffic: Traffic) -> None:
        if len(self._servers) == 2:
            self._ledger.links += traffic
        else:
            self._ledger.sessions += traffic
        for pk in self._servers:
            self._ledger.by_server[pk] += traffic.size

    async def receive(self) -> memoryview:
        data = await self._carrier.receive()
        self._note(Traffic(pieces=1, size=len(data)))
        return data

    def send_now(self, chunks: Sequence[Buffer]) -> int:
        return self._carrier.send_now(chunks)  # of memory: nothing goes out without waiting

    async def send_some(self, chunks: Sequence[Buffer]) -> int:
        sent = await self._carrier.send_some(chunks)
        self._note(Traffic(pieces=1, size=sent))
        return sent

    async def send_eof(self) -> None:
        await self._carrier.send_eof()

    async def aclose(self) -> None:
        await self._carrier.aclose()

    @property
    def peer(self) -> str:
        return self._carrier.peer


class MeteredDiscovery(MemoryDiscovery):
    """The discovery in memory; what would be JSON over HTTP is counted by the length of that JSON."""

    def __init__(self, network: MeteredNetwork) -> None:
        super().__init__(wall_clock=network.wall_clock)
        self.lost: set[PublicKey] = set()  # who cannot say good-bye
        self._network = network
        self._sizes: dict[PublicKey, int] = {}

    async def entry(self, pk: PublicKey) -> Entry:
        entry = await super().entry(pk)
        self._note(pk)
        return entry

    async def available_servers(self) -> list[Entry]:
        entries = await super().available_servers()
        self._note(*(entry.pk for entry in entries))
        return entries

    async def all_servers(self) -> list[Entry]:
        entries = await super().all_servers()
        self._note(*(entry.pk for entry in entries))
        return entries

    async def publish(self, entry: Entry) -> None:
        self._sizes[entry.pk] = len(entry.to_json())
        self._note(entry.pk)
        await super().publish(entry)

    async def withdraw(self, entry: Entry) -> None:
        if entry.pk not in self.lost:
            self._note(entry.pk)
            await super().withdraw(entry)

    def _note(self, *pks: PublicKey) -> None:
        size = sum(self._sizes[pk] for pk in pks)
        self._network.ledger.look_ups += Traffic(connections=1, pieces=2, size=size)
