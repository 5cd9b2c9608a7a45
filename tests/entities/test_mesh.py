"""Servers that relay for each other."""

from trio.testing import MockClock

import trio

from dmsg_trio.testing import Network


async def test_servers_link_up_by_themselves(autojump_clock: MockClock) -> None:
    async with Network(servers=4) as network:
        await trio.sleep(70)
        for server in network.servers:
            assert len(server.peers) == 3


async def test_a_relay_passes_streams_to_the_server_of_the_destination(
    autojump_clock: MockClock,
) -> None:
    async with Network(servers=1) as network, network.client() as a:
        other = await network.start_server()
        first = network.servers[0]
        async with network.client() as b:
            print(a, b, list(b.sessions), first.pk)
