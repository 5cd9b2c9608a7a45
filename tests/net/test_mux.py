"""A yamux connection: what its streams see, what it takes from a peer, and how it ends."""

import gc
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from dmsg_trio._net.carriers import StreamCarrier
from dmsg_trio._net.mux import (
    ACCEPT_BACKLOG,
    DEAD_AFTER,
    FAREWELL,
    KEEP_ALIVE,
    LINGER,
    MuxConnection,
)
from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.outbox import HIGH_WATER, WRITE_STALL
from dmsg_trio._wire.yamux import (
    ACK,
    DATA,
    GO_AWAY,
    HEADER,
    INITIAL_WINDOW,
    MAX_STREAMS,
    PING,
    RST,
    SYN,
    WINDOW,
)
from dmsg_trio.testing import MemoryStream, memory_connection
from tests.net.links import (
    cancel_at_each_step,
    clog,
    is_clean,
    leftovers,
    memory_carriers,
    no_task_left,
    open_mux_pair,
    open_mux_streams,
    open_on,
    receive_all,
    socket_carriers,
    tcp_carriers,
)


def frame(kind: int, flags: int, stream_id: int, length: int) -> bytes:
    return HEADER.pack(0, kind, flags, stream_id, length)


async def open_by_hand(nursery: trio.Nursery) -> tuple[MemoryStream, MuxConnection]:
    """A connection (yamux server), and the bare stream of its peer."""
    near, far = memory_connection()
    connection = MuxConnection(StreamCarrier(far, peer="by hand:1"), client=False)
    nursery.start_soon(connection.run)
    return near, connection


# ---- streams of one connection ----


async def test_each_side_ends_for_itself(nursery: trio.Nursery) -> None:
    near, far = await open_mux_streams(nursery, await memory_carriers())
    await near.send_all(b"request")
    await near.send_eof()
    assert await receive_all(far) == b"request"
    await far.send_all(b"response")
    await far.aclose()
    assert await receive_all(near) == b"response"
    await near.aclose()
    assert is_clean(near.connection, far.connection)


async def test_what_is_sent_while_leaving_arrives(nursery: trio.Nursery) -> None:
    async with trio.open_nursery() as nearby:
        near = MuxConnection((carriers := await memory_carriers())[0], client=True)
        far = MuxConnection(carriers[1], client=False)
        nursery.start_soon(far.run)
        nearby.start_soon(near.run)
        stream, other = await open_on(near, far)
        await stream.send_all(bytes(200_000))
        await stream.aclose()
        nearby.cancel_scope.cancel()
    assert len(await receive_all(other)) == 200_000


@pytest.mark.network
async def test_what_is_sent_while_leaving_arrives_over_tcp(nursery: trio.Nursery) -> None:
    """More than kernels hold, and with bytes of the peer under way that nobody will read."""
    async with trio.open_nursery() as nearby:
        carriers = await tcp_carriers()
        near, far = (
            MuxConnection(carriers[0], client=True),
            MuxConnection(carriers[1], client=False),
        )
        nearby.start_soon(near.run)
        streams = [near.open_stream() for _ in range(40)]
        for stream in streams:
            await stream.send_all(bytes(INITIAL_WINDOW))
            await stream.aclose()
            if near.outbox.size:
                break
        near.ping()
        nursery.start_soon(far.run)
        nearby.cancel_scope.cancel()
    await far.closed.wait()
    assert far.received > INITIAL_WINDOW


async def test_a_reset_breaks_the_other_side(nursery: trio.Nursery) -> None:
    near, far = await open_mux_streams(nursery, await memory_carriers())
    await near.send_all(b"so far")
    near.reset()
    assert await far.receive_some() == b"so far"
    with pytest.raises(trio.BrokenResourceError, match="reset"):
        await far.receive_some()
    with pytest.raises(trio.BrokenResourceError, match="reset"):
        await far.send_all(b"?")
    assert not far.connection.yamux.streams


@pytest.mark.parametrize("error", [ValueError, trio.BrokenResourceError])
async def test_leaving_a_block_by_an_exception_resets(
    nursery: trio.Nursery, error: type[Exception]
) -> None:
    near, far = await open_mux_streams(nursery, await memory_carriers())
    with pytest.raises(error):
        async with near:
            raise error
    with pytest.raises(trio.BrokenResourceError):
        await far.receive_some()


