"""Who announces itself falsely, strangely or too often is refused, and makes no second link."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import PublicKey, SecretKey
from dmsg_trio._errors import ErrorCode
from dmsg_trio._net.carriers import carrier_of
from dmsg_trio._net.handshake import respond
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.session import Session
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio._wire.objects import PeerAnnounce, SignedObject
from dmsg_trio.discovery import Entry, MemoryDiscovery
from dmsg_trio.server import PeerOptions
from dmsg_trio.server._directory import FIRST_LOOK
from dmsg_trio.server._peers import ANNOUNCE_TIMEOUT, CLOCK_TOLERANCE
from dmsg_trio.server._replacements import MAX_REPLACEMENTS
from dmsg_trio.server._strangers import UNKNOWN_AGE, WELCOME_TIME
from dmsg_trio.testing import Network
from tests.entities.mallory import (
    MALLORY,
    MALLORY_AT,
    announce,
    dialed,
    refused,
    register,
)
from tests.entities.parties import connect, refusals_of

LOOK_INTERVAL = PeerOptions().look_interval


async def test_an_announcement_that_is_forged_makes_no_link(autojump_clock: MockClock) -> None:
    async with Network() as network, dialed(network, network.servers[0]) as session:
        [server] = network.servers
        await register(network)
        other = SecretKey.generate()
        await register(network, other, "other.test:1")
        now = network.wall_clock()
        forged = [
            SignedObject.sign(other, PeerAnnounce(now, MALLORY.pk)),
            SignedObject.sign(other, PeerAnnounce(now, other.pk)),  # as it was heard elsewhere
            SignedObject.sign(MALLORY, PeerAnnounce(now, other.pk)),
        ]
        for count, signed in enumerate(forged, 1):
            await refused(session, signed)
            assert refusals_of(server) == {"bad_request": count}
        assert not len(server.peers)


async def test_a_key_that_is_no_server_s_is_not_welcome(autojump_clock: MockClock) -> None:
    async with Network() as network, dialed(network, network.servers[0]) as session:
        [server] = network.servers
        answer = await announce(network, session)
        assert (answer.accepted, answer.error_code) == (False, ErrorCode.REQUEST_SOURCE_PK)
        assert refusals_of(server) == {"not_a_peer": 1}
        assert not len(server.peers)


@pytest.mark.parametrize("late", [CLOCK_TOLERANCE + 1, -CLOCK_TOLERANCE - 1])
async def test_an_announcement_of_another_time_is_refused(
    autojump_clock: MockClock, late: float
) -> None:
    async with Network() as network, dialed(network, network.servers[0]) as session:
        [server] = network.servers
        await register(network)
        answer = await announce(network, session, late=late)
        assert (answer.accepted, answer.error_code) == (False, ErrorCode.REQUEST_TIMESTAMP)
        assert refusals_of(server) == {"bad_request": 1}
        assert not len(server.peers)
        assert (await announce(network, session, late=late / 2)).accepted


async def test_announcing_twice_makes_one_link_that_ends_with_its_session(
    autojump_clock: MockClock,
) -> None:
    """Even where both are taken while the discovery is asked who that is."""
    async with Network() as network:
        [server] = network.servers
        await trio.sleep(10)
        await register(network)
        async with dialed(network, server) as session:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(announce, network, session)
            assert (await announce(network, session)).accepted
            assert len(server.peers.links.all) == 1
        await trio.sleep(1)
        assert not server.peers.links.all
        assert not refusals_of(server)


async def test_a_server_has_one_link_however_often_it_dials(autojump_clock: MockClock) -> None:
    """The newest one counts: the older ones may be what a crash left."""
    async with Network() as network, AsyncExitStack() as stack:
        [server] = network.servers
        await register(network)
        answers = []
        for _ in range(MAX_REPLACEMENTS + 5):
            session = await stack.enter_async_context(dialed(network, server))
            answers.append(await announce(network, session))
        assert [answer.accepted for answer in answers] == [True] * (MAX_REPLACEMENTS + 1) + [
            False
        ] * 4
        assert refusals_of(server) == {"too_many_links": 4}
        assert len(server.peers.links.all) == 1
        await trio.sleep(5)
        assert len(server.routes) <= 1, (
            "what is no link is the session of a client, of which one counts"
        )


async def test_who_is_sent_away_before_it_announced_itself_lives_on(
    autojump_clock: MockClock,
) -> None:
    """A server that drains may say so at any time, and one that means harm as its first word."""
    dials = 0

    async def send_away(stream: trio.abc.Stream) -> None:
        nonlocal dials
        dials += 1
        session = Session(await respond(carrier_of(stream), MALLORY, PostQuantum.OFF))
        session.connection.go_away()
        await session.run()

    async with Network() as network, network.client() as client, open_service_nursery() as nursery:
        await register(network)
        nursery.start_soon(trio.serve_listeners, send_away, [network.net.listen(MALLORY_AT)])
        await trio.sleep(100)
        assert dials > 2, "it is dialed again"
        [server] = network.servers
        assert not server.peers.links.all
        async with network.client() as other:
            await connect(client, other)


async def test_a_stranger_costs_the_discovery_one_entry_and_never_the_list(
    autojump_clock: MockClock,
) -> None:
    network = Network()
    network.discovery = discovery = _Counting(wall_clock=network.wall_clock)
    async with network, dialed(network, network.servers[0]) as session:
        [server] = network.servers
        await trio.sleep(30)
        discovery.asked.clear()
        discovery.lists = 0
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(announce, network, session)
        assert discovery.asked == [MALLORY.pk]
        assert refusals_of(server) == {"not_a_peer": 200}
        await register(network)
        assert not (await announce(network, session)).accepted, "a while ago it was no server"
        await trio.sleep(UNKNOWN_AGE)
        assert (await announce(network, session)).accepted, "the discovery is asked again"
        assert discovery.asked == [MALLORY.pk] * 2
        assert discovery.lists == 0


async def test_a_stranger_whom_the_next_look_finds_is_welcome_at_once(
    autojump_clock: MockClock,
) -> None:
    network = Network()
    network.discovery = discovery = _Counting(wall_clock=network.wall_clock)
    async with network, dialed(network, network.servers[0]) as session:
        await trio.sleep(FIRST_LOOK + LOOK_INTERVAL - UNKNOWN_AGE / 2)
        assert not (await announce(network, session)).accepted
        await register(network)
        await trio.sleep(UNKNOWN_AGE * 3 / 4)
        discovery.asked.clear()
        assert (await announce(network, session)).accepted
        assert not discovery.asked


async def test_nobody_is_linked_to_by_its_own_key(autojump_clock: MockClock) -> None:
    sk = SecretKey.generate()
    async with Network(servers=0) as network:
        server = await network.start_server(sk)
        async with dialed(network, server, sk) as session:
            assert not (await announce(network, session, sk)).accepted
            await trio.sleep(LOOK_INTERVAL)
        assert not server.peers.links.all


async def test_an_announcement_is_answered_in_time_though_the_discovery_hangs(
    autojump_clock: MockClock,
) -> None:
    """Who gets no answer within 5 s takes this server for one of 2024, and stays away for long."""
    network = Network()
    network.discovery = discovery = _Counting(wall_clock=network.wall_clock)
    async with network, dialed(network, network.servers[0]) as session:
        await trio.sleep(10)
        discovery.hangs = True
        began = trio.current_time()
        assert not (await announce(network, session)).accepted
        assert trio.current_time() - began <= WELCOME_TIME < ANNOUNCE_TIMEOUT


class _Counting(MemoryDiscovery):
    def __init__(self, *, wall_clock: Callable[[], int]) -> None:
        super().__init__(wall_clock=wall_clock)
        self.asked: list[PublicKey] = []
        self.lists = 0
        self.hangs = False

    async def entry(self, pk: PublicKey) -> Entry:
        self.asked.append(pk)
        if self.hangs:
            await trio.sleep_forever()
        return await super().entry(pk)

    async def all_servers(self) -> list[Entry]:
        self.lists += 1
        return await super().all_servers()
