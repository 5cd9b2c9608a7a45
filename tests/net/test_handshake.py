"""Session handshakes: how they fail, how long they may take, and what they do not lose."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dmsg_trio._errors import HandshakeError
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.carriers import StreamCarrier
from dmsg_trio._net.handshake import (
    HANDSHAKE_TIMEOUT,
    SETTLE_TIME,
    Established,
    initiate,
    respond,
)
from dmsg_trio._net.session import Session
from dmsg_trio._wire.frames import FrameReader, frame
from dmsg_trio._wire.hybrid import Handshake, PostQuantum
from dmsg_trio.testing import MemoryStream, memory_connection
from tests.net.links import (
    CLIENT,
    SERVER,
    cancel_at_each_step,
    count_tasks,
    memory_carriers,
    open_on,
    open_session_pair,
)

OFFER, REQUIRE, OFF = PostQuantum.OFFER, PostQuantum.REQUIRE, PostQuantum.OFF


async def shake(near: PostQuantum, far: PostQuantum) -> tuple[Established, Established]:
    carriers = await memory_carriers()
    servers: list[Established] = []

    async def accept() -> None:
        servers.append(await respond(carriers[1], SERVER, far))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        dialer = await initiate(carriers[0], CLIENT, SERVER.pk, near)
    return dialer, servers[0]


@pytest.mark.parametrize(
    ("near", "far", "is_post_quantum"),
    [
        (OFFER, OFFER, True),
        (OFFER, REQUIRE, True),
        (REQUIRE, OFFER, True),
        (REQUIRE, REQUIRE, True),
        (OFFER, OFF, False),
        (OFF, OFFER, False),
        (OFF, OFF, False),
    ],
)
async def test_both_sides_learn_who_the_other_is_and_agree_on_keys(
    autojump_clock: MockClock, near: PostQuantum, far: PostQuantum, is_post_quantum: bool
) -> None:
    dialer, server = await shake(near, far)
    assert (dialer.remote_pk, server.remote_pk) == (SERVER.pk, CLIENT.pk)
    assert (dialer.keys.send, dialer.keys.receive) == (server.keys.receive, server.keys.send)
    assert dialer.is_post_quantum == server.is_post_quantum == is_post_quantum


@pytest.mark.parametrize(("near", "far"), [(REQUIRE, OFF), (OFF, REQUIRE)])
async def test_a_side_that_requires_post_quantum_gets_it_or_no_session(
    autojump_clock: MockClock, near: PostQuantum, far: PostQuantum
) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await shake(near, far)
    assert caught.group_contains(HandshakeError, match="post-quantum is required")


async def test_a_server_with_another_key_is_a_clear_error(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    carriers = await memory_carriers()

    async def answer() -> None:
        with pytest.raises(HandshakeError, match="XK message 1 does not decrypt: made with other"):
            await respond(carriers[1], SecretKey.generate(), OFFER)
        await carriers[1].aclose()

    nursery.start_soon(answer)
    with pytest.raises(HandshakeError, match="closed the connection in the handshake"):
        await initiate(carriers[0], CLIENT, SERVER.pk, OFFER)


# ---- time ----


@pytest.mark.parametrize("first_bytes", [b"", b"\x00", b"\x00\x31" + bytes(20)])
async def test_a_handshake_that_never_ends_is_given_up_after_5_seconds(
    nursery: trio.Nursery, autojump_clock: MockClock, first_bytes: bytes
) -> None:
    stream, far = memory_connection()
    if first_bytes:
        await stream.send_all(first_bytes)
    began = trio.current_time()
    with pytest.raises(HandshakeError, match="within 5 s"):
        await respond(StreamCarrier(far, peer=""), SERVER, OFFER)
    assert trio.current_time() - began == pytest.approx(HANDSHAKE_TIMEOUT)


async def test_bytes_that_trickle_in_do_not_make_it_longer(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stream, far = memory_connection()

    async def trickle() -> None:
        for byte in b"\x0f\xfe" + bytes(4094):
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.1)

    nursery.start_soon(trickle)
    began = trio.current_time()
    with pytest.raises(HandshakeError, match="within 5 s"):
        await respond(StreamCarrier(far, peer=""), SERVER, OFFER)
    assert trio.current_time() - began <= HANDSHAKE_TIMEOUT + 0.1


async def test_a_dialer_gives_a_silent_server_up_after_5_seconds(autojump_clock: MockClock) -> None:
    carriers = await memory_carriers()
    with pytest.raises(HandshakeError, match="within 5 s"):
        await initiate(carriers[0], CLIENT, SERVER.pk, OFFER)


async def test_a_dialer_gives_a_server_of_2024_time_to_read_the_last_message(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for server, pause in [(OFF, SETTLE_TIME), (OFFER, 0)]:
        began = trio.current_time()
        await shake(OFFER, server)
        assert trio.current_time() - began == pytest.approx(pause)


# ---- bytes ----


async def _by_hand(stream: MemoryStream, last: bytes) -> None:
    """Be a dialer that sends ``last`` in one piece with the third message."""
    handshake = Handshake(
        "XK",
        initiator=True,
        static=CLIENT,
        remote_static=SERVER.pk,
        ephemeral=SecretKey.generate(),
        post_quantum=OFF,
    )
    await stream.send_all(frame(handshake.write_message()))
    reader = FrameReader()
    while (message := reader.next_frame()) is None:
        reader.feed(await stream.receive_some())
    handshake.read_message_untrusted(message)
    await stream.send_all(frame(handshake.write_message()) + last)


async def test_bytes_right_behind_the_last_message_are_the_first_of_yamux(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    ping = bytes.fromhex("00 02 0001 00000000 12345678")
    stream, far = memory_connection()
    nursery.start_soon(_by_hand, stream, ping)
    session = Session(await respond(StreamCarrier(far, peer=""), SERVER, OFFER))
    nursery.start_soon(session.run)
    assert await stream.receive_some() == bytes.fromhex("00 02 0002 00000000 12345678")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "a frame of 18245 bytes"),
        (bytes.fromhex("16030100c8010000c40303") + bytes(200), "a frame of 5635 bytes"),
        (b"\x00\x00", "XK message 1"),
        (b"\x00\x31" + b"\x02" + bytes(48), "XK message 1"),
        (b"\x00\x31" + b"\xff" * 49, "XK message 1"),
        (b"\xff" * 1000, "a frame of 65535 bytes"),
    ],
    ids=["http", "tls", "empty", "no point", "noise", "long"],
)
async def test_what_is_no_handshake_is_refused_with_a_reason(
    autojump_clock: MockClock, data: bytes, reason: str
) -> None:
    stream, far = memory_connection()
    await stream.send_all(data)
    began = trio.current_time()
    with pytest.raises(HandshakeError, match=reason):
        await respond(StreamCarrier(far, peer=""), SERVER, OFFER)
    assert trio.current_time() == began


async def test_a_connection_that_breaks_in_the_handshake_is_a_failed_handshake(
    autojump_clock: MockClock,
) -> None:
    stream, far = memory_connection()
    stream.cut()
    with pytest.raises(HandshakeError, match="broke in the handshake"):
        await respond(StreamCarrier(far, peer=""), SERVER, OFFER)


# ---- cancelling ----


@pytest.mark.parametrize("side", ["initiator", "responder"])
async def test_a_cancelled_handshake_leaves_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock, side: str
) -> None:
    before = count_tasks()

    async def prepare() -> Callable[[], Awaitable[object]]:
        near, far = await memory_carriers()

        async def ours() -> None:
            if side == "initiator":
                await initiate(near, CLIENT, SERVER.pk, OFFER)
            else:
                await respond(far, SERVER, OFFER)

        async def theirs() -> None:
            try:
                if side == "initiator":
                    await respond(far, SERVER, OFFER)
                else:
                    await initiate(near, CLIENT, SERVER.pk, OFFER)
            except HandshakeError:
                pass

        nursery.start_soon(theirs)
        return ours

    async def check(step: int) -> None:
        await trio.sleep(2 * HANDSHAKE_TIMEOUT)
        assert count_tasks() == before

    assert await cancel_at_each_step(prepare, check) >= 2


async def test_a_session_can_open_streams_both_ways(nursery: trio.Nursery) -> None:
    near, far = await open_session_pair(nursery, await memory_carriers())
    for one, other in [(near, far), (far, near)]:
        stream, accepted = await open_on(one.connection, other.connection)
        await stream.send_all(b"hello")
        assert await accepted.receive_some() == b"hello"
    await wait_all_tasks_blocked()
