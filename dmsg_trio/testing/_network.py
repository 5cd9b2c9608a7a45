"""`Network`: servers, clients and a discovery, all in memory."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import trio

from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.carriers import Carrier
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio.client import Client, open_client
from dmsg_trio.discovery import MemoryDiscovery
from dmsg_trio.server import PeerOptions, Server, ServerOptions

from ._attachment import Attachment
from ._lines import Line
from ._memory import MemoryListener, MemoryNet

EPOCH: Final = 1_800_000_000 * 10**9  # nanoseconds: the wall clock as the network begins


@dataclass(slots=True)
class _Running:
    """A server, and what it takes to wait for it and to stop it."""

    server: Server
    listener: MemoryListener
    attachment: Attachment
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    stopped: trio.Event = field(default_factory=trio.Event)


class Network:
    """A dmsg network in memory.

    Enter it; it begins with ``servers`` servers. Within, `client` gives clients, `start_server` and
    `stop_server` let servers come and go, `cut_off` lets one fall silent and `cut_power` a client. Every
    connection takes ``latency`` seconds each way. ``discovery`` has the rules of a real one. The wall clock of everybody
    here goes with `trio.current_time`, and so with a `trio.testing.MockClock`.
    """

    def __init__(self, *, servers: int = 1, latency: float = 0) -> None:
        self.net = MemoryNet(latency=latency)
        self.discovery = MemoryDiscovery(wall_clock=self.wall_clock)
        self._first_servers = servers
        self._began = 0.0
        self._running: dict[PublicKey, _Running] = {}
        self._attached: dict[Client, Attachment] = {}
        self._started = 0  # servers so far
        self._stack = AsyncExitStack()
        self._latency = latency
        self._lines: dict[frozenset[PublicKey], Line] = {}
        self._at: dict[str, PublicKey] = {}  # whose an address is
        self._orders, self._orders_in = trio.open_memory_channel[_Running](math.inf)

    @property
    def servers(self) -> list[Server]:
        """The servers that run now, in the order of their starts."""
        return [running.server for running in self._running.values()]

    def wall_clock(self) -> int:
        """Nanoseconds since 1970, as everybody here has them."""
        return EPOCH + round((trio.current_time() - self._began) * 1e9)

    async def __aenter__(self) -> Self:
        """Begin with the first servers running and registered."""
        async with AsyncExitStack() as stack:
            self._began = trio.current_time()
            nursery = await stack.enter_async_context(open_service_nursery())
            nursery.start_soon(self._supervise)
            for _ in range(self._first_servers):
                await self.start_server()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop everything."""
        await self._stack.__aexit__(exc_type, exc_value, traceback)

    # ---- servers ----

    async def start_server(
        self,
        sk: SecretKey | None = None,
        *,
        post_quantum: PostQuantum = PostQuantum.OFFER,
        peers: PeerOptions | None = None,
    ) -> Server:
        """Start a server, with a fresh key unless one is given; ready when this returns."""
        sk = sk or SecretKey.generate()
        options = ServerOptions(
            public_address=f"server-{self._started}.test:8081",
            post_quantum=post_quantum,
            peers=peers or PeerOptions(),
        )
        self._started += 1
        attachment = self._attach(sk.pk)
        server = Server(
            sk,
            discovery=attachment,
            options=options,
            connect=attachment.connect,
            wall_clock=self.wall_clock,
        )
        self._at[options.public_address] = sk.pk
        running = _Running(server, self.net.listen(options.public_address), attachment)
        self._running[server.pk] = running
        self._orders.send_nowait(running)
        await server.registration.done.wait()
        return server

    async def stop_server(self, server: Server) -> None:
        """End a server as ``kill -9`` does: its connections break, and its entry stays until it expires.

        In good order it goes by `Server.drain`.
        """
        running = self._running[server.pk]
        running.attachment.die()
        running.listener.cut()
        for pair, line in self._lines.items():
            if server.pk in pair:
                line.break_all()
        running.scope.cancel()
        await running.stopped.wait()

    def cut_off(self, server: Server) -> None:
        """Let nothing through any more on the connections that ``server`` has now.

        Nobody is told: the ends learn it by what does not arrive.
        """
        self._running[server.pk].listener.stall()

    def cut_power(self, client: Client) -> None:
        """Let nothing come from ``client`` any more: all there is left to do is to leave its block.

        Nobody is told: its entry stays, and servers learn it by what does not arrive.
        """
        self._attached[client].fall_silent()

    # ---- faults between two parties ----

    def cut(self, a: PublicKey, b: PublicKey) -> None:
        """Break what connects two parties, a client and a server or two servers, until `heal`."""
        self._line(a, b).cut()

    def silence(self, a: PublicKey, b: PublicKey) -> None:
        """Let nothing through between two parties until `heal`, and tell nobody."""
        self._line(a, b).silence()

    def slow_down(self, a: PublicKey, b: PublicKey, latency: float) -> None:
        """Let everything between two parties take ``latency`` seconds each way."""
        self._line(a, b).slow_down(latency)

    def heal(self, a: PublicKey, b: PublicKey) -> None:
        """Let two parties connect again; what was silent breaks, as after a long time."""
        self._line(a, b).heal()

    def _line(self, a: PublicKey, b: PublicKey) -> Line:
        return self._lines.setdefault(frozenset((a, b)), Line(self._latency))

    def connections(self, a: PublicKey, b: PublicKey) -> int:
        """How many connections two parties made so far."""
        return self._line(a, b).made

    def _attach(self, pk: PublicKey, *, rate: float = math.inf) -> Attachment:
        async def connect(address: str) -> Carrier:
            carrier = await self._connect(pk, address, rate=rate)
            if owner := self._at.get(address):  # nothing was awaited since the line has it
                attachment.add(self._line(pk, owner).connections[-1])
            return carrier

        attachment = Attachment(self.discovery, connect)
        return attachment

    async def _connect(self, by: PublicKey, address: str, *, rate: float = math.inf) -> Carrier:
        owner = self._at.get(address)
        line = self._line(by, owner) if owner else None
        return await self.net.connect(address, rate=rate, line=line)

    async def _supervise(self) -> None:
        """Run the servers that are asked for."""
        async with trio.open_nursery() as nursery:
            async for running in self._orders_in:
                nursery.start_soon(self._run_server, running)

    async def _run_server(self, running: _Running) -> None:
        try:
            with running.scope:
                await running.server.serve([running.listener])
        finally:
            await trio.aclose_forcefully(running.listener)
            del self._running[running.server.pk]
            running.stopped.set()

    # ---- clients ----

    @asynccontextmanager
    async def client(
        self,
        sk: SecretKey | None = None,
        *,
        min_sessions: int = 1,
        wait: bool = True,
        post_quantum: PostQuantum = PostQuantum.OFFER,
        rate: float = math.inf,
    ) -> AsyncIterator[Client]:
        """Be a client of this network for the block, over lines of ``rate`` bytes per second."""
        sk = sk or SecretKey.generate()
        attachment = self._attach(sk.pk, rate=rate)
        async with open_client(
            sk,
            discovery=attachment,
            min_sessions=min_sessions,
            wait=wait,
            post_quantum=post_quantum,
            connect=attachment.connect,
            wall_clock=self.wall_clock,
        ) as client:
            self._attached[client] = attachment
            try:
                yield client
            finally:
                del self._attached[client]
