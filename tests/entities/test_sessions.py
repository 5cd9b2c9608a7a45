"""Sessions of clients: how many, with whom, and what happens when servers or keys come twice."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import Client, open_client
from dmsg_trio._errors import DiscoveryError, UnreachableError
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.backoff import LONGEST_DELAY
from dmsg_trio._net.carriers import Carrier, StreamCarrier
from dmsg_trio._wire.entries import Entry, ServerInfo
from dmsg_trio.discovery import MemoryDiscovery
from dmsg_trio.server._replacements import MAX_REPLACEMENTS
from dmsg_trio.testing import Network, memory_connection
from tests.entities.parties import connect, failed_handshakes, receive_all


async def still_reach(a: Client, b: Client) -> None:
    near, far = await connect(a, b)
    await near.send_all(b"hello")
    await near.aclose()
    assert await receive_all(far) == b"hello"
    await far.aclose()


async def test_a_client_keeps_as_many_sessions_as_it_wants(autojump_clock: MockClock) -> None:
    async with Network(servers=4) as network, AsyncExitStack() as stack:
        for wanted, expected in [(1, 1), (2, 2), (3, 3), (0, 4), (9, 4)]:
            client = await stack.enter_async_context(network.client(min_sessions=wanted))
            await trio.sleep(3)
            assert len(client.sessions) == expected


async def test_a_client_that_wants_all_servers_finds_new_ones(autojump_clock: MockClock) -> None:
    async with Network(servers=1) as network, network.client(min_sessions=0) as a:
        new = await network.start_server()
        await trio.sleep(120)
        assert new.pk in a.sessions


async def test_the_entry_follows_the_sessions(autojump_clock: MockClock) -> None:
    async with Network(servers=2) as network, network.client(min_sessions=2) as a:
        await trio.sleep(5)
        servers = {server.pk for server in network.servers}
        assert set((await network.discovery.entry(a.pk)).delegated_servers) == servers
        await network.stop_server(network.servers[0])
        await trio.sleep(5)
        left = (network.servers[0].pk,)
        assert (await network.discovery.entry(a.pk)).delegated_servers == left


async def test_leaving_takes_the_entry_back(autojump_clock: MockClock) -> None:
    async with Network() as network:
        async with network.client() as a:
            await network.discovery.entry(a.pk)
        with pytest.raises(UnreachableError):
            await network.discovery.entry(a.pk)
        assert not len(network.servers[0].routes)


async def test_a_server_that_dies_is_replaced_by_another_soon(autojump_clock: MockClock) -> None:
    async with Network(servers=2) as network:
        async with network.client() as a, network.client() as b:
            [first] = a.sessions
            await network.stop_server(next(s for s in network.servers if s.pk == first))
            await trio.sleep(4)
            assert a.sessions
            assert first not in a.sessions
            await still_reach(a, b)


async def test_the_only_server_is_found_again_when_it_comes_back(
    autojump_clock: MockClock,
) -> None:
    async with Network() as network, network.client() as a, network.client() as b:
        key = network.servers[0]._sk
        await network.stop_server(network.servers[0])
        with pytest.raises(UnreachableError):
            await a.open_stream(b.pk, 80)
        await trio.sleep(600)
        await network.start_server(key)
        await trio.sleep(45)
        await still_reach(a, b)


async def test_a_server_behind_a_black_hole_is_left_within_20_seconds(
    autojump_clock: MockClock,
) -> None:
    async with Network(servers=2) as network:
        async with network.client() as a, network.client() as b:
            await trio.sleep(100)
            [first] = a.sessions
            network.cut_off(next(s for s in network.servers if s.pk == first))
            await trio.sleep(25)
            assert a.sessions
            assert b.sessions
            await trio.sleep(10)
            await still_reach(a, b)


async def _nothing_listens(address: str) -> Carrier:
    raise ConnectionRefusedError(address)


async def _black_hole(address: str) -> Carrier:
    await trio.sleep_forever()
    raise AssertionError


async def _says_nothing(address: str) -> Carrier:
    near, _ = memory_connection()
    return StreamCarrier(near, peer=address)


@pytest.mark.parametrize("dead", [_nothing_listens, _black_hole, _says_nothing])
async def test_dead_servers_in_the_list_hold_up_nobody(
    autojump_clock: MockClock, dead: Callable[[str], Awaitable[Carrier]]
) -> None:
    async with Network() as network:
        for number in range(5):
            key = SecretKey.generate()
            server = ServerInfo(address=f"dead-{number}.test:1", available_sessions=2000)
            entry = Entry(pk=key.pk, timestamp=network.wall_clock(), server=server)
            await network.discovery.publish(entry.signed(key))

        async def connect_to(address: str) -> Carrier:
            if address.startswith("dead"):
                return await dead(address)
            return await network.net.connect(address)

        began = trio.current_time()
        async with open_client(
            discovery=network.discovery, connect=connect_to, wall_clock=network.wall_clock
        ) as client:
            assert set(client.sessions) == {network.servers[0].pk}
        assert trio.current_time() - began < 10


async def test_redials_of_a_dead_server_become_rare(autojump_clock: MockClock) -> None:
    async with Network() as network:
        dials: list[float] = []

        async def connect_to(address: str) -> Carrier:
            dials.append(trio.current_time())
            raise ConnectionRefusedError(address)

        async with open_client(
            discovery=network.discovery,
            connect=connect_to,
            wait=False,
            wall_clock=network.wall_clock,
        ):
            await trio.sleep(3600)
        pauses = [later - earlier for earlier, later in pairwise(dials)]
        assert 3600 / LONGEST_DELAY <= len(dials) <= 2 * 3600 / LONGEST_DELAY + 10
        assert all(LONGEST_DELAY / 2 <= pause <= LONGEST_DELAY + 1 for pause in pauses[10:])
        assert len(set(pauses[10:])) > 20


class _Unreliable(MemoryDiscovery):
    """A discovery that is down for a while."""

    is_down = True

    async def available_servers(self) -> list[Entry]:
        if self.is_down:
            raise DiscoveryError("down")
        return await super().available_servers()

    async def publish(self, entry: Entry) -> None:
        if self.is_down:
            raise DiscoveryError("down")
        await super().publish(entry)


async def test_a_client_outlives_its_discovery(autojump_clock: MockClock) -> None:
    network = Network()
    network.discovery = discovery = _Unreliable(wall_clock=network.wall_clock)
    discovery.is_down = False
    async with network, network.client() as b:
        discovery.is_down = True
        async with network.client(wait=False) as a:
            await trio.sleep(600)
            assert not a.sessions
            assert b.sessions
            discovery.is_down = False
            await trio.sleep(62)
            await still_reach(a, b)
            await still_reach(b, a)


# ---- one key, twice ----


async def test_the_newest_session_of_a_key_wins(autojump_clock: MockClock) -> None:
    key = SecretKey.generate()
    async with Network() as network, network.client() as other, network.client(key) as old:
        [old_session] = old.sessions.values()
        async with network.client(key) as new:
            await old_session.connection.closed.wait()
            assert old_session.connection.was_sent_away
            listener = new.listen(80)
            stream = await other.open_stream(key.pk, 80)
            await (await listener.accept()).aclose()
            await stream.aclose()


async def test_two_clients_with_one_key_do_not_fight_for_ever(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    key = SecretKey.generate()
    async with Network() as network, network.client(key) as one, network.client(key) as other:
        server = network.servers[0]

        async def count_replacements(seconds: float) -> float:
            before = server.metrics.registry.get_sample_value("dmsg_server_sessions_accepted_total")
            await trio.sleep(seconds)
            after = server.metrics.registry.get_sample_value("dmsg_server_sessions_accepted_total")
            assert before is not None
            assert after is not None
            return after - before

        assert await count_replacements(60) <= MAX_REPLACEMENTS
        await count_replacements(3600)
        assert await count_replacements(3600) <= 24
        assert len(one.sessions) + len(other.sessions) <= 1
        assert "when another client has our key" in caplog.text


async def test_a_key_changes_hands_10_times_a_minute_at_most(autojump_clock: MockClock) -> None:
    key = SecretKey.generate()
    async with Network() as network, AsyncExitStack() as stack:
        for _ in range(MAX_REPLACEMENTS + 6):
            client = network.client(key, wait=False)
            await stack.enter_async_context(client)
            await trio.sleep(0.05)
        assert failed_handshakes(network).get("replacements", 0) >= 1
        assert len(network.servers[0].routes) == 1
