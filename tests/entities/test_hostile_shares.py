"""Servers that want too much get their share, and harm nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dmsg_trio import SecretKey, UnreachableError
from dmsg_trio._net.carriers import carrier_of
from dmsg_trio._net.handshake import respond
from dmsg_trio._net.session import Session
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio._wire.objects import SignedObject, StreamResponse
from dmsg_trio._wire.yamux import HEADER, RST, SYN, WINDOW
from dmsg_trio.discovery import ClientInfo, Entry
from dmsg_trio.server import PeerOptions, Server
from dmsg_trio.server._admission import OPENS_AT_ONCE
from dmsg_trio.testing import Network
from tests.entities.mallory import (
    MALLORY,
    SOON,
    announce,
    dialed,
    never_answer,
    register,
    request,
    running,
    scene,
)
from tests.entities.parties import refusals_of

# ---- floods ----


@pytest.mark.parametrize("dialed_by", ["mallory", "the server"])
async def test_a_link_that_opens_faster_than_it_may_is_refused_by_name(
    autojump_clock: MockClock, dialed_by: str
) -> None:
    async with scene() as here:
        session, server = here.mallory, here.near
        async with AsyncExitStack() as stack:
            if dialed_by == "the server":
                other = max((SecretKey.generate() for _ in range(40)), key=lambda sk: sk.pk)
                session = await stack.enter_async_context(
                    dialed_by_server(here.network, server, other)
                )
            for _ in range(OPENS_AT_ONCE + 50):
                stream = session.connection.open_stream()
                session.connection.flush()
                await wait_all_tasks_blocked()
                stream.reset()
                await wait_all_tasks_blocked()
            assert refusals_of(server)["open_rate"] == 50
            await here.still_serves()


@asynccontextmanager
async def dialed_by_server(
    network: Network, server: Server, sk: SecretKey
) -> AsyncIterator[Session]:
    """A link that the server dialed, to somebody who says yes."""
    listener = network.net.listen("trap.test:1")
    await register(network, sk, "trap.test:1")
    with trio.fail_after(120):
        while True:  # others dial as well
            carrier = carrier_of(await listener.accept())
            established = await respond(carrier, sk, PostQuantum.OFF)
            if established.remote_pk == server.pk:
                break
            await carrier.aclose()
    session = Session(established)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        announcing = await session.connection.accept()
        assert announcing is not None
        signed = await session.receive_object_untrusted(announcing)
        assert signed is not None
        yes = StreamResponse(signed.hash, accepted=True)
        await session.send_object(announcing, SignedObject.sign(sk, yes))
        await trio.sleep(SOON)
        assert server.peers.find(sk.pk) is not None
        yield session
        nursery.cancel_scope.cancel()


async def test_a_flood_of_frames_on_a_link_harms_nobody_else(autojump_clock: MockClock) -> None:
    async with scene() as here:
        send = here.mallory.connection.carrier.send_all
        for first in range(101, 8101, 1000):
            ids = range(first, first + 1000, 2)
            await send(b"".join(HEADER.pack(0, WINDOW, SYN, each, 0) for each in ids))
            await send(b"".join(HEADER.pack(0, WINDOW, 0, each, 1) for each in ids) * 5)
            await send(b"".join(HEADER.pack(0, WINDOW, RST, each, 0) for each in ids))
        await here.still_serves()
        assert await here.leaves_nothing()


# ---- shares ----


async def test_no_more_links_than_there_may_be(autojump_clock: MockClock) -> None:
    """However they come to be: a server that is full dials nobody either."""
    options = PeerOptions(max_links=1)
    async with Network(servers=0) as network, AsyncExitStack() as stack:
        server = await stack.enter_async_context(running(network, "full.test:1", peers=options))
        await register(network)
        session = await stack.enter_async_context(dialed(network, server))
        assert (await announce(network, session)).accepted
        third = await network.start_server()
        await trio.sleep(300)
        assert server.peers.links.servers == {MALLORY.pk}
        accepted = third.metrics.registry.get_sample_value("dmsg_server_sessions_accepted_total")
        assert (len(third.peers), accepted) == (0, 0)
        assert set(refusals_of(server)) == {"too_many_links"}
        session.connection.close("for a test")
        await trio.sleep(60)
        assert server.peers.links.servers == {third.pk}, "the place is free again"


async def test_one_server_has_a_quarter_of_the_streams_and_no_more(
    autojump_clock: MockClock,
) -> None:
    """Those that nobody has answered yet included, so asking for all at once does not help."""
    async with scene(max_relayed=8) as here:
        silent = SecretKey.generate()
        async with dialed(here.network, here.near, silent):
            streams = []
            for _ in range(10):
                streams.append(here.mallory.connection.open_stream())
                source = SecretKey.generate()
                await here.mallory.send_object(
                    streams[-1], request(here.network, source, silent.pk)
                )
            await trio.sleep(SOON)
            assert refusals_of(here.near) == {"relay_capacity": 8}
            await here.still_serves()
            for stream in streams:
                stream.reset()
            await trio.sleep(SOON)
            again = here.mallory.connection.open_stream()
            await here.mallory.send_object(again, request(here.network, here.b._sk, silent.pk))
            await trio.sleep(SOON)
            assert refusals_of(here.near)["relay_capacity"] == 8, "its share is free again"
            again.reset()
        assert await here.leaves_nothing()


async def test_requests_that_a_server_leaves_waiting_fill_its_own_share_alone(
    autojump_clock: MockClock,
) -> None:
    async with scene(never_answer, max_relayed=8) as here, trio.open_nursery() as nursery:
        ghost = SecretKey.generate()
        at = Entry(
            pk=ghost.pk, timestamp=here.network.wall_clock(), client=ClientInfo((MALLORY.pk,))
        )
        await here.network.discovery.publish(at.signed(ghost))

        async def dial_in_vain() -> None:
            with pytest.raises(UnreachableError):
                await here.a.open_stream(ghost.pk, 80)

        for _ in range(10):
            nursery.start_soon(dial_in_vain)
        await trio.sleep(1)
        assert refusals_of(here.near)["relay_capacity"] >= 8
        await here.still_serves()
        nursery.cancel_scope.cancel()
