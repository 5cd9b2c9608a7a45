"""Two servers that dial each other at once, and keys that are a client's and a server's."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import Client, SecretKey, UnreachableError
from dmsg_trio._net.carriers import carrier_of
from dmsg_trio._net.handshake import respond
from dmsg_trio._net.session import Session
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio._wire.objects import PeerAnnounce, SignedObject, StreamResponse
from dmsg_trio.discovery import Entry
from dmsg_trio.server import Server, _peers
from dmsg_trio.server._links import Link
from dmsg_trio.server._server import MOVE_TIME
from dmsg_trio.testing import Network
from tests.entities.mallory import announce, client_of, register
from tests.entities.parties import connect, receive_all
from tests.net.links import is_clean

LATENCY = 0.5  # seconds each way, so that two dials cross
MESH_TIME = 70  # seconds after which every server has looked for the others


@pytest.fixture
def both_dial_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_peers, "PATIENCE", 0)


@asynccontextmanager
async def crossed() -> AsyncIterator[tuple[Network, Server, Server]]:
    """Two servers with two links, the one with the smaller key first."""
    async with Network(servers=2, latency=LATENCY) as network:
        await trio.sleep(MESH_TIME)
        small, large = sorted(network.servers, key=lambda server: server.pk)
        assert len(small.peers.links.all) == len(large.peers.links.all) == 2
        yield network, small, large


def link_in_use(server: Server) -> Link:
    [link] = server.peers
    return link


async def talk(a: Client, b: Client) -> None:
    near, far = await connect(a, b)
    await near.send_all(b"hello")
    await near.aclose()
    assert await receive_all(far) == b"hello"
    await far.aclose()


def accepted_sessions(server: Server) -> float:
    count = server.metrics.registry.get_sample_value("dmsg_server_sessions_accepted_total")
    assert count is not None
    return count


@pytest.mark.usefixtures("both_dial_at_once")
async def test_both_sides_use_the_link_that_the_smaller_key_dialed(
    autojump_clock: MockClock,
) -> None:
    async with crossed() as (_, small, large):
        assert link_in_use(small).dialed_here
        assert not link_in_use(large).dialed_here
        for server in (small, large):
            assert (len(server.peers), server.peers.wanted) == (1, 1)


@pytest.mark.usefixtures("both_dial_at_once")
@pytest.mark.parametrize("closed_by", ["small", "large"])
async def test_when_one_dies_the_other_serves_at_once(
    autojump_clock: MockClock, closed_by: str
) -> None:
    async with crossed() as (network, small, large), AsyncExitStack() as stack:
        a = await stack.enter_async_context(client_of(network, small))
        b = await stack.enter_async_context(client_of(network, large))
        await trio.sleep(10)
        await talk(a, b)
        before = accepted_sessions(small) + accepted_sessions(large)
        link = link_in_use(small if closed_by == "small" else large)
        link.session.connection.close("for a test")
        began = trio.current_time()
        await talk(a, b)
        assert trio.current_time() - began < 16 * LATENCY, (
            "as long as a dial over two servers takes"
        )
        await trio.sleep(600)
        assert not link_in_use(small).dialed_here
        assert link_in_use(large).dialed_here
        assert accepted_sessions(small) + accepted_sessions(large) == before, "one is enough"


@pytest.mark.usefixtures("both_dial_at_once")
async def test_crossing_links_do_not_flap(autojump_clock: MockClock) -> None:
    async with crossed() as (_, small, large):
        links = [*small.peers.links.all, *large.peers.links.all]
        before = accepted_sessions(small) + accepted_sessions(large)
        await trio.sleep(600)
        assert accepted_sessions(small) + accepted_sessions(large) == before
        assert [*small.peers.links.all, *large.peers.links.all] == links


async def test_links_that_do_not_cross_do_not_flap_either(autojump_clock: MockClock) -> None:
    async with Network(servers=5, latency=0.1) as network:
        await trio.sleep(600)
        assert sum(map(accepted_sessions, network.servers)) == 5 * 4 // 2
        for server in network.servers:
            assert len(server.peers.links.all) == 4


@pytest.mark.usefixtures("both_dial_at_once")
async def test_a_server_that_drains_takes_no_new_stream_over_either_link(
    autojump_clock: MockClock,
) -> None:
    async with crossed() as (network, small, large), AsyncExitStack() as stack:
        a = await stack.enter_async_context(client_of(network, small))
        b = await stack.enter_async_context(client_of(network, large))
        async with b.listen(80) as listener:
            stream = await a.open_stream(b.pk, 80)
            accepted = await listener.accept()
            large.drain()
            await trio.sleep(MOVE_TIME + 3 * LATENCY)
            assert not any(link.is_open for link in small.peers.links.all)
            await stream.send_all(b"what runs goes on")
            assert await accepted.receive_some() == b"what runs goes on"


# ---- one key, client and server ----


@asynccontextmanager
async def client_with_the_key_of_a_server() -> AsyncIterator[
    tuple[Network, Server, Server, Client, Client, Client]
]:
    """Two servers; a client of the first's key at the second; and a client at each."""
    async with Network(servers=2) as network, AsyncExitStack() as stack:
        own, other = network.servers
        a = await stack.enter_async_context(client_of(network, own))
        b = await stack.enter_async_context(client_of(network, other))
        await trio.sleep(MESH_TIME)
        both = await stack.enter_async_context(client_of(network, other, own._sk))
        await trio.sleep(5)
        yield network, own, other, both, a, b


