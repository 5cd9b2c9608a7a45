"""Servers that have links with each other only while requests need them."""

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import UnreachableError
from dmsg_trio.client import Client
from dmsg_trio.server import PeerOptions, Server
from dmsg_trio.testing import Network

IDLE_TIME = 60
ON_DEMAND = PeerOptions(on_demand=True, idle_time=IDLE_TIME)
MESH_TIME = 70  # seconds after which a whole mesh would be there


async def networked(network: Network, servers: int, options: PeerOptions = ON_DEMAND) -> None:
    for _ in range(servers):
        await network.start_server(peers=options)
    await trio.sleep(MESH_TIME)


def links(network: Network) -> int:
    return sum(len(server.peers) for server in network.servers) // 2


def server_of(network: Network, client: Client) -> Server:
    (pk,) = client.sessions
    (server,) = [each for each in network.servers if each.pk == pk]
    return server


async def reach(near: Client, far: Client) -> None:
    """Dial over the sessions that there are, in a moment."""
    sessions = set(near.sessions)
    async with far.listen(80):
        with trio.fail_after(2):
            dialed = await near.dial(far.pk, 80)
        assert len(dialed.attempts) == 1
        await dialed.stream.aclose()
    assert set(near.sessions) == sessions


async def apart(network: Network, near: Client, nursery: trio.Nursery) -> Client:
    """Give a client whose server is another one than that of ``near``."""

    async def live(*, task_status: trio.TaskStatus[Client]) -> None:
        async with network.client() as client:
            task_status.started(client)
            await trio.sleep_forever()

    while True:  # the choice of a server is random
        client: Client = await nursery.start(live)
        if set(client.sessions) != set(near.sessions):
            return client


async def test_a_link_is_there_when_a_request_needs_it_and_no_other_one(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with Network(servers=0) as network:
        await networked(network, 5)
        assert links(network) == 0
        async with network.client() as a:
            b = await apart(network, a, nursery)
            await reach(a, b)
            assert links(network) == 1
            await reach(b, a)
            assert links(network) == 1, "one link serves both directions"
            nursery.cancel_scope.cancel()


async def test_a_link_that_nothing_uses_is_let_go_and_comes_back(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with Network(servers=0) as network:
        await networked(network, 2)
        async with network.client() as a:
            b = await apart(network, a, nursery)
            await reach(a, b)
            for _ in range(4):
                await trio.sleep(IDLE_TIME / 2)
                await reach(b, a)
            assert links(network) == 1, "used in time, by the other end"
            await trio.sleep(2 * IDLE_TIME)
            assert links(network) == 0
            assert all(server.peers.find(a.pk) is None for server in network.servers)
            await reach(a, b)
            assert links(network) == 1
            nursery.cancel_scope.cancel()


async def test_a_link_with_a_stream_is_kept(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with Network(servers=0) as network:
        await networked(network, 2)
        async with network.client() as a:
            b = await apart(network, a, nursery)
            async with b.listen(80) as listener:
                near = await a.open_stream(b.pk, 80)
                far = await listener.accept()
                await trio.sleep(10 * IDLE_TIME)
                await near.send_all(b"still here")
                assert await far.receive_some() == b"still here"
            nursery.cancel_scope.cancel()


async def test_many_requests_at_once_share_one_dial(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with Network(servers=0, latency=0.05) as network:
        await networked(network, 2)
        async with network.client() as a:
            b = await apart(network, a, nursery)
            async with b.listen(80), trio.open_nursery() as dials:
                for _ in range(20):
                    dials.start_soon(a.open_stream, b.pk, 80)
            for server in network.servers:
                assert len(server.peers.links.all) == 1
            nursery.cancel_scope.cancel()


async def test_the_least_used_link_makes_room_for_another(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """More servers than links: every client is reached all the same."""
    async with Network(servers=0) as network:
        await networked(network, 4, PeerOptions(on_demand=True, max_links=1))
        async with network.client() as a:
            here = server_of(network, a)
            others = {here.pk: a}
            while len(others) < 4:
                b = await apart(network, a, nursery)
                others[server_of(network, b).pk] = b
            for b in [each for each in others.values() if each is not a] * 2:
                await reach(a, b)
                assert [link.pk for link in here.peers] == list(b.sessions)
                await trio.sleep(1)
            nursery.cancel_scope.cancel()


async def test_configured_servers_are_linked_to_from_the_start(autojump_clock: MockClock) -> None:
    async with Network(servers=0) as network:
        first = await network.start_server(peers=ON_DEMAND)
        configured = {first.pk: first.options.public_address}
        await network.start_server(peers=PeerOptions(configured=configured, on_demand=True))
        await network.start_server(peers=ON_DEMAND)
        await trio.sleep(10 * IDLE_TIME)
        assert [len(server.peers) for server in network.servers] == [1, 1, 0]


async def test_a_server_that_keeps_all_links_gets_on_with_one_that_does_not(
    autojump_clock: MockClock,
) -> None:
    async with Network(servers=1) as network:
        await network.start_server(peers=ON_DEMAND)
        await trio.sleep(10 * MESH_TIME)
        assert links(network) == 1, "dialed by the one that wants it, whatever the keys"


async def test_a_dead_server_is_given_up_in_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The discovery still names it: who asks for it is told so before the client gives up."""
    async with Network(servers=0) as network:
        await networked(network, 2)
        async with network.client() as a:
            b = await apart(network, a, nursery)
            here, there = server_of(network, a), server_of(network, b)
            network.silence(here.pk, there.pk)
            network.silence(a.pk, there.pk)
            with trio.fail_after(20), pytest.raises(UnreachableError) as caught:
                await a.open_stream(b.pk, 80)
            across, anew = caught.value.attempts
            assert (across.tier, anew.tier) == (2, 3)
            assert across.seconds < 5
            network.heal(here.pk, there.pk)
            await trio.sleep(60)
            await reach(a, b)
            nursery.cancel_scope.cancel()