async def test_who_waits_for_room_learns_of_an_end_and_reset_in_one_batch(
    nursery: trio.Nursery,
) -> None:
    near, far = await open_mux_streams(nursery, await memory_carriers())
    await clog(near)

    async def send() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await near.send_all(b"more")

    async with trio.open_nursery() as sending:
        sending.start_soon(send)
        await wait_all_tasks_blocked()
        far.connection.yamux.end(far.state)
        far.connection.yamux.reset(far.state)
        far.connection.flush()
    assert not near.connection.stream_count


async def test_a_lost_connection_breaks_all_streams_at_once_and_says_why(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stream, connection = await open_by_hand(nursery)
    opened = [connection.open_stream() for _ in range(3)]
    stream.cut()
    for each in opened:
        with pytest.raises(trio.BrokenResourceError, match="the connection broke"):
            await each.receive_some()
    await connection.closed.wait()
    assert not connection.is_open
    assert connection.close_reason == "the connection broke: the connection was cut"


async def test_a_closed_stream_waits_for_the_end_of_the_peer_but_not_for_ever(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    near, far = await open_mux_streams(nursery, await memory_carriers())
    await near.aclose()
    assert await far.receive_some() == b""
    await trio.sleep(LINGER / 2)
    assert near.connection.yamux.streams
    await trio.sleep(LINGER / 2 + KEEP_ALIVE + 1)
    assert not near.connection.yamux.streams
    with pytest.raises(trio.BrokenResourceError):
        await far.send_all(b"too late")


async def test_data_for_a_closed_stream_resets_it(nursery: trio.Nursery) -> None:
    near, far = await open_mux_streams(nursery, await memory_carriers())
    await far.aclose()
    await near.send_all(b"anybody?")
    await wait_all_tasks_blocked()
    with pytest.raises(trio.BrokenResourceError):
        await near.send_all(b"hello?")
    assert is_clean(near.connection, far.connection)


# ---- cancelling ----


async def _send(near: MuxStream, far: MuxStream) -> None:
    await near.send_all(bytes(3 * INITIAL_WINDOW))


async def _receive(near: MuxStream, far: MuxStream) -> None:
    await near.receive_some()


async def _end(near: MuxStream, far: MuxStream) -> None:
    await near.send_eof()


async def _close(near: MuxStream, far: MuxStream) -> None:
    await near.aclose()


async def _wait_for_room(near: MuxStream, far: MuxStream) -> None:
    await near.wait_send_all_might_not_block()


async def _leave(near: MuxStream, far: MuxStream) -> None:
    async with near:
        await near.send_all(b"a few bytes")


@pytest.mark.parametrize("method", [_send, _receive, _end, _close, _wait_for_room, _leave])
async def test_a_cancelled_call_leaves_the_connection_as_good_as_before(
    nursery: trio.Nursery, method: Callable[[MuxStream, MuxStream], Awaitable[None]]
) -> None:
    near, far = await open_mux_pair(nursery, await memory_carriers())
    streams: list[tuple[MuxStream, MuxStream]] = []

    async def drain(stream: MuxStream) -> None:
        try:
            await stream.send_all(b"something to receive")
            await receive_all(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def prepare() -> Callable[[], Awaitable[object]]:
        pair = await open_on(near, far)
        streams.append(pair)
        nursery.start_soon(drain, pair[1])
        return lambda: method(*pair)

    async def check(step: int) -> None:
        old, old_far = streams[-1]
        old.reset()
        old_far.reset()
        fresh, fresh_far = await open_on(near, far)
        await fresh.send_all(b"still here")
        await fresh.aclose()
        assert await receive_all(fresh_far) == b"still here"
        await fresh_far.aclose()
        await wait_all_tasks_blocked()
        assert is_clean(near, far), leftovers(near, far)

    assert await cancel_at_each_step(prepare, check) >= 1


async def test_a_cancelled_send_leaves_a_prefix_and_no_half_frame(nursery: trio.Nursery) -> None:
    near, far = await open_mux_streams(nursery, await memory_carriers())
    message = bytes(range(256)) * 8192
    with trio.move_on_after(0.01):
        await near.send_all(message)
    await near.send_eof()
    received = await receive_all(far)
    assert message.startswith(received)
    assert received


# ---- a peer that breaks the rules ----


async def test_data_beyond_the_window_ends_the_session_with_go_away_1(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stream, connection = await open_by_hand(nursery)
    await stream.send_all(frame(DATA, SYN, 1, INITIAL_WINDOW + 1))
    answer = await stream.receive_some()
    assert answer.endswith(frame(GO_AWAY, 0, 0, 1))
    await connection.closed.wait()
    assert (
        f"{INITIAL_WINDOW + 1} bytes into a window of {INITIAL_WINDOW}" in connection.close_reason
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(4, 0, 0, 0), "frame type 4"),
        (b"GET / HTTP/1.1\r\n\r\n", "version 71"),
        (frame(WINDOW, SYN, 2, 0), "not the peer's to open"),
        (frame(WINDOW, SYN, 1, 0) * 2, "second SYN"),
        (frame(WINDOW, SYN, 1, 2**32 - 1), "a grant of"),
    ],
)
async def test_a_broken_rule_ends_the_session_with_a_reason(
    nursery: trio.Nursery, autojump_clock: MockClock, data: bytes, reason: str
) -> None:
    stream, connection = await open_by_hand(nursery)
    await stream.send_all(data)
    await connection.closed.wait()
    assert "the peer broke the protocol" in connection.close_reason
    assert reason in connection.close_reason


async def test_streams_that_nobody_accepts_are_reset_beyond_a_bound(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stream, connection = await open_by_hand(nursery)
    ids = range(1, 2 * ACCEPT_BACKLOG + 21, 2)
    await stream.send_all(b"".join(frame(WINDOW, SYN, each, 0) for each in ids))
    answer = await stream.receive_some()
    assert answer == b"".join(frame(WINDOW, RST, each, 0) for each in ids[ACCEPT_BACKLOG:])
    assert connection.stream_count == ACCEPT_BACKLOG


async def test_no_more_streams_are_open_than_the_bound(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stream, connection = await open_by_hand(nursery)
    accepted: list[MuxStream] = []

    async def accept_all() -> None:
        while each := await connection.accept():
            accepted.append(each)

    nursery.start_soon(accept_all)
    for first in range(1, 2 * MAX_STREAMS, 200):
        await stream.send_all(
            b"".join(frame(WINDOW, SYN, each, 0) for each in range(first, first + 200, 2))
        )
        await wait_all_tasks_blocked()
    assert len(accepted) == len(connection.yamux.streams) == MAX_STREAMS
    assert connection.yamux.refused == 100 - MAX_STREAMS % 100


async def test_opening_and_resetting_for_ever_leaves_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stream, connection = await open_by_hand(nursery)
    accepted: list[MuxStream] = []

    async def accept_all() -> None:
        while each := await connection.accept():
            accepted.append(each)
            with pytest.raises(trio.BrokenResourceError):
                await each.receive_some()

    nursery.start_soon(accept_all)
    for stream_id in range(1, 4001, 4):
        await stream.send_all(frame(WINDOW, SYN, stream_id, 0) + frame(WINDOW, RST, stream_id, 0))
        await stream.send_all(frame(WINDOW, SYN, stream_id + 2, 0))
        await stream.send_all(frame(WINDOW, RST, stream_id + 2, 0))
    await wait_all_tasks_blocked()
    assert is_clean(connection)
    assert connection.is_open


async def test_pings_of_a_peer_that_does_not_read_cost_no_memory(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    near, far = memory_stream_pair()
    assert isinstance(far.send_stream, trio.testing.MemorySendStream)
    far.send_stream.send_all_hook = trio.sleep_forever
    connection = MuxConnection(StreamCarrier(far, peer="by hand:1"), client=False)
    nursery.start_soon(connection.run)
    pings = b"".join(frame(PING, SYN, 0, value) for value in range(10_000))
    for _ in range(40):
        await near.send_all(pings)
        await wait_all_tasks_blocked()
    assert HIGH_WATER < connection.outbox.size < HIGH_WATER + len(pings)
    assert connection.is_open


async def test_a_peer_that_asks_for_resets_and_does_not_read_is_dropped(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 2 * 1024 * 1024
    monkeypatch.setattr("dmsg_trio._net.mux.HARD_LIMIT", limit)
    near, far = memory_stream_pair()
    assert isinstance(far.send_stream, trio.testing.MemorySendStream)
    far.send_stream.send_all_hook = trio.sleep_forever
    connection = MuxConnection(StreamCarrier(far, peer="by hand:1"), client=False)
    connection.go_away()
    connection.yamux.data_to_send()
    nursery.start_soon(connection.run)
    largest, stream_id = 0, 1
    while not connection.closed.is_set():
        opens = [frame(WINDOW, SYN, each, 0) for each in range(stream_id, stream_id + 100_000, 2)]
        stream_id += 100_000
        await near.send_all(b"".join(opens))
        await wait_all_tasks_blocked()
        largest = max(largest, connection.outbox.size)
        with trio.move_on_after(FAREWELL + 1):
            if connection.close_reason:
                await connection.closed.wait()
    assert largest <= 3 * limit
    assert connection.close_reason == "the peer does not read what it asks for"


async def test_frames_of_one_byte_cost_not_much_more_than_their_bytes(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stream, connection = await open_by_hand(nursery)
    await stream.send_all(frame(WINDOW, SYN, 1, 0) + frame(WINDOW, SYN, 3, 0))
    size = 20_000
    one_each = frame(DATA, 0, 1, 1) + b"x" + frame(DATA, 0, 3, 1) + b"y"
    await wait_all_tasks_blocked()
    gc.collect()
    tracemalloc.start()
    for _ in range(0, size, 1000):
        await stream.send_all(one_each * 1000)
        await wait_all_tasks_blocked()
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert connection.unread == 2 * size
    assert used < 5 * 2 * size


async def test_a_stream_that_brings_more_than_a_session_may_leave_unread_is_reset_alone(
    nursery: trio.Nursery,
) -> None:
    near, far = memory_connection()
    connection = MuxConnection(StreamCarrier(far, peer=""), client=False, max_unread=1000)
    peer = MuxConnection(StreamCarrier(near, peer=""), client=True)
    nursery.start_soon(connection.run)
    nursery.start_soon(peer.run)
    modest, modest_far = await open_on(peer, connection)
    greedy, greedy_far = await open_on(peer, connection)
    await modest.send_all(bytes(900))
    await greedy.send_all(bytes(200))
    with pytest.raises(trio.BrokenResourceError, match="unread"):
        await greedy_far.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await greedy.receive_some()
    assert await modest_far.receive_some() == bytes(900)
    assert connection.unread == 0


# ---- signs of life ----


async def test_a_black_hole_is_noticed_within_20_seconds(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    stream, connection = await open_by_hand(nursery)
    await trio.sleep(100)
    stream.stall()
    began = trio.current_time()
    await connection.closed.wait()
    assert trio.current_time() - began <= KEEP_ALIVE + DEAD_AFTER
    assert connection.close_reason == f"not a byte for {KEEP_ALIVE + DEAD_AFTER} s"


async def test_an_idle_connection_lives_as_long_as_the_peer_answers(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    near, far = await open_mux_pair(nursery, await memory_carriers(latency=1))
    await trio.sleep(3600)
    assert near.is_open
    assert far.is_open
    assert near.round_trip == pytest.approx(2)


async def test_a_peer_that_takes_nothing_for_30_seconds_is_given_up(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    near, far = memory_stream_pair()
    assert isinstance(far.send_stream, trio.testing.MemorySendStream)
    far.send_stream.send_all_hook = trio.sleep_forever
    connection = MuxConnection(StreamCarrier(far, peer="by hand:1"), client=False)
    nursery.start_soon(connection.run)
    began = trio.current_time()
    connection.ping()
    while not connection.closed.is_set():
        await near.send_all(frame(PING, ACK, 0, 77))  # it is alive, and does not read
        await trio.sleep(1)
    assert trio.current_time() - began <= WRITE_STALL + FAREWELL + 1
    assert f"took no byte for {WRITE_STALL} s" in connection.close_reason


async def test_a_connection_leaves_no_task(autojump_clock: MockClock) -> None:
    async with no_task_left():
        async with trio.open_nursery() as nursery:
            near, far = await open_mux_streams(nursery, await memory_carriers())
            await near.send_all(b"hello")
            near.connection.close("enough")
            await far.connection.closed.wait()
    assert far.connection.close_reason == "the peer closed the connection"


@pytest.mark.network
async def test_a_connection_over_a_socket_leaves_no_descriptor() -> None:
    async with trio.open_nursery() as nursery:
        carriers = await socket_carriers()
        near, far = await open_mux_streams(nursery, carriers)
        near.connection.close("enough")
        await far.connection.closed.wait()
    for carrier in carriers:
        with pytest.raises(trio.BrokenResourceError):
            carrier.send_now([b"x"])
