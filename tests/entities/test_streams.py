"""Streams between two clients, through a server, all in memory."""

import hashlib
import os
from collections.abc import Awaitable, Callable

import h11
import pytest
import trio
from trio.testing import MockClock, check_half_closeable_stream, wait_all_tasks_blocked

from dmsg_trio import UnreachableError
from dmsg_trio._wire.yamux import INITIAL_WINDOW
from dmsg_trio.client import DmsgStream
from dmsg_trio.testing import Network
from tests.entities.parties import connect, connections, digest_of, receive_all, two_clients
from tests.net.links import (
    cancel_at_each_step,
    clog,
    count_tasks,
    is_clean,
    leftovers,
    no_task_left,
)


async def test_bytes_go_both_ways(autojump_clock: MockClock) -> None:
    async with two_clients() as (_, a, b):
        near, far = await connect(a, b)
        await near.send_all(b"hello")
        assert await far.receive_some() == b"hello"
        await far.send_all(b"and back")
        assert await near.receive_some() == b"and back"


async def test_both_ends_know_who_they_talk_to(autojump_clock: MockClock) -> None:
    async with two_clients() as (network, a, b):
        near, far = await connect(a, b)
        assert near.remote == far.local
        assert far.remote == near.local
        assert (near.remote.pk, far.remote.pk) == (b.pk, a.pk)
        assert near.server_pk == far.server_pk == network.servers[0].pk


async def test_a_stream_through_a_relay_keeps_the_contract_of_half_closeable_streams(
    autojump_clock: MockClock,
) -> None:
    async with two_clients() as (_, a, b):

        async def make() -> tuple[DmsgStream, DmsgStream]:
            return await connect(a, b)

        async def make_clogged() -> tuple[DmsgStream, DmsgStream]:
            near, far = await connect(a, b)
            await clog(near)
            await clog(far)
            return near, far

        await check_half_closeable_stream(make, make_clogged)


async def test_each_side_ends_for_itself(autojump_clock: MockClock) -> None:
    async with two_clients() as (network, a, b):
        for first, second in [(0, 1), (1, 0)]:
            ends = await connect(a, b)
            await ends[first].send_all(b"the last word")
            await ends[first].send_eof()
            assert await receive_all(ends[second]) == b"the last word"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send_and_end, ends[second], bytes(3 * INITIAL_WINDOW))
                assert await receive_all(ends[first]) == bytes(3 * INITIAL_WINDOW)
            await ends[0].aclose()
            await ends[1].aclose()
        await wait_all_tasks_blocked()
        assert is_clean(*connections(network, a, b))


async def test_a_reset_arrives_as_a_broken_stream(autojump_clock: MockClock) -> None:
    async with two_clients() as (_, a, b):
        for first, second in [(0, 1), (1, 0)]:
            ends = await connect(a, b)
            ends[first].reset()
            with pytest.raises(trio.BrokenResourceError):
                await ends[second].receive_some()
            with pytest.raises(trio.BrokenResourceError):
                await ends[second].send_all(b"?")


async def test_leaving_a_block_by_an_exception_resets(autojump_clock: MockClock) -> None:
    async with two_clients() as (network, a, b):
        near, far = await connect(a, b)
        with pytest.raises(ValueError, match="my fault"):
            async with near:
                await near.send_all(b"half of what there was")
                raise ValueError("my fault")
        assert await far.receive_some() == b"half of what there was"
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some()
        await far.aclose()
        assert is_clean(*connections(network, a, b))


async def test_an_end_within_a_frame_is_no_end(autojump_clock: MockClock) -> None:
    async with two_clients() as (_, a, b):
        near, far = await connect(a, b)
        await near._mux.send_all(near._sealer.seal(b"a whole frame")[:-1])
        await near._mux.send_eof()
        with pytest.raises(trio.BrokenResourceError, match="within a frame"):
            await far.receive_some()


async def test_a_byte_that_was_changed_on_the_way_breaks_the_stream_alone(
    autojump_clock: MockClock,
) -> None:
    async with two_clients() as (_, a, b):
        near, far = await connect(a, b)
        sealed = near._sealer.seal(b"to be changed")
        sealed[-1] ^= 1
        await near._mux.send_all(sealed)
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError, match="not what was sent"):
                await far.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some()
        again, far = await connect(a, b)
        await again.send_all(b"as it was")
        assert await far.receive_some() == b"as it was"


async def test_a_lost_session_breaks_streams_at_once_and_says_why(
    autojump_clock: MockClock,
) -> None:
    async with two_clients() as (network, a, b):
        near, far = await connect(a, b)
        began = trio.current_time()
        await network.stop_server(network.servers[0])
        for end in (near, far):
            with pytest.raises(trio.BrokenResourceError, match="the connection broke"):
                await end.receive_some()
        assert trio.current_time() - began < 3
        with pytest.raises(UnreachableError):
            await a.open_stream(b.pk, 80)


