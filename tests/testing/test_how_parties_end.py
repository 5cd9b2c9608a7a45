"""Of parties in `Network`, what stays behind when they end in one way or another."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import SecretKey, UnreachableError
from dmsg_trio.testing import Network

SERVER_ENTRY_AGE = 120  # seconds
NOTICED_WITHIN = 40  # seconds in which who hears nothing takes a connection for lost


async def test_the_entry_of_a_stopped_server_stays_until_it_expires(
    autojump_clock: MockClock,
) -> None:
    async with Network(servers=2) as network:
        stopped = network.servers[0]
        await network.stop_server(stopped)
        assert stopped.pk in {entry.pk for entry in await network.discovery.all_servers()}
        await trio.sleep(SERVER_ENTRY_AGE)
        assert stopped.pk not in {entry.pk for entry in await network.discovery.all_servers()}


async def test_a_server_that_drains_takes_its_entry_back(autojump_clock: MockClock) -> None:
    async with Network(servers=2) as network:
        left = network.servers[0]
        left.drain()
        await trio.sleep(1)
        assert left not in network.servers
        assert left.pk not in {entry.pk for entry in await network.discovery.all_servers()}


async def test_a_stopped_server_comes_back_under_its_key(autojump_clock: MockClock) -> None:
    sk = SecretKey.generate()
    async with Network(servers=0) as network:
        await network.stop_server(await network.start_server(sk))
        again = await network.start_server(sk)
        async with network.client() as client:
            assert list(client.sessions) == [again.pk]


async def test_a_client_without_power_leaves_its_entry_and_its_session(
    autojump_clock: MockClock,
) -> None:
    async with Network() as network:
        (server,) = network.servers
        async with network.client() as client:
            network.cut_power(client)
        assert (await network.discovery.entry(client.pk)).delegated_servers == (server.pk,)
        await trio.sleep(1)
        assert server.routes.find(client.pk)
        await trio.sleep(NOTICED_WITHIN)
        assert not server.routes.find(client.pk)


async def test_a_client_that_leaves_is_gone_at_once(autojump_clock: MockClock) -> None:
    async with Network() as network:
        (server,) = network.servers
        async with network.client() as client:
            pass
        with pytest.raises(UnreachableError):
            await network.discovery.entry(client.pk)
        await trio.sleep(1)
        assert not server.routes.find(client.pk)


async def test_who_comes_back_after_a_power_cut_takes_the_place_of_the_old_session(
    autojump_clock: MockClock,
) -> None:
    sk = SecretKey.generate()
    async with Network() as network, network.client() as other:
        (server,) = network.servers
        async with network.client(sk) as client:
            network.cut_power(client)
        async with network.client(sk) as again, again.listen(80):
            async with await other.open_stream(again.pk, 80):
                assert server.replacements.total == 1


async def test_connections_are_counted(autojump_clock: MockClock) -> None:
    async with Network() as network, network.client() as client:
        (server,) = network.servers
        assert network.connections(client.pk, server.pk) == 1
        network.cut(client.pk, server.pk)
        network.heal(client.pk, server.pk)
        await trio.sleep(5)
        assert network.connections(client.pk, server.pk) == 2
