"""Connections forwarded either way, through a host's `Forwards` and real sockets of loopback."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire import forward as wire
from dmsg_trio.apps.pty._forward_messages import ForwardError
from dmsg_trio.apps.pty.host import _forwards
from dmsg_trio.apps.pty.host._audit import AuditedSession
from dmsg_trio.apps.pty.host._forwards import REQUEST_TIME, TAKE_TIME, Forwards
from dmsg_trio.apps.pty.remote._forwarding import forward_here, forward_there
from dmsg_trio.testing import MemoryStream, memory_connection
from tests.apps.pty.shells import A, B, FarEnd
from tests.waiting import PATIENCE

pytestmark = pytest.mark.network

LOOPBACK = "127.0.0.1"
Handler = Callable[[trio.SocketStream], Awaitable[None]]


class Host:
    """A host that forwards, and streams to it; a `Route`."""

    def __init__(self, nursery: trio.Nursery, owner: PublicKey | None = A) -> None:
        self.forwards = Forwards()
        self.owner = owner
        self.links: list[MemoryStream] = []
        self.audited: list[AuditedSession] = []  # one for each stream
        self.served = 0  # streams at the moment
        self._nursery = nursery

    async def open(self, uri: str) -> FarEnd:
        assert uri == wire.FORWARD_URI
        near, far = memory_connection()
        self.links.append(near)
        self._nursery.start_soon(self._serve, FarEnd(far))
        await trio.lowlevel.checkpoint()
        return FarEnd(near)

    async def _serve(self, stream: FarEnd) -> None:
        self.served += 1
        self.audited.append(audited := AuditedSession())
        try:
            async with stream:
                # As the host does it: anything else that comes out of there is a fault of ours.
                await self.forwards.serve(stream, self.owner, audited)
        except (RemoteProtocolError, trio.BrokenResourceError):
            pass
        finally:
            self.served -= 1

    async def say(self, message: wire.Request) -> FarEnd:
        stream = await self.open(wire.FORWARD_URI)
        await stream.send_all(wire.encode(message))
        return stream


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with open_service_nursery() as nursery:
        host = Host(nursery)
        with trio.fail_after(PATIENCE):
            yield host
        for link in host.links:
            link.cut()
        with trio.fail_after(PATIENCE):
            while host.served:
                await trio.lowlevel.checkpoint()
        assert not host.forwards._waiting
        assert not host.forwards._counts


async def answer_of(stream: trio.abc.ReceiveStream) -> wire.Answer:
    length = wire.body_length_untrusted(await exactly(stream, 2))
    return wire.decode_answer_untrusted(await exactly(stream, length))


async def exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await stream.receive_some(size - len(data))
        assert piece
        data += piece
    return data


async def everything(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(piece) async for piece in stream])


async def shout(stream: trio.SocketStream) -> None:
    """Answer what was said once all of it is there, which needs half-close."""
    async with stream:
        await stream.send_all((await everything(stream)).upper() + b"!")


@asynccontextmanager
async def listening(handler: Handler = shout) -> AsyncIterator[int]:
    """Serve on a port of loopback for the block."""
    listeners = await trio.open_tcp_listeners(0, host=LOOPBACK)
    async with open_service_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handler, listeners)
        yield port_of(listeners)


def port_of(listeners: list[trio.SocketListener]) -> int:
    return int(listeners[0].socket.getsockname()[1])


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        return int(sock.getsockname()[1])


async def asked(port: int, data: bytes = b"hello") -> bytes:
    """Send all of ``data`` and an end; give the answer up to its end."""
    async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
        await stream.send_all(data)
        await stream.send_eof()
        return await everything(stream)


async def refused(port: int) -> None:
    """Wait until nobody listens there."""
    with pytest.raises(OSError, match="all attempts to connect"):
        while True:
            await (await trio.open_tcp_stream(LOOPBACK, port)).aclose()


# ---- -L ----


@asynccontextmanager
async def forwarded_here(host: Host, target: int) -> AsyncIterator[tuple[int, list[str]]]:
    listeners = await trio.open_tcp_listeners(0, host=LOOPBACK)
    reports: list[str] = []
    async with open_service_nursery() as nursery:
        nursery.start_soon(forward_here, host, listeners, LOOPBACK, target, reports.append)
        yield port_of(listeners), reports


async def test_connections_here_come_out_at_the_host(host: Host) -> None:
    async with listening() as target, forwarded_here(host, target) as (port, reports):
        for number in range(3):
            assert await asked(port, b"n%d" % number) == b"N%d!" % number
        assert reports == []


async def test_many_connections_at_once_do_not_mix(host: Host) -> None:
    answers: dict[int, bytes] = {}

    async def ask(port: int, number: int) -> None:
        answers[number] = await asked(port, b"x%d" % number * 1000)

    async with listening() as target, forwarded_here(host, target) as (port, reports):
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(ask, port, number)
        assert reports == []
    assert answers == {number: b"X%d" % number * 1000 + b"!" for number in range(50)}


async def test_a_target_that_refuses_is_reported_and_the_next_one_is_served(host: Host) -> None:
    target = unused_port()
    async with forwarded_here(host, target) as (port, reports):
        for count in range(1, 3):
            async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()  # as one whom the target itself refuses
            assert len(reports) == count
            assert f"not forwarded to {LOOPBACK}:{target}: cannot connect to" in reports[-1]


async def test_a_connection_that_breaks_does_not_look_whole(host: Host) -> None:
    """What is cut off at the host is cut off here: a download has not just ended."""

    async def say_half(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(b"the first half")
            with pytest.raises(trio.BrokenResourceError):
                await everything(stream)

    async with listening(say_half) as target, forwarded_here(host, target) as (port, reports):
        async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
            assert await stream.receive_some() == b"the first half"
            host.links[0].cut()
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
    assert reports == []


async def test_who_is_gone_here_is_gone_there(host: Host) -> None:
    came, left = trio.Event(), trio.Event()

    async def wait(stream: trio.SocketStream) -> None:
        async with stream:
            came.set()
            await everything(stream)
            left.set()

    async with listening(wait) as target, forwarded_here(host, target) as (port, _):
        async with await trio.open_tcp_stream(LOOPBACK, port):
            await came.wait()
        await left.wait()


# ---- -R ----


@asynccontextmanager
async def forwarded_there(host: Host, target: int) -> AsyncIterator[tuple[int, list[str]]]:
    reports: list[str] = []
    connect = partial(trio.open_tcp_stream, LOOPBACK, target)
    async with open_service_nursery() as nursery:
        port = await nursery.start(forward_there, host, LOOPBACK, 0, connect, reports.append)
        yield port, reports


async def test_connections_at_the_host_come_out_here(host: Host) -> None:
    async with listening() as target, forwarded_there(host, target) as (port, reports):
        for number in range(3):
            assert await asked(port, b"n%d" % number) == b"N%d!" % number
        assert reports == []
    await refused(port)


async def test_where_nobody_listens_here_the_caller_there_is_let_go_at_once(host: Host) -> None:
    async with forwarded_there(host, unused_port()) as (port, reports):
        async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        assert len(reports) == 1
        assert reports[0].startswith(f"not forwarded from {LOOPBACK}:0, {LOOPBACK}:")


async def test_a_port_that_is_taken_is_refused(host: Host) -> None:
    async with listening() as taken:
        connect = partial(trio.open_tcp_stream, LOOPBACK, taken)
        with pytest.raises(ForwardError, match=f"cannot listen on {LOOPBACK}:{taken}: .*in use"):
            await forward_there(host, LOOPBACK, taken, connect, print)


async def test_the_client_hears_that_the_host_forwards_no_more(host: Host) -> None:
    connect = partial(trio.open_tcp_stream, LOOPBACK, 1)
    with pytest.raises(ForwardError, match="is not forwarded any more"):
        async with open_service_nursery() as nursery:
            await nursery.start(forward_there, host, LOOPBACK, 0, connect, print)
            host.links[0].cut()
            await trio.sleep_forever()


async def test_a_listening_client_that_is_cut_off_frees_the_port(host: Host) -> None:
    stream = await host.say(wire.Listen(LOOPBACK, 0))
    opened = await answer_of(stream)
    assert isinstance(opened, wire.Opened)
    stream.reset()
    while host.served:
        await trio.lowlevel.checkpoint()
    again = await host.say(wire.Listen(LOOPBACK, opened.port))
    assert await answer_of(again) == opened


async def arrived(stream: trio.abc.ReceiveStream) -> wire.Arrived:
    answer = await answer_of(stream)
    assert isinstance(answer, wire.Arrived)
    return answer


async def test_a_connection_is_taken_once_and_by_its_own_key_only(host: Host) -> None:
    stream = await host.say(wire.Listen(LOOPBACK, 0))
    opened = await answer_of(stream)
    assert isinstance(opened, wire.Opened)
    async with await trio.open_tcp_stream(LOOPBACK, opened.port) as caller:
        take = wire.Take((await arrived(stream)).connection)
        host.owner = B
        gone = wire.Failed("that connection is gone, or was taken")
        assert await answer_of(await host.say(take)) == gone
        host.owner = A
        taken = await host.say(take)
        assert await answer_of(taken) == wire.Opened()
        assert await answer_of(await host.say(take)) == gone
        await caller.send_all(b"hello")
        assert await taken.receive_some() == b"hello"


async def test_who_waits_for_too_long_is_let_go(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TAKE_TIME == 20
    monkeypatch.setattr(_forwards, "TAKE_TIME", 0.05)
    stream = await host.say(wire.Listen(LOOPBACK, 0))
    opened = await answer_of(stream)
    assert isinstance(opened, wire.Opened)
    assert await asked(opened.port, b"") == b""
    late = await host.say(wire.Take((await arrived(stream)).connection))
    assert isinstance(await answer_of(late), wire.Failed)


async def test_more_than_may_wait_are_dropped(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_forwards, "MAX_WAITING", 4)
    stream = await host.say(wire.Listen(LOOPBACK, 0))
    opened = await answer_of(stream)
    assert isinstance(opened, wire.Opened)
    callers = [await trio.open_tcp_stream(LOOPBACK, opened.port) for _ in range(5)]
    assert await callers[4].receive_some() == b""
    for _ in range(4):
        take = wire.Take((await arrived(stream)).connection)
        assert await answer_of(await host.say(take)) == wire.Opened()
    for caller in callers:
        await caller.aclose()


async def test_what_was_taken_goes_on_when_nobody_listens_any_more(host: Host) -> None:
    stream = await host.say(wire.Listen(LOOPBACK, 0))
    opened = await answer_of(stream)
    assert isinstance(opened, wire.Opened)
    async with await trio.open_tcp_stream(LOOPBACK, opened.port) as caller:
        taken = await host.say(wire.Take((await arrived(stream)).connection))
        assert await answer_of(taken) == wire.Opened()
        await stream.aclose()
        await refused(opened.port)
        await caller.send_all(b"hello")
        assert await taken.receive_some() == b"hello"


# ---- what is written down ----


async def test_bytes_are_counted_each_way(host: Host) -> None:
    async with listening() as target:
        async with forwarded_here(host, target) as (port, _):
            assert await asked(port) == b"HELLO!"
        async with forwarded_there(host, target) as (port, _):
            assert await asked(port) == b"HELLO!"
    while host.served:
        await trio.lowlevel.checkpoint()
    lines = [(line.reason, line.bytes_in, line.bytes_out) for line in host.audited]
    assert lines == [
        (f"connect to {LOOPBACK}:{target}", 5, 6),
        (f"listen on {LOOPBACK}:0", 0, 0),
        ("take a connection that arrived", 6, 5),
    ]


async def test_what_was_carried_before_it_broke_is_counted(host: Host) -> None:
    came = trio.Event()

    async def hear(stream: trio.SocketStream) -> None:
        async with stream:
            assert await stream.receive_some() == b"hello"
            came.set()
            with pytest.raises(trio.BrokenResourceError):
                await everything(stream)

    async with listening(hear) as target, forwarded_here(host, target) as (port, _):
        async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
            await stream.send_all(b"hello")
            await came.wait()
            host.links[0].cut()
    while host.served:
        await trio.lowlevel.checkpoint()
    (line,) = host.audited
    assert (line.bytes_in, line.bytes_out) == (5, 0)


# ---- what a host puts up with ----


async def test_so_many_of_one_key_and_no_more(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_forwards, "MAX_FORWARDED", 2)
    streams = [await host.say(wire.Listen(LOOPBACK, 0)) for _ in range(3)]
    answers = [await answer_of(stream) for stream in streams]
    assert answers[2] == wire.Failed("2 are forwarded for this key already")
    host.owner = B
    assert isinstance(await answer_of(await host.say(wire.Listen(LOOPBACK, 0))), wire.Opened)


async def test_ports_of_root_are_not_for_the_shells_of_others() -> None:
    near, far = memory_connection()
    await near.send_all(wire.encode(wire.Listen(LOOPBACK, 80)))
    await Forwards(open_ports_only=True).serve(far, A, AuditedSession())
    assert await answer_of(near) == wire.Failed("port 80 is for root alone")


@pytest.mark.parametrize("data", [b"\0\0", b"\xff\xff", b"\0\x02{}", wire.encode(wire.Opened())])
async def test_garbage_is_an_error_and_nothing_else(data: bytes) -> None:
    near, far = memory_connection()
    await near.send_all(data)
    with pytest.raises(RemoteProtocolError):
        await Forwards().serve(far, A, AuditedSession())


async def test_who_says_nothing_is_not_waited_for(autojump_clock: MockClock) -> None:
    _near, far = memory_connection()
    with pytest.raises(RemoteProtocolError, match=f"no word within {REQUEST_TIME} s"):
        await Forwards().serve(far, A, AuditedSession())


@pytest.mark.parametrize("answer", [b"", b"\0\x02{}", wire.encode(wire.Arrived("x"))])
async def test_a_host_that_answers_nonsense_is_an_error(answer: bytes) -> None:
    near, far = memory_connection()

    class Nonsense:
        async def open(self, _: str) -> MemoryStream:
            await far.send_all(answer)
            await far.send_eof()
            return near

    with pytest.raises((ForwardError, RemoteProtocolError)):
        await forward_there(Nonsense(), "h", 1, partial(trio.open_tcp_stream, "h", 1), print)
