"""Remote calls over streams: many at a time, cancelled ones, and connections that end."""

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire import gob
from dmsg_trio._wire.pty import READ, STOP, WRITE
from dmsg_trio._wire.rpc import MAX_CALLS, REQUEST, Method, RpcCaller
from dmsg_trio.apps.pty._rpc import (
    QUEUE,
    Handlers,
    RpcEndedError,
    RpcError,
    open_rpc,
    serve_rpc,
)
from dmsg_trio.testing._pipe import memory_connection


class Desk:
    """Handlers that a test can hold up."""

    def __init__(self) -> None:
        self.may_read = trio.Event()
        self.reading = 0
        self.cancelled = 0
        self.handlers: Handlers = {READ: self.read, WRITE: self.write, STOP: self.stop}

    async def read(self, size: gob.Value) -> gob.Value:
        self.reading += 1
        try:
            await self.may_read.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        return repr(size).encode()

    async def write(self, data: gob.Value) -> gob.Value:
        assert isinstance(data, bytes)
        return len(data)

    async def stop(self, _: gob.Value) -> gob.Value:
        raise RpcError("no active pty session")


class OneSided(trio.abc.Stream):
    """A peer that says what it was told to, and takes nothing until it may."""

    def __init__(self, says: list[bytes]) -> None:
        self.takes_data = trio.Event()
        self.sent: list[int] = []
        self.received = 0
        self._says = says

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.takes_data.wait()
        self.sent.append(len(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self.takes_data.wait()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._says:
            await trio.sleep_forever()
        self.received += 1
        return self._says.pop(0) if len(self._says) > 1 else self._says[0]

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_call_that_waits_holds_up_no_other() -> None:
    desk, (near, far) = Desk(), memory_stream_pair()
    given: list[gob.Value] = []
    async with trio.open_nursery() as nursery, open_rpc(near) as rpc:
        nursery.start_soon(serve_rpc, far, desk.handlers)

        async def read(size: int) -> None:
            given.append(await rpc.call(READ, size))

        async with trio.open_nursery() as readers:
            readers.start_soon(read, 1)
            readers.start_soon(read, 2)
            await wait_all_tasks_blocked()
            assert await rpc.call(WRITE, b"abc") == 3
            assert given == []
            desk.may_read.set()
        nursery.cancel_scope.cancel()
    assert sorted(given, key=repr) == [b"1", b"2"]


async def test_an_error_of_a_handler_is_one_of_the_call() -> None:
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery, open_rpc(near) as rpc:
        nursery.start_soon(serve_rpc, far, Desk().handlers)
        with pytest.raises(RpcError, match=r"^no active pty session$"):
            await rpc.call(STOP, {})
        with pytest.raises(RpcError, match=r"^rpc: can't find service foo\.Bar$"):
            await rpc.call(Method("foo.Bar", gob.EMPTY, gob.EMPTY), {})
        assert await rpc.call(WRITE, b"still there") == 11
        nursery.cancel_scope.cancel()


async def test_a_cancelled_call_harms_no_other() -> None:
    desk, (near, far) = Desk(), memory_stream_pair()
    async with trio.open_nursery() as nursery, open_rpc(near) as rpc:
        nursery.start_soon(serve_rpc, far, desk.handlers)
        async with trio.open_nursery() as readers:
            readers.start_soon(rpc.call, READ, 1)
            await wait_all_tasks_blocked()
            readers.cancel_scope.cancel()
        desk.may_read.set()
        assert await rpc.call(READ, 2) == b"2"
        assert await rpc.call(WRITE, b"abc") == 3
        nursery.cancel_scope.cancel()


async def test_calls_above_the_bound_wait_for_answers() -> None:
    desk, (near, far) = Desk(), memory_stream_pair()
    async with trio.open_nursery() as nursery, open_rpc(near) as rpc:
        nursery.start_soon(serve_rpc, far, desk.handlers)
        async with trio.open_nursery() as readers:
            for size in range(MAX_CALLS + 5):
                readers.start_soon(rpc.call, READ, size)
            await wait_all_tasks_blocked()
            assert desk.reading == MAX_CALLS
            desk.may_read.set()
        assert desk.reading == MAX_CALLS + 5
        nursery.cancel_scope.cancel()


async def test_calls_that_nobody_takes_wait_and_do_not_pile_up() -> None:
    size = 32 * 1024
    stream = OneSided([])
    async with open_rpc(stream) as rpc, trio.open_nursery() as writers:
        for _ in range(10):
            writers.start_soon(rpc.call, WRITE, bytes(size))
        await wait_all_tasks_blocked()
        stream.takes_data.set()
        await wait_all_tasks_blocked()
        writers.cancel_scope.cancel()
    assert sum(stream.sent) > 10 * size
    assert max(stream.sent) <= QUEUE + 2 * size


@pytest.mark.parametrize("how", ["end", "cut", "nonsense"])
async def test_the_end_of_the_connection_is_that_of_all_calls(
    how: str, autojump_clock: MockClock
) -> None:
    near, far = memory_connection()
    async with trio.open_nursery() as nursery, open_rpc(near) as rpc:

        async def read() -> None:
            with pytest.raises(RpcEndedError, match=r"the connection is over: ."):
                await rpc.call(READ, 1)

        nursery.start_soon(read)
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        match how:
            case "end":
                await far.aclose()
            case "cut":
                far.cut()
            case "nonsense":
                await far.send_all(b"GET / HTTP/1.1\r\n" * 9)
        await wait_all_tasks_blocked()
        with pytest.raises(RpcEndedError, match=r"the connection is over: ."):
            await rpc.call(READ, 1)


async def test_a_connection_that_takes_nothing_any_more_fails_its_calls() -> None:
    near, far = memory_stream_pair()
    assert far.receive_stream is not None
    far.receive_stream.close()
    async with open_rpc(near) as rpc:
        with pytest.raises(RpcEndedError):
            await rpc.call(READ, 1)


async def test_after_its_block_a_client_calls_no_more() -> None:
    near, _ = memory_stream_pair()
    async with open_rpc(near) as rpc:
        pass
    with pytest.raises(RpcEndedError, match="closed on this side"):
        await rpc.call(READ, 1)


async def test_a_call_of_another_task_ends_with_the_block() -> None:
    near, _ = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        async with open_rpc(near) as rpc:

            async def read() -> None:
                with pytest.raises(RpcEndedError, match="closed on this side"):
                    await rpc.call(READ, 1)

            nursery.start_soon(read)
            await wait_all_tasks_blocked()


# ---- the side that answers ----


async def test_handlers_end_with_the_connection() -> None:
    desk, (near, far) = Desk(), memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_rpc, far, desk.handlers)
        await near.send_all(RpcCaller().call(READ, 1)[1])
        await wait_all_tasks_blocked()
        assert desk.reading == 1
        await near.aclose()
    assert desk.cancelled == 1


@pytest.mark.parametrize("cut", [True, False])
async def test_a_host_survives_a_client_that_goes_away_with_calls_under_way(
    cut: bool, autojump_clock: MockClock
) -> None:
    desk, (near, far) = Desk(), memory_connection()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_rpc, far, desk.handlers)
            caller = RpcCaller()
            await near.send_all(b"".join(caller.call(READ, n)[1] for n in range(MAX_CALLS)))
            await wait_all_tasks_blocked()
            near.cut() if cut else await near.aclose()
            desk.may_read.set()


async def test_bytes_that_are_no_calls_end_the_connection() -> None:
    desk, (near, far) = Desk(), memory_stream_pair()
    await near.send_all(RpcCaller().call(READ, 1)[1])
    await near.send_all(b"\xf8" + b"\xff" * 8)
    with pytest.raises(RemoteProtocolError, match="a message of 18446744073709551615 bytes"):
        await serve_rpc(far, desk.handlers)


async def test_who_floods_a_host_and_reads_no_answers_is_not_read_any_more() -> None:
    encoder = gob.Encoder()
    bad_call = [
        encoder.encode(REQUEST, {"ServiceMethod": "no.Such"}) + encoder.encode(gob.EMPTY, {})
        for _ in range(2)
    ]
    stream = OneSided([bad_call[0], bad_call[1] * 500])  # the last one again and again
    with trio.move_on_after(0.5):
        await serve_rpc(stream, Desk().handlers)
    answers = len(b"rpc: can't find service no.Such") * 500
    assert 2 <= stream.received < 3 + QUEUE / answers
