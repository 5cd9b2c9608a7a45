"""What tests of clients and servers share."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from dmsg_trio._net.mux import MuxConnection
from dmsg_trio.client import Client, DmsgStream
from dmsg_trio.server import Server
from dmsg_trio.testing import Network


def connections(network: Network, *clients: Client) -> list[MuxConnection]:
    """All ends of all sessions."""
    sessions = [session for server in network.servers for session in server.routes]
    sessions += [session for client in clients for session in client.sessions.values()]
    return [session.connection for session in sessions]


@asynccontextmanager
async def two_clients(
    *, latency: float = 0, servers: int = 1
) -> AsyncIterator[tuple[Network, Client, Client]]:
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(servers=servers, latency=latency))
        a = await stack.enter_async_context(network.client())
        b = await stack.enter_async_context(network.client())
        await trio.sleep(5)  # what begins by itself is done with: tests count what they leave
        yield network, a, b


async def connect(a: Client, b: Client, port: int = 80) -> tuple[DmsgStream, DmsgStream]:
    """A stream from ``a`` to ``b``, as both have it."""
    async with b.listen(port) as listener:
        near = await a.open_stream(b.pk, port)
        return near, await listener.accept()


async def receive_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(piece) async for piece in stream])


async def digest_of(stream: trio.abc.ReceiveStream) -> bytes:
    """The hash of all that comes until the end."""
    digest = hashlib.sha256()
    async for piece in stream:
        digest.update(piece)
    return digest.digest()


def refusals(network: Network) -> dict[str, float]:
    """How many streams the servers refused, by reason."""
    return _counted(network.servers, "dmsg_server_streams_refused_total")


def refusals_of(server: Server) -> dict[str, float]:
    """How many streams one server refused, by reason."""
    return _counted([server], "dmsg_server_streams_refused_total")


def failed_handshakes(network: Network) -> dict[str, float]:
    """How many connections led to no session, by reason."""
    return _counted(network.servers, "dmsg_server_handshakes_failed_total")


def _counted(servers: Iterable[Server], name: str) -> dict[str, float]:
    counts: dict[str, float] = {}
    for server in servers:
        for family in _families(server.metrics.registry.collect()):
            for sample in family:
                if sample[0] == name and sample[2]:
                    counts[sample[1]] = counts.get(sample[1], 0) + sample[2]
    return counts


def _families(metrics: Iterable[object]) -> Iterable[list[tuple[str, str, float]]]:
    for family in metrics:
        samples = getattr(family, "samples", [])
        yield [(each.name, each.labels.get("reason", ""), each.value) for each in samples]