async def test_a_key_that_is_client_and_server_at_once_works_as_both(
    autojump_clock: MockClock,
) -> None:
    async with client_with_the_key_of_a_server() as (_, own, other, both, a, b):
        await talk(both, b)  # at one server
        await talk(b, both)
        await talk(both, a)  # over the link of the same key
        await talk(a, both)
        await talk(a, b)  # which relays for others as ever
        await talk(b, a)
        assert len(own.peers) == len(other.peers) == 1
        assert set(both.sessions) == {other.pk}


async def test_the_link_and_the_client_session_of_one_key_do_not_take_each_other_s_place(
    autojump_clock: MockClock,
) -> None:
    async with client_with_the_key_of_a_server() as (_, own, other, both, a, _b):
        [session] = both.sessions.values()
        before = accepted_sessions(own) + accepted_sessions(other)
        link = link_in_use(own)
        await trio.sleep(600)
        assert link_in_use(own) is link
        assert both.sessions == {other.pk: session}
        assert accepted_sessions(own) + accepted_sessions(other) == before
        link.session.connection.close("for a test")
        await trio.sleep(10)
        assert both.sessions == {other.pk: session}, "whoever dials anew"
        await talk(a, both)
        session.connection.close("for a test")
        await trio.sleep(10)
        assert len(own.peers) == len(other.peers) == 1
        await talk(a, both)


