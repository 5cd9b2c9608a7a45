"""Servers that relay for each other, and the order in which a client dials."""

from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import DiscoveryError, PublicKey, SecretKey, UnreachableError
from dmsg_trio.client import Client, DmsgStream
from dmsg_trio.discovery import ClientInfo, Entry
from dmsg_trio.server import PeerOptions, Server
from dmsg_trio.testing import Network

MESH_TIME = 70  # seconds after which every server has looked for the others


async def echo(stream: DmsgStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send_all(data)


async def talk(a: Client, b: Client) -> DmsgStream:
    """Dial, and see that bytes and ends go both ways."""
    async with trio.open_nursery() as nursery, b.listen(80) as listener:
        nursery.start_soon(trio.serve_listeners, echo, [listener])
        stream = await a.open_stream(b.pk, 80)
        await stream.send_all(b"over")
        await stream.send_eof()
        assert b"".join([bytes(data) async for data in stream]) == b"over"
        nursery.cancel_scope.cancel()
    return stream


def server_of(network: Network, client: Client) -> Server:
    (pk,) = client.sessions
    (server,) = [each for each in network.servers if each.pk == pk]
    return server


async def test_servers_link_up_by_themselves_one_link_a_pair(autojump_clock: MockClock) -> None:
    async with Network(servers=4) as network:
        await trio.sleep(MESH_TIME)
        for server in network.servers:
            assert len(server.peers) == server.peers.wanted == 3
            assert len(server.routes) == 0, "links are not clients"


async def test_a_server_tells_of_its_links(autojump_clock: MockClock) -> None:
    async with Network(servers=3) as network:
        await trio.sleep(MESH_TIME)
        server = network.servers[0]
        text = server.metrics.text().decode()
        assert "dmsg_server_peer_links 2.0" in text
        assert "dmsg_server_mesh_completeness 1.0" in text
        for other in network.servers[1:]:
            assert f'dmsg_server_peer_round_trip_seconds{{server="{other.pk}"}}' in text


async def test_clients_of_two_servers_reach_each_other(autojump_clock: MockClock) -> None:
    async with Network(servers=1) as network, network.client() as a:
        first = network.servers[0]
        await network.start_server()
        await trio.sleep(MESH_TIME)
        sk = SecretKey.generate()
        while True:  # the choice of a server is random
            async with network.client(sk) as b:
                if first.pk not in b.sessions:
                    stream = await talk(a, b)
                    assert stream.server_pk == first.pk, "no new session was needed"
                    assert set(a.sessions) == {first.pk}
                    return


async def test_a_lost_link_comes_back(autojump_clock: MockClock) -> None:
    async with Network(servers=2) as network:
        await trio.sleep(MESH_TIME)
        one, other = network.servers
        (link,) = one.peers
        link.session.connection.close("for a test")
        await trio.sleep(10)
        assert len(one.peers) == len(other.peers) == 1


async def test_a_server_that_vanished_is_let_go(autojump_clock: MockClock) -> None:
    async with Network(servers=2) as network:
        await trio.sleep(MESH_TIME)
        one, other = network.servers
        await network.stop_server(other)
        await trio.sleep(300)
        assert len(one.peers) == one.peers.wanted == 0


async def test_a_dial_tries_the_three_tiers_in_order_and_names_them(
    autojump_clock: MockClock,
) -> None:
    """Somebody whose entry is all that is left: each way fails for its own reason."""
    ghost, ghost_server = SecretKey.generate(), SecretKey.generate()
    async with Network(servers=2) as network, network.client(min_sessions=0) as a:
        await trio.sleep(MESH_TIME)
        assert len(a.sessions) == 2
        servers = ClientInfo((ghost_server.pk, network.servers[0].pk))
        entry = Entry(pk=ghost.pk, timestamp=network.wall_clock(), client=servers)
        await network.discovery.publish(entry.signed(ghost))
        zero, one = (str(server.pk) for server in network.servers)
        with pytest.raises(UnreachableError) as caught:
            await a.open_stream(ghost.pk, 80)
    assert caught.value.code == 202
    tried = [(attempt.tier, attempt.server) for attempt in caught.value.attempts]
    assert tried == [(1, zero), (2, one), (3, str(ghost_server.pk))]


async def test_a_client_moves_before_a_draining_server_is_gone(autojump_clock: MockClock) -> None:
    async with Network(servers=2) as network, network.client() as a, network.client() as b:
        await trio.sleep(MESH_TIME)
        leaving = server_of(network, a)
        async with b.listen(80) as listener:
            near = await a.open_stream(b.pk, 80)
            far = await listener.accept()
            leaving.drain()
            await trio.sleep(5)
            assert any(pk != leaving.pk for pk in a.sessions), "a new session, before it is gone"
            entry = await network.discovery.entry(a.pk)
            assert leaving.pk not in entry.delegated_servers
            await near.send_all(b"what runs goes on")
            assert await far.receive_some() == b"what runs goes on"
            again = await a.open_stream(b.pk, 80)
            assert again.server_pk != leaving.pk


async def test_an_answer_that_is_lost_with_its_link_is_no_refusal(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Asked again over a second link, the destination says that the request came twice."""
    async with Network(servers=2) as network, network.client(min_sessions=2) as b:
        listener = b.listen(80)
        near = await network.start_server()
        await trio.sleep(MESH_TIME)
        for far in b.sessions:
            network.slow_down(near.pk, far, 0.2)

        async def lose_the_first_answer() -> None:
            stream = await listener.accept()
            network.cut(near.pk, stream.server_pk)

        while True:  # the choice of a server is random
            async with network.client() as a:
                if set(a.sessions) == {near.pk}:
                    await trio.sleep(1)  # until it knows what its server can
                    nursery.start_soon(lose_the_first_answer)
                    dialed = await a.dial(b.pk, 80)
                    assert [each.tier for each in dialed.attempts] == [2, 3]
                    return


async def test_room_for_a_link_is_used_at_once(autojump_clock: MockClock) -> None:
    async with Network(servers=0) as network:
        awaited = SecretKey.generate()
        configured = {awaited.pk: "server-2.test:8081"}
        full = await network.start_server(peers=PeerOptions(configured=configured, max_links=1))
        linked = await network.start_server()
        await trio.sleep(MESH_TIME)
        silent = PeerOptions(from_discovery=False, accepted=frozenset({full.pk}))
        await network.start_server(awaited, peers=silent)
        await trio.sleep(MESH_TIME)
        assert full.peers.links.servers == {linked.pk}
        await network.stop_server(linked)
        await trio.sleep(5)
        assert full.peers.links.servers == {awaited.pk}


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_dial_says_what_it_tried_before_the_caller_has_no_time_left(
    autojump_clock: MockClock, *, is_known: bool
) -> None:
    async with (
        Network(servers=3) as network,
        network.client(min_sessions=0) as a,
        network.client(min_sessions=0) as b,
        b.listen(80),
    ):
        await trio.sleep(5)
        if is_known:
            (await a.open_stream(b.pk, 80)).reset()
        for server in list(network.servers):
            network.cut_off(server)
        with trio.fail_after(3), pytest.raises(UnreachableError) as caught:
            await a.open_stream(b.pk, 80)
        assert len(caught.value.attempts) == 3
        assert all("its share of the time" in each.reason for each in caught.value.attempts)


async def test_without_a_discovery_those_are_reached_who_have_a_server_near_ours(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(pk: PublicKey) -> Entry:
        raise DiscoveryError("it is away")

    async with Network(servers=2) as network:
        await trio.sleep(MESH_TIME)
        async with AsyncExitStack() as stack:
            a, b, c = [await stack.enter_async_context(network.client()) for _ in range(3)]
            await trio.sleep(5)
            monkeypatch.setattr(network.discovery, "entry", away)
            for client in (b, c):
                stream = await talk(a, client)
                assert {stream.server_pk} == set(a.sessions)
            with pytest.raises(UnreachableError, match="not to be learned: it is away") as caught:
                await a.open_stream(SecretKey.generate().pk, 80)
            assert [attempt.tier for attempt in caught.value.attempts] == [2]