async def test_a_client_can_dial_itself(autojump_clock: MockClock) -> None:
    async with Network() as network, network.client() as a:
        message = os.urandom(3 * INITIAL_WINDOW)
        near, far = await connect(a, a)
        received: list[bytes] = []

        async def talk(stream: DmsgStream) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send_and_end, stream, message)
                received.append(await receive_all(stream))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk, near)
            nursery.start_soon(talk, far)
        assert received == [message, message]
        await near.aclose()
        await far.aclose()
        assert is_clean(*connections(network, a))


async def _send_and_end(stream: DmsgStream, message: bytes) -> None:
    await stream.send_all(message)
    await stream.send_eof()


async def test_what_is_sent_right_before_leaving_the_network_arrives(
    autojump_clock: MockClock,
) -> None:
    async with Network(latency=0.05) as network, network.client() as b:
        listener = b.listen(80)
        async with network.client() as a:
            async with await a.open_stream(b.pk, 80) as near:
                await near.send_all(bytes(100_000))
        assert await receive_all(await listener.accept()) == bytes(100_000)


# ---- others ----


async def test_many_downloads_to_one_slow_client_all_arrive_whole(
    autojump_clock: MockClock,
) -> None:
    """A hundred senders that never wait, and one line of 4 MB/s to the one who wants it all."""
    size, count = 600_000, 100
    async with Network(latency=0.02) as network, network.client() as server:
        async with network.client(rate=4_000_000) as slow, trio.open_nursery() as nursery:
            listener = server.listen(80)
            nursery.start_soon(_serve_downloads, listener, size)
            largest = 0
            digests: list[bytes] = []

            async def download() -> None:
                async with await slow.open_stream(server.pk, 80) as stream:
                    digests.append(await digest_of(stream))

            async def watch() -> None:
                nonlocal largest
                while True:
                    unsent = leftovers(*connections(network, slow, server))["unsent"]
                    largest = max(largest, unsent)
                    await trio.sleep(0.05)

            async with trio.open_nursery() as downloads:
                nursery.start_soon(watch)
                for _ in range(count):
                    downloads.start_soon(download)
            nursery.cancel_scope.cancel()
    assert digests == [hashlib.sha256(_page(size)).digest()] * count
    assert largest < count * INITIAL_WINDOW + 4 * 1024 * 1024


def _page(size: int) -> bytes:
    return bytes(index * 7 % 251 for index in range(1000)) * (size // 1000)


async def _serve_downloads(listener: trio.abc.Listener[DmsgStream], size: int) -> None:
    page = _page(size)

    async def handle(stream: DmsgStream) -> None:
        async with stream:
            await stream.send_all(page)

    await trio.serve_listeners(handle, [listener])


async def test_a_reader_that_stops_slows_nobody_else_and_costs_no_memory(
    autojump_clock: MockClock,
) -> None:
    async with Network(latency=0.01) as network, network.client() as a, network.client() as b:
        stuck, _ = await connect(a, b)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stuck.send_all, bytes(50_000_000))
            await trio.sleep(5)
            held = leftovers(*connections(network, a, b))
            near, far = await connect(a, b)
            began = trio.current_time()
            async with trio.open_nursery() as talking:
                talking.start_soon(_send_and_end, near, bytes(5_000_000))
                assert len(await receive_all(far)) == 5_000_000
            assert trio.current_time() - began < 2
            nursery.cancel_scope.cancel()
        assert held["unread"] == pytest.approx(INITIAL_WINDOW, rel=0.05)
        assert held["unsent"] < INITIAL_WINDOW


# ---- cancelling ----


async def _send_all(near: DmsgStream, far: DmsgStream) -> None:
    await near.send_all(bytes(3 * INITIAL_WINDOW))


async def _receive_some(near: DmsgStream, far: DmsgStream) -> None:
    await near.receive_some()


async def _send_eof(near: DmsgStream, far: DmsgStream) -> None:
    await near.send_eof()


async def _aclose(near: DmsgStream, far: DmsgStream) -> None:
    await near.aclose()


@pytest.mark.parametrize("method", [_send_all, _receive_some, _send_eof, _aclose])
async def test_a_cancelled_call_on_a_stream_leaves_nothing(
    autojump_clock: MockClock, method: Callable[[DmsgStream, DmsgStream], Awaitable[None]]
) -> None:
    async with two_clients() as (network, a, b), trio.open_nursery() as nursery:
        before = count_tasks()
        pairs: list[tuple[DmsgStream, DmsgStream]] = []

        async def answer(far: DmsgStream) -> None:
            try:
                await far.send_all(b"something to receive")
                await receive_all(far)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

        async def prepare() -> Callable[[], Awaitable[object]]:
            pairs.append(await connect(a, b))
            nursery.start_soon(answer, pairs[-1][1])
            return lambda: method(*pairs[-1])

        async def check(step: int) -> None:
            for stream in pairs[-1]:
                stream.reset()
            near, far = await connect(a, b)
            await near.send_all(b"still here")
            assert await far.receive_some() == b"still here"
            near.reset()
            far.reset()
            await trio.sleep(0.1)
            assert is_clean(*connections(network, a, b)), leftovers(*connections(network, a, b))
            assert count_tasks() == before

        assert await cancel_at_each_step(prepare, check) >= 1
        nursery.cancel_scope.cancel()


