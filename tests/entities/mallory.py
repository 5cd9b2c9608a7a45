"""Mallory, a server that breaks the rules, and a network of which every place is made by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from dmsg_trio import Client, SecretKey, open_client
from dmsg_trio._address import Address
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.carriers import Carrier
from dmsg_trio._net.handshake import initiate
from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.session import Session
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio._wire.objects import PeerAnnounce, SignedObject, StreamRequest, StreamResponse
from dmsg_trio.discovery import ClientInfo, Entry, ServerInfo
from dmsg_trio.server import PeerOptions, Server, ServerOptions
from dmsg_trio.server._shares import MAX_RELAYED
from dmsg_trio.testing import Network
from tests.entities.parties import connect, receive_all
from tests.net.links import is_clean

MALLORY = SecretKey.generate()
MALLORY_AT = "mallory.test:1"
SOON = 0.1  # seconds in which what needs no waiting is done

Behaviour = Callable[[Session, MuxStream], Awaitable[None]]


async def never_answer(session: Session, stream: MuxStream) -> None:
    await trio.sleep_forever()


@dataclass
class Scene:
    """Two clients at two servers, and Mallory, a server that has a link with the first one."""

    network: Network
    near: Server
    far: Server
    a: Client
    b: Client
    mallory: Session

    async def b_claims_to_be_at(self, *servers: PublicKey) -> None:
        entry = await self.network.discovery.entry(self.b.pk)
        now = self.network.wall_clock()
        entry = entry.next_iteration(timestamp=now, client=ClientInfo(servers))
        await self.network.discovery.publish(entry.signed(self.b._sk))

    async def still_serves(self) -> float:
        """See to it that the others do not notice; say how long their dial took."""
        began = trio.current_time()
        near, far = await connect(self.a, self.b)
        seconds = trio.current_time() - began
        await near.send_all(b"hello")
        await near.aclose()
        assert await receive_all(far) == b"hello"
        await far.aclose()
        return seconds

    async def leaves_nothing(self) -> bool:
        await trio.sleep(1)
        sessions = [*self.a.sessions.values(), *self.b.sessions.values()]
        for server in (self.near, self.far):
            sessions += [*server.routes, *(link.session for link in server.peers)]
        return is_clean(*(session.connection for session in sessions))


async def register(network: Network, sk: SecretKey = MALLORY, address: str = MALLORY_AT) -> None:
    """Be a server, as far as the discovery can tell."""
    server = ServerInfo(address=address)
    entry = Entry(pk=sk.pk, timestamp=network.wall_clock(), server=server)
    await network.discovery.publish(entry.signed(sk))


@asynccontextmanager
async def dialed(
    network: Network, server: Server, sk: SecretKey = MALLORY, behave: Behaviour = never_answer
) -> AsyncIterator[Session]:
    """A session that Mallory dialed; what the server opens on it is met with ``behave``."""
    carrier = await network.net.connect(server.options.public_address)
    session = Session(await initiate(carrier, sk, server.pk, PostQuantum.OFF))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        nursery.start_soon(meet, session, behave)
        yield session
        nursery.cancel_scope.cancel()


async def meet(session: Session, behave: Behaviour) -> None:
    async with trio.open_nursery() as nursery:
        while stream := await session.connection.accept():
            nursery.start_soon(behave, session, stream)


async def announce(
    network: Network, session: Session, sk: SecretKey = MALLORY, *, late: float = 0
) -> StreamResponse:
    """Announce Mallory as a server, and read the answer."""
    timestamp = network.wall_clock() - round(late * 1e9)
    signed = SignedObject.sign(sk, PeerAnnounce(timestamp, sk.pk))
    stream = session.connection.open_stream()
    await session.send_object(stream, signed)
    answer = await session.receive_object_untrusted(stream)
    assert answer is not None
    stream.close()
    return answer.response_untrusted(signed, session.remote_pk)


async def refused(session: Session, signed: SignedObject) -> None:
    """Send an object on a new stream, which is reset."""
    stream = session.connection.open_stream()
    await session.send_object(stream, signed)
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()


def request(
    network: Network,
    source: SecretKey,
    destination: PublicKey,
    *,
    signed_by: SecretKey | None = None,
) -> SignedObject:
    """A request of ``source``, signed by it or by somebody else."""
    fields = StreamRequest(
        network.wall_clock(), Address(source.pk, 50000), Address(destination, 80)
    )
    return SignedObject.sign(signed_by or source, fields)


# ---- servers and clients whose place is made by hand ----


@asynccontextmanager
async def running(
    network: Network, at: str, *, sk: SecretKey | None = None, max_relayed: int = MAX_RELAYED,
    peers: PeerOptions | None = None,
) -> AsyncIterator[Server]:  # fmt: skip
    server = Server(
        sk or SecretKey.generate(),
        discovery=network.discovery,
        options=ServerOptions(
            public_address=at, peers=peers or PeerOptions(), max_relayed_streams=max_relayed
        ),
        connect=network.net.connect,
        wall_clock=network.wall_clock,
    )
    listener = network.net.listen(at)
    async with open_service_nursery() as nursery:
        nursery.start_soon(server.serve, [listener])
        await server.registration.done.wait()
        yield server


@asynccontextmanager
async def client_of(
    network: Network, server: Server, sk: SecretKey | None = None
) -> AsyncIterator[Client]:
    """A client that reaches one server alone."""

    async def connect_to(address: str) -> Carrier:
        if address != server.options.public_address:
            raise ConnectionRefusedError(address)
        return await network.net.connect(address)

    async with open_client(
        sk, discovery=network.discovery, connect=connect_to, wall_clock=network.wall_clock
    ) as client:
        yield client


@asynccontextmanager
async def scene(
    behave: Behaviour = never_answer, *, max_relayed: int = MAX_RELAYED
) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(servers=0))
        near = await stack.enter_async_context(
            running(network, "near.test:1", max_relayed=max_relayed)
        )
        far = await stack.enter_async_context(running(network, "far.test:1"))
        a = await stack.enter_async_context(client_of(network, near))
        b = await stack.enter_async_context(client_of(network, far))
        await register(network)
        mallory = await stack.enter_async_context(dialed(network, near, behave=behave))
        assert (await announce(network, mallory)).accepted
        await trio.sleep(10)  # the servers find each other
        assert len(near.peers) == 2
        yield Scene(network, near, far, a, b, mallory)