async def test_the_entry_of_a_key_that_is_both_has_both_parts_until_one_leaves(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with Network(servers=2) as network:
        own, other = network.servers

        async def entry() -> Entry:
            return await network.discovery.entry(own.pk)

        async with client_of(network, other, own._sk):
            for _ in range(12):
                await trio.sleep(100)
                found = await entry()
                assert found.server is not None
                assert found.delegated_servers == (other.pk,)
                assert len(await network.discovery.all_servers()) == 2
        found = await entry()
        assert found.server is not None
        assert found.client is None
        await trio.sleep(600)
        assert (await entry()).client is None
        assert not caplog.records, "nobody else has this key"


async def test_who_dials_the_key_of_a_server_that_is_no_client_is_told_so(
    autojump_clock: MockClock,
) -> None:
    async with Network(servers=2) as network:
        own, other = network.servers
        async with client_of(network, own) as a:
            await trio.sleep(MESH_TIME)
            for server in (own, other):
                with pytest.raises(UnreachableError, match="is no client"):
                    await a.open_stream(server.pk, 80)


# ---- mutual announcements ----


async def answer_to_announcement(server: Server, session: Session, network: Network) -> bool:
    """Announce ``server`` on a session of its own accord; say whether the other end accepts."""
    stream = session.connection.open_stream()
    with stream.reset_unless_done():
        signed = SignedObject.sign(server._sk, PeerAnnounce(network.wall_clock(), server.pk))
        await session.send_object(stream, signed)
        answer = await session.receive_object_untrusted(stream)
        assert answer is not None
        stream.close()
        return answer.response_untrusted(signed, session.remote_pk).accepted


async def both_announce_on_every_link(network: Network, small: Server, large: Server) -> None:
    async with trio.open_nursery() as nursery:
        for server in (small, large):
            for link in server.peers.links.all:
                nursery.start_soon(answer_to_announcement, server, link.session, network)


async def nothing_is_left(*servers: Server) -> bool:
    await trio.sleep(10)
    links = [link for server in servers for link in server.peers.links.all]
    no_clients = not any(len(server.routes) for server in servers)
    return no_clients and is_clean(*(link.session.connection for link in links))


async def test_who_announce_themselves_to_each_other_on_one_session_have_one_link(
    autojump_clock: MockClock,
) -> None:
    async with Network(servers=2, latency=LATENCY / 10) as network:
        await trio.sleep(MESH_TIME)
        small, large = sorted(network.servers, key=lambda server: server.pk)
        links = [*small.peers.links.all, *large.peers.links.all]
        await both_announce_on_every_link(network, small, large)
        assert [*small.peers.links.all, *large.peers.links.all] == links
        assert [link.dialed_here for link in links] == [True, False]
        assert all(link.is_open for link in links)
        assert await nothing_is_left(small, large)


@pytest.mark.usefixtures("both_dial_at_once")
async def test_who_announce_themselves_to_each_other_on_crossing_sessions_use_one_link(
    autojump_clock: MockClock,
) -> None:
    async with crossed() as (network, small, large), AsyncExitStack() as stack:
        links = [*small.peers.links.all, *large.peers.links.all]
        await both_announce_on_every_link(network, small, large)
        assert [*small.peers.links.all, *large.peers.links.all] == links
        assert link_in_use(small).dialed_here
        assert not link_in_use(large).dialed_here
        assert await nothing_is_left(small, large)
        a = await stack.enter_async_context(client_of(network, small))
        b = await stack.enter_async_context(client_of(network, large))
        await trio.sleep(10)
        await talk(a, b)
        await talk(b, a)
        _, unused = small.peers.links.all
        assert not unused.session.connection.stream_count


async def test_who_announces_itself_on_the_session_where_it_is_asked_has_one_link(
    autojump_clock: MockClock,
) -> None:
    """The two announcements cross; the dialer's makes the link, and the other one finds it made."""
    other = SecretKey.generate()
    async with Network(latency=LATENCY / 10) as network:
        [server] = network.servers
        listener = network.net.listen("other.test:1")
        await register(network, other, "other.test:1")
        carrier = carrier_of(await listener.accept())
        session = Session(await respond(carrier, other, PostQuantum.OFF))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            asked = await session.connection.accept()
            assert asked is not None
            signed = await session.receive_object_untrusted(asked)
            assert signed is not None
            nursery.start_soon(accepted_announcement, network, session, other)
            await trio.sleep(LATENCY / 20)  # it is under way
            yes = StreamResponse(signed.hash, accepted=True)
            await session.send_object(asked, SignedObject.sign(other, yes))
            asked.close()
            await trio.sleep(10)
            [link] = server.peers.links.all
            assert link.dialed_here
            assert link.is_open
            assert await nothing_is_left(server)
            nursery.cancel_scope.cancel()


async def accepted_announcement(network: Network, session: Session, sk: SecretKey) -> None:
    assert (await announce(network, session, sk)).accepted