async def test_a_cancelled_dial_leaves_nothing(autojump_clock: MockClock) -> None:
    async with two_clients(latency=0.01) as (network, a, b):
        listener = b.listen(80)
        await (await a.open_stream(b.pk, 80)).aclose()
        await (await listener.accept()).aclose()
        await trio.sleep(1)
        before = count_tasks()

        async def prepare() -> Callable[[], Awaitable[object]]:
            async def dial() -> None:
                (await a.open_stream(b.pk, 80)).reset()

            return dial

        async def check(step: int) -> None:
            await trio.sleep(1)
            while listener._waiting:
                (await listener.accept()).reset()
            assert is_clean(*connections(network, a, b)), leftovers(*connections(network, a, b))
            assert count_tasks() == before
            near, far = await a.open_stream(b.pk, 80), await listener.accept()
            await near.send_all(b"still here")
            assert await far.receive_some() == b"still here"
            near.reset()
            far.reset()
            await trio.sleep(1)

        assert await cancel_at_each_step(prepare, check) >= 1


async def test_a_cancelled_accept_loses_no_stream(autojump_clock: MockClock) -> None:
    async with two_clients() as (_, a, b):
        listener = b.listen(80)
        opened: list[DmsgStream] = []
        accepted: list[DmsgStream] = []

        async def accept() -> None:
            accepted.append(await listener.accept())

        async def prepare() -> Callable[[], Awaitable[object]]:
            opened.append(await a.open_stream(b.pk, 80))
            return accept

        async def check(step: int) -> None:
            if len(accepted) < len(opened):
                await accept()

        await cancel_at_each_step(prepare, check)
        assert [each.remote for each in accepted] == [each.local for each in opened]


async def test_a_client_that_is_cancelled_anywhere_leaves_no_task_and_no_entry(
    autojump_clock: MockClock,
) -> None:
    async with Network() as network:
        await trio.sleep(2)

        async def prepare() -> Callable[[], Awaitable[object]]:
            async def live() -> None:
                async with network.client():
                    await trio.sleep(2)

            return live

        async def check(step: int) -> None:
            await trio.sleep(5)
            assert not len(network.servers[0].routes)
            assert count_tasks() == before

        before = count_tasks()
        assert await cancel_at_each_step(prepare, check) >= 2


async def test_a_network_leaves_no_task(autojump_clock: MockClock) -> None:
    async with no_task_left(), two_clients(servers=3) as (_, a, b):
        near, _ = await connect(a, b)
        await near.send_all(b"left as it is")


# ---- what is built on streams ----


async def test_a_listener_serves_as_trio_listeners_do(autojump_clock: MockClock) -> None:
    async def echo(stream: DmsgStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send_all(data)

    async with two_clients() as (_, a, b), trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, echo, [b.listen(7)])
        await wait_all_tasks_blocked()
        for _ in range(3):
            async with await a.open_stream(b.pk, 7) as stream:
                await _send_and_end(stream, b"hello")
                assert await receive_all(stream) == b"hello"
        nursery.cancel_scope.cancel()


async def test_http_runs_over_a_stream(autojump_clock: MockClock) -> None:
    page = os.urandom(300_000)

    async def serve(stream: DmsgStream) -> None:
        async with stream:
            http = h11.Connection(h11.SERVER)
            while not isinstance(await next_event(http, stream), h11.EndOfMessage):
                pass
            head = h11.Response(status_code=200, headers=[("Content-Length", str(len(page)))])
            for part in (head, h11.Data(data=page), h11.EndOfMessage()):
                await stream.send_all(http.send(part) or b"")

    async def next_event(
        http: h11.Connection, stream: DmsgStream
    ) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some()))
        return event

    async with two_clients() as (_, a, b), trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [b.listen(80)])
        await wait_all_tasks_blocked()
        async with await a.open_stream(b.pk, 80) as stream:
            http = h11.Connection(h11.CLIENT)
            request = h11.Request(method="GET", target="/", headers=[("Host", "b")])
            for part in (request, h11.EndOfMessage()):
                await stream.send_all(http.send(part) or b"")
            body = bytearray()
            while not isinstance(event := await next_event(http, stream), h11.EndOfMessage):
                if isinstance(event, h11.Data):
                    body += event.data
            assert body == page
        nursery.cancel_scope.cancel()
