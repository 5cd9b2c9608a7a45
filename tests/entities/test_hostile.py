"""Clients that break the rules are refused with a reason that is counted, and harm nobody else."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dmsg_trio._address import Address
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.handshake import initiate
from dmsg_trio._net.mux import MuxConnection
from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.session import Session
from dmsg_trio._wire import yamux
from dmsg_trio._wire.frames import ObjectSealer, frame_object
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio._wire.objects import PeerAnnounce, SignedObject, StreamRequest, StreamResponse
from dmsg_trio._wire.yamux import DATA, HEADER, INITIAL_WINDOW, RST, SYN, WINDOW
from dmsg_trio.client import Client
from dmsg_trio.server._admission import MAX_HANDSHAKES_PER_SOURCE, OPENS_AT_ONCE
from dmsg_trio.testing import Network
from tests.entities.parties import (
    connect,
    connections,
    failed_handshakes,
    receive_all,
    refusals,
    two_clients,
)
from tests.net.links import count_tasks, is_clean, leftovers

MALLORY = SecretKey.generate()


@asynccontextmanager
async def open_session(network: Network) -> AsyncIterator[Session]:
    """A session of somebody who is in no discovery and keeps to no rule."""
    server = network.servers[0]
    carrier = await network.net.connect(server.options.public_address)
    session = Session(await initiate(carrier, MALLORY, server.pk, PostQuantum.OFF))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        yield session
        nursery.cancel_scope.cancel()


async def still_serves(a: Client, b: Client) -> None:
    """See to it that the others do not notice."""
    near, far = await connect(a, b)
    await near.send_all(b"hello")
    await near.aclose()
    assert await receive_all(far) == b"hello"
    await far.aclose()


def request_to(network: Network, pk: PublicKey, source: PublicKey = MALLORY.pk) -> StreamRequest:
    return StreamRequest(network.wall_clock(), Address(source, 50000), Address(pk, 80))


async def refused(session: Session, data: bytes) -> None:
    """Send ``data`` on a new stream, which is reset."""
    mux = session.connection.open_stream()
    await mux.send_all(data)
    with pytest.raises(trio.BrokenResourceError):
        await mux.receive_some()


# ---- objects ----


async def test_forged_requests_are_refused(autojump_clock: MockClock) -> None:
    async with two_clients() as (network, a, b), open_session(network) as session:
        good = SignedObject.sign(MALLORY, request_to(network, b.pk))
        foreign = SignedObject.sign(MALLORY, request_to(network, b.pk, source=a.pk))
        bad_gob = SignedObject(good.signature, good.gob[:-1] + bytes([good.gob[-1] ^ 1]))
        no_port = SignedObject.sign(
            MALLORY, StreamRequest(1, Address(MALLORY.pk, 50000), Address(b.pk, 0))
        )
        response = SignedObject.sign(MALLORY, StreamResponse(bytes(32), accepted=True))
        seal = session._sealer.seal
        forged = [
            frame_object(ObjectSealer(bytes(32)).seal(good.raw)),  # another key
            frame_object(seal(foreign.raw)),
            frame_object(seal(bad_gob.raw)),
            frame_object(seal(no_port.raw)),
            frame_object(seal(response.raw)),
            frame_object(seal(b"")),
            frame_object(seal(bytes(500))),
            frame_object(b"too short"),
            b"\xff\xff" + bytes(0xFFFF),
        ]
        for count, data in enumerate(forged, 1):
            await refused(session, data)
            assert refusals(network) == {"bad_request": count}
        await still_serves(a, b)
        await trio.sleep(1)
        assert is_clean(session.connection, *connections(network, a, b))


async def test_an_object_is_taken_once(autojump_clock: MockClock) -> None:
    async with two_clients() as (network, a, b), open_session(network) as session:
        signed = SignedObject.sign(MALLORY, request_to(network, SecretKey.generate().pk))
        sealed = frame_object(session._sealer.seal(signed.raw))
        await refused(session, sealed)
        assert refusals(network) == {"no_route": 1}
        await refused(session, sealed)
        assert refusals(network) == {"no_route": 1, "bad_request": 1}
        await still_serves(a, b)


async def test_a_client_that_announces_itself_as_a_peer_is_told_no(
    autojump_clock: MockClock,
) -> None:
    async with two_clients() as (network, a, b), open_session(network) as session:
        announce = SignedObject.sign(MALLORY, PeerAnnounce(network.wall_clock(), MALLORY.pk))
        mux = session.connection.open_stream()
        await session.send_object(mux, announce)
        answer = await session.receive_object_untrusted(mux)
        assert answer is not None
        server_pk = network.servers[0].pk
        assert not answer.response_untrusted(announce, server_pk).accepted
        await still_serves(a, b)


async def test_an_object_that_ends_in_the_middle_is_no_request(autojump_clock: MockClock) -> None:
    async with two_clients() as (network, a, b), open_session(network) as session:
        mux = session.connection.open_stream()
        await mux.send_all(b"\x01\x00" + bytes(100))
        await mux.send_eof()
        with pytest.raises(trio.BrokenResourceError):
            await mux.receive_some()
        assert refusals(network) == {"bad_request": 1}
        await still_serves(a, b)


async def test_a_stream_that_never_asks_is_reset_after_20_seconds(
    autojump_clock: MockClock,
) -> None:
    async with two_clients() as (network, a, b), open_session(network) as session:
        began = trio.current_time()
        mux = session.connection.open_stream()
        await mux.send_all(b"\x01")
        with pytest.raises(trio.BrokenResourceError):
            await mux.receive_some()
        assert 20 <= trio.current_time() - began < 21
        assert refusals(network) == {"timeout": 1}
        await still_serves(a, b)


# ---- floods ----


async def test_dials_that_are_given_up_at_once_leave_nothing_at_a_destination_that_is_silent(
    autojump_clock: MockClock,
) -> None:
    """Each of them costs the relay a task and a stream, as long as it does not notice."""
    async with two_clients() as (network, a, b), open_session(network) as session:
        async with open_session_of(network, silent := SecretKey.generate()) as destination:
            await trio.sleep(1)
            before = count_tasks()
            for _ in range(300):
                mux = session.connection.open_stream()
                signed = SignedObject.sign(MALLORY, request_to(network, silent.pk))
                await session.send_object(mux, signed)
                await wait_all_tasks_blocked()
                mux.reset()
            await trio.sleep(1)
            assert count_tasks() == before
            assert is_clean(*connections(network, a, b), session.connection)
            assert not destination.connection.yamux.streams
        await still_serves(a, b)


@asynccontextmanager
async def open_session_of(network: Network, sk: SecretKey) -> AsyncIterator[Session]:
    """A client that takes streams and never answers."""
    server = network.servers[0]
    carrier = await network.net.connect(server.options.public_address)
    session = Session(await initiate(carrier, sk, server.pk, PostQuantum.OFF))
    taken: list[MuxStream] = []

    async def take() -> None:
        while stream := await session.connection.accept():
            taken.append(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        nursery.start_soon(take)
        yield session
        nursery.cancel_scope.cancel()


async def test_a_flood_of_opens_resets_and_grants_harms_nobody_else(
    autojump_clock: MockClock,
) -> None:
    async with two_clients() as (network, a, b), open_session(network) as session:
        send = session.connection.carrier.send_all
        for first in range(1, 8001, 1000):
            ids = range(first, first + 1000, 2)
            await send(b"".join(HEADER.pack(0, WINDOW, SYN, each, 0) for each in ids))
            await send(b"".join(HEADER.pack(0, WINDOW, 0, each, 1) for each in ids) * 5)
            await send(b"".join(HEADER.pack(0, WINDOW, RST, each, 0) for each in ids))
        await still_serves(a, b)
        await trio.sleep(1)
        assert is_clean(*connections(network, a, b))


async def test_a_session_that_opens_faster_than_it_may_is_refused_by_name(
    autojump_clock: MockClock,
) -> None:
    async with two_clients() as (network, a, b), open_session(network) as session:
        for _ in range(OPENS_AT_ONCE + 50):
            mux = session.connection.open_stream()
            session.connection.flush()
            await wait_all_tasks_blocked()
            mux.reset()
            await wait_all_tasks_blocked()
        assert refusals(network) == {"open_rate": 50, "broken": OPENS_AT_ONCE}
        await still_serves(a, b)


async def test_a_window_overrun_ends_that_session_alone(autojump_clock: MockClock) -> None:
    async with two_clients() as (network, a, b), open_session(network) as session:
        await session.connection.carrier.send_all(HEADER.pack(0, DATA, SYN, 1, INITIAL_WINDOW + 1))
        await session.connection.closed.wait()
        assert session.connection.close_reason == "the peer went away with code 1"
        await still_serves(a, b)


# ---- before the session ----


async def test_handshakes_under_way_are_bounded_for_each_source(
    autojump_clock: MockClock,
) -> None:
    async with two_clients() as (network, a, b):
        address = network.servers[0].options.public_address
        held = [await network.net.connect(address) for _ in range(MAX_HANDSHAKES_PER_SOURCE + 10)]
        await wait_all_tasks_blocked()
        assert failed_handshakes(network) == {"too_many_handshakes": 10}
        await trio.sleep(6)
        assert sum(failed_handshakes(network).values()) == len(held)
        async with network.client() as c:
            await still_serves(a, c)
        await still_serves(a, b)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", bytes.fromhex("1603010100") * 60])
async def test_what_is_no_session_is_refused_and_counted(
    autojump_clock: MockClock, data: bytes
) -> None:
    async with two_clients() as (network, a, b):
        carrier = await network.net.connect(network.servers[0].options.public_address)
        await carrier.send_all(data)
        with pytest.raises(trio.BrokenResourceError):
            while await carrier.receive():
                pass
            raise trio.BrokenResourceError("closed")
        assert sum(failed_handshakes(network).values()) == 1
        await still_serves(a, b)


# ---- faults of ours ----


@pytest.mark.faulty
async def test_a_bug_in_one_stream_is_logged_once_and_harms_nobody_else(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_clients() as (network, a, b), open_session(network) as session:
        mux = session.connection.open_stream()
        await wait_all_tasks_blocked()
        with monkeypatch.context() as patched:
            patched.setattr(SignedObject, "parse_untrusted", lambda _: 1 / 0)
            await mux.send_all(frame_object(session._sealer.seal(bytes(100))))
            with pytest.raises(trio.BrokenResourceError):
                await mux.receive_some()
        faults = [each for each in caplog.records if each.levelno >= logging.ERROR]
        assert len(faults) == 1
        assert "ended by a fault of ours" in faults[0].getMessage()
        assert session.connection.is_open
        await still_serves(a, b)


@pytest.mark.faulty
@pytest.mark.parametrize("whose", ["server", "client"])
async def test_a_bug_in_one_session_is_logged_once_and_harms_nobody_else(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    whose: str,
) -> None:
    async with Network(servers=2) as network, network.client(min_sessions=2) as a:
        async with network.client(min_sessions=2) as b:
            await trio.sleep(2)
            server = network.servers[0]
            session = server.routes.find(a.pk) if whose == "server" else a.sessions[server.pk]
            assert session is not None
            faulty, dispatch = session.connection, MuxConnection._dispatch

            def fail(connection: MuxConnection, event: yamux.Event) -> None:
                if connection is faulty:
                    raise ZeroDivisionError
                dispatch(connection, event)

            monkeypatch.setattr(MuxConnection, "_dispatch", fail)
            faulty.ping()
            await faulty.closed.wait()
            await trio.sleep(5)
            faults = [each for each in caplog.records if each.levelno >= logging.ERROR]
            assert len(faults) == 1
            await still_serves(a, b)
            assert set(a.sessions) == {each.pk for each in network.servers}
            await trio.sleep(1)
            assert not leftovers(*connections(network, a, b))["yamux streams"]
