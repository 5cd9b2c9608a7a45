"""Servers that break the rules are refused with a reason that is counted, and harm nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dmsg_trio import Client, SecretKey, UnreachableError, open_client
from dmsg_trio._address import Address
from dmsg_trio._errors import ErrorCode
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.carriers import Carrier, carrier_of
from dmsg_trio._net.handshake import initiate, respond
from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.session import Session
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio._wire.objects import PeerAnnounce, SignedObject, StreamRequest, StreamResponse
from dmsg_trio._wire.yamux import HEADER, RST, SYN, WINDOW
from dmsg_trio.discovery import ClientInfo, Entry, MemoryDiscovery, ServerInfo
from dmsg_trio.server import PeerOptions, Server, ServerOptions
from dmsg_trio.server._admission import OPENS_AT_ONCE
from dmsg_trio.server._asking import STAGGER
from dmsg_trio.server._peers import ANNOUNCE_TIMEOUT, CLOCK_TOLERANCE, LOOK_PAUSE, WELCOME_TIME
from dmsg_trio.server._replacements import MAX_REPLACEMENTS
from dmsg_trio.server._shares import MAX_RELAYED
from dmsg_trio.server._whereabouts import SILENT_AGE
from dmsg_trio.testing import Network
from tests.entities.parties import connect, receive_all, refusals_of
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


# ---- announcements ----


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


async def test_announcements_of_strangers_do_not_become_questions_to_the_discovery(
    autojump_clock: MockClock,
) -> None:
    network = Network()
    network.discovery = discovery = _Counting(wall_clock=network.wall_clock)
    async with network, dialed(network, network.servers[0]) as session:
        [server] = network.servers
        await trio.sleep(30)
        discovery.questions = 0
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(announce, network, session)
        assert discovery.questions <= 2
        assert refusals_of(server) == {"not_a_peer": 200}
        began = trio.current_time()
        await register(network)
        assert (await announce(network, session)).accepted, "the discovery is asked again"
        assert trio.current_time() - began <= LOOK_PAUSE


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
    questions = 0
    hangs = False

    async def all_servers(self) -> list[Entry]:
        self.questions += 1
        if self.hangs:
            await trio.sleep_forever()
        return await super().all_servers()


# ---- sources ----


async def test_a_source_that_did_not_sign_is_refused_on_a_link(autojump_clock: MockClock) -> None:
    async with scene() as here:
        forged = request(here.network, here.b._sk, here.a.pk, signed_by=MALLORY)
        await refused(here.mallory, forged)
        assert refusals_of(here.near) == {"bad_request": 1}
        await here.still_serves()
        assert await here.leaves_nothing()


async def test_a_foreign_source_is_refused_from_who_is_no_peer(autojump_clock: MockClock) -> None:
    """Though it is signed well, and even if the key is that of a server."""
    async with scene() as here:
        other = SecretKey.generate()
        await register(here.network, other, "other.test:1")
        async with dialed(here.network, here.near, other) as session:
            await refused(session, request(here.network, here.b._sk, here.a.pk))
            assert refusals_of(here.near) == {"bad_request": 1}
        await here.still_serves()
        assert await here.leaves_nothing()


async def test_the_address_of_a_server_is_not_told_for_a_client_s(
    autojump_clock: MockClock,
) -> None:
    async with scene() as here:
        ours = Address(here.near.pk, 1)
        asks = StreamRequest(here.network.wall_clock(), Address(here.b.pk, 1), ours, ip_info=True)
        signed = SignedObject.sign(here.b._sk, asks)
        stream = here.mallory.connection.open_stream()
        await here.mallory.send_object(stream, signed)
        answer = await here.mallory.receive_object_untrusted(stream)
        assert answer is not None
        assert not answer.response_untrusted(signed, here.near.pk).accepted


# ---- one hop ----


async def test_what_came_over_a_link_never_goes_over_another(autojump_clock: MockClock) -> None:
    async with scene() as here:
        signed = request(here.network, SecretKey.generate(), here.b.pk)
        await refused(here.mallory, signed)
        assert refusals_of(here.near) == {"no_route": 1}
        assert not refusals_of(here.far)
        await here.still_serves()
        assert await here.leaves_nothing()


async def test_a_request_that_is_sent_back_goes_no_further(autojump_clock: MockClock) -> None:
    async def send_back(session: Session, stream: MuxStream) -> None:
        signed = await session.receive_object_untrusted(stream)
        assert signed is not None
        with pytest.raises(trio.BrokenResourceError):
            back = session.connection.open_stream()
            await session.send_object(back, signed)
            await back.receive_some()
        stream.reset()

    async with scene(send_back) as here:
        await here.b_claims_to_be_at(MALLORY.pk, here.far.pk)
        assert await here.still_serves() < STAGGER
        assert refusals_of(here.near) == {"reset": 1, "no_route": 1}
        assert not refusals_of(here.far)
        assert await here.leaves_nothing()


# ---- answers ----


async def answer_as_destination(session: Session, stream: MuxStream) -> None:
    signed = await session.receive_object_untrusted(stream)
    assert signed is not None
    lie = StreamResponse(signed.hash, accepted=True)
    await session.send_object(stream, SignedObject.sign(MALLORY, lie))


async def answer_another_request(session: Session, stream: MuxStream) -> None:
    signed = await session.receive_object_untrusted(stream)
    assert signed is not None
    asked = signed.request_untrusted()
    assert isinstance(asked, StreamRequest)
    lie = StreamResponse(bytes(32), accepted=True)
    await session.send_object(stream, SignedObject.sign(MALLORY, lie))


async def refuse_as_destination(session: Session, stream: MuxStream) -> None:
    signed = await session.receive_object_untrusted(stream)
    assert signed is not None
    lie = StreamResponse(signed.hash, accepted=False, error_code=ErrorCode.NO_LISTENER)
    await session.send_object(stream, SignedObject.sign(MALLORY, lie))


async def answer_with_the_request(session: Session, stream: MuxStream) -> None:
    signed = await session.receive_object_untrusted(stream)
    assert signed is not None
    await session.send_object(stream, signed)


async def answer_with_noise(session: Session, stream: MuxStream) -> None:
    await stream.send_all(b"\x01\x00" + bytes(256))


async def answer_with_a_ping_marker(session: Session, stream: MuxStream) -> None:
    await stream.send_all(bytes(2))


async def end_at_once(session: Session, stream: MuxStream) -> None:
    await stream.aclose()


async def reset_at_once(session: Session, stream: MuxStream) -> None:
    stream.reset()


async def reset_after_the_request(session: Session, stream: MuxStream) -> None:
    await session.receive_object_untrusted(stream)
    stream.reset()


@pytest.mark.parametrize(
    ("behave", "label"),
    [
        (never_answer, "silent"),
        (answer_as_destination, "bad_response"),
        (answer_another_request, "bad_response"),
        (refuse_as_destination, "bad_response"),
        (answer_with_the_request, "bad_response"),
        (answer_with_noise, "bad_response"),
        (answer_with_a_ping_marker, "bad_response"),
        (end_at_once, "bad_response"),
        (reset_at_once, "reset"),
        (reset_after_the_request, "reset"),
    ],
)
async def test_a_server_that_lies_about_a_client_costs_a_dial_a_moment(
    autojump_clock: MockClock, behave: Behaviour, label: str
) -> None:
    """It is asked first, since the client is said to be there; the other one is asked as well."""
    async with scene(behave) as here:
        await here.b_claims_to_be_at(MALLORY.pk, here.far.pk)
        assert await here.still_serves() <= STAGGER + SOON
        assert refusals_of(here.near) == {label: 1}
        assert await here.leaves_nothing()


async def test_a_server_that_leaves_requests_waiting_is_asked_last_for_a_while(
    autojump_clock: MockClock,
) -> None:
    async with scene(never_answer) as here:
        await here.b_claims_to_be_at(MALLORY.pk, here.far.pk)
        assert await here.still_serves() >= STAGGER
        assert await here.still_serves() < STAGGER
        await trio.sleep(SILENT_AGE)
        assert await here.still_serves() >= STAGGER


async def test_a_server_that_is_the_only_way_and_silent_costs_no_more_than_the_limit(
    autojump_clock: MockClock,
) -> None:
    async with scene(never_answer) as here:
        ghost = SecretKey.generate()
        at = Entry(
            pk=ghost.pk, timestamp=here.network.wall_clock(), client=ClientInfo((MALLORY.pk,))
        )
        await here.network.discovery.publish(at.signed(ghost))
        began = trio.current_time()
        with pytest.raises(UnreachableError):
            await here.a.open_stream(ghost.pk, 80)
        assert trio.current_time() - began < 25
        await here.still_serves()
        assert await here.leaves_nothing()


async def test_a_stream_that_is_reset_right_after_it_was_accepted_leaves_nothing(
    autojump_clock: MockClock,
) -> None:
    """Mallory and a client of hers, together."""
    friend = SecretKey.generate()

    async def accept_and_reset(session: Session, stream: MuxStream) -> None:
        signed = await session.receive_object_untrusted(stream)
        assert signed is not None
        yes = StreamResponse(signed.hash, accepted=True)
        await session.send_object(stream, SignedObject.sign(friend, yes))
        stream.reset()

    async with scene(accept_and_reset) as here:
        at = Entry(
            pk=friend.pk, timestamp=here.network.wall_clock(), client=ClientInfo((MALLORY.pk,))
        )
        await here.network.discovery.publish(at.signed(friend))
        for _ in range(20):
            with pytest.raises(UnreachableError):
                await here.a.open_stream(friend.pk, 80)
        await here.still_serves()
        assert await here.leaves_nothing()


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
