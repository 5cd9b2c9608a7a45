"""`Network`: servers, clients and a discovery that live in one nursery."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Final, Self

import trio

from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.client import Client, open_client
from dmsg_trio.discovery import MemoryDiscovery
from dmsg_trio.server import Server, ServerOptions

from ._memory import MemoryNet

EPOCH: Final = 1_800_000_000 * 10**9  # nanoseconds: the wall clock as the network begins


class Network:
    """A dmsg network in memory; enter it, then `client`, `start_server` and `stop_server` as needed.

    ``discovery`` has the rules of a real one. Wall-clock time goes with `trio.current_time`.
    """

    def __init__(self, *, servers: int = 1) -> None:
        self.net = MemoryNet()
        self.servers: list[Server] = []
        self._first_servers = servers
        self._scopes: dict[PublicKey, trio.CancelScope] = {}
        self._stopped: dict[PublicKey, trio.Event] = {}
        self._stack = AsyncExitStack()
        self._began = 0.0

    async def __aenter__(self) -> Self:
        self._began = trio.current_time()
        self.discovery = MemoryDiscovery(wall_clock=self.wall_clock)
        self._nursery = await self._stack.enter_async_context(open_service_nursery())
        for _ in range(self._first_servers):
            await self.start_server()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(exc_type, exc_value, traceback)

    def wall_clock(self) -> int:
        """Nanoseconds since 1970, as everybody here has them."""
        return EPOCH + round((trio.current_time() - self._began) * 1e9)

    # ---- servers ----

    async def start_server(self, sk: SecretKey | None = None) -> Server:
        """Start a server, with a fresh key unless one is given; ready when this returns."""
        sk = sk or SecretKey.generate()
        address = f"server-{len(self._scopes)}.test:8081"
        options = ServerOptions(public_address=address)
        server = Server(sk, discovery=self.discovery, options=options, wall_clock=self.wall_clock)
        await self._nursery.start(self._run_server, server, address)
        self.servers.append(server)
        await server.registration.done.wait()
        return server

    async def stop_server(self, server: Server) -> None:
        """Stop a server as a power cut does: sessions end, nothing is said."""
        self._scopes[server.pk].cancel()
        await self._stopped[server.pk].wait()

    async def _run_server(
        self, server: Server, address: str, *, task_status: trio.TaskStatus[None]
    ) -> None:
        listener = self.net.listen(address)
        self._stopped[server.pk] = trio.Event()
        try:
            with trio.CancelScope() as self._scopes[server.pk]:
                await server.serve([listener], task_status=task_status)
        finally:
            await trio.aclose_forcefully(listener)
            self.servers.remove(server)
            self._stopped[server.pk].set()

    # ---- clients ----

    @asynccontextmanager
    async def client(
        self, sk: SecretKey | None = None, *, min_sessions: int = 1, wait: bool = True
    ) -> AsyncIterator[Client]:
        """Be a client of this network for the block."""
        async with open_client(
            sk,
            discovery=self.discovery,
            min_sessions=min_sessions,
            wait=wait,
            connect=self.net.connect,
            wall_clock=self.wall_clock,
        ) as client:
            yield client
