"""Serving an app on streams: the reference client's own bytes, limits on time, and the end."""

import errno
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
import trio.lowlevel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from trio.testing import MockClock, memory_stream_pair

from dmsg_trio._asgi import serve_app
from dmsg_trio._asgi import serving as serve_module
from dmsg_trio._asgi.connection import LINGER_TIME, REQUEST_TIME, WRITE_TIMEOUT
from dmsg_trio._asgi.serving import DRAIN_TIME, MAX_HEAD
from dmsg_trio._keys import SecretKey
from dmsg_trio.discovery import ClientInfo, Entry, HttpDiscovery, ServerInfo
from dmsg_trio.discovery._store import MemoryStore, Record, Since
from dmsg_trio.discovery.serving import (
    DiscoveryService,
    Limits,
    Policy,
    RateLimiter,
    make_app,
    serve_discovery,
)

Stream = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]
GET = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"
NOW = 1_795_370_240_000_000_000


class Listener(trio.abc.Listener[Stream]):
    """Accepts what a test dials, in memory."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Stream](100)

    def dial(self) -> Stream:
        near, far = memory_stream_pair()
        self._send.send_nowait(far)
        return near

    async def accept(self) -> Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        await self._receive.aclose()


@dataclass
class App:
    """An app that can be slow, wrong, and told to go on; it keeps who asked."""

    go_on: trio.Event = field(default_factory=trio.Event)
    clients: list[str] = field(default_factory=list)

    def asgi(self) -> ASGIApp:
        paths = {"/quick": self.quick, "/slow": self.slow, "/bug": self.bug, "/long": self.long}
        return Starlette(routes=[Route(path, handler) for path, handler in paths.items()])

    async def quick(self, request: Request) -> PlainTextResponse:
        assert request.client is not None
        self.clients.append(request.client.host)
        return PlainTextResponse("quick")

    async def slow(self, request: Request) -> PlainTextResponse:
        await self.go_on.wait()
        return PlainTextResponse("slow")

    async def bug(self, request: Request) -> PlainTextResponse:
        raise ZeroDivisionError("a bug in an app")

    async def long(self, request: Request) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 1000
                await trio.sleep(1)

        return StreamingResponse(pieces())


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[Listener]:
    listener = Listener()
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(serve_app, app, listener, client_address=lambda _: ("02ab", 49152))
        )
        yield listener
        nursery.cancel_scope.cancel()


async def receive_until(stream: Stream, end: bytes) -> bytes:
    received = bytearray()
    while end not in received:
        piece = await stream.receive_some()
        assert piece, f"ended after {bytes(received)!r}"
        received += piece
    return bytes(received)


async def ended(stream: Stream) -> bool:
    """Read to the end, whichever way it comes."""
    try:
        async for _ in stream:
            pass
    except trio.BrokenResourceError:
        pass
    return True


# ---- requests ----


async def test_requests_are_answered_one_after_the_other_on_one_stream() -> None:
    app = App()
    async with serving(app.asgi()) as listener:
        stream = listener.dial()
        for _ in range(3):
            await stream.send_all(GET % b"quick")
            answer = await receive_until(stream, b"quick")
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"server:" not in answer.lower()
    assert app.clients == ["02ab"] * 3


async def test_requests_that_come_at_once_are_answered_in_order() -> None:
    app = App()
    async with serving(app.asgi()) as listener:
        stream = listener.dial()
        app.go_on.set()
        await stream.send_all(GET % b"slow" + GET % b"quick" + GET % b"slow")
        answers = await receive_until(stream, b"quick")
        assert answers.count(b"HTTP/1.1 200") == 2
        assert b"\r\n\r\nslow" in answers
        assert b"\r\n\r\nslow" in await receive_until(stream, b"slow")


async def test_who_has_nothing_more_to_ask_is_still_answered() -> None:
    async with serving(App().asgi()) as listener:
        stream = listener.dial()
        await stream.send_all(GET % b"quick")
        await stream.send_eof()
        await receive_until(stream, b"quick")
        assert await stream.receive_some() == b""


@pytest.mark.parametrize(("size", "rest"), [(100, REQUEST_TIME), (10_000_000, LINGER_TIME)])
async def test_an_answer_to_a_request_that_the_app_does_not_read_arrives(
    size: int, rest: float, autojump_clock: MockClock
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.testing.wait_all_tasks_blocked()
        await PlainTextResponse("enough", status_code=413)(scope, receive, send)

    async with serving(app) as listener:
        stream = listener.dial()

        async def ask() -> None:
            head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
            await stream.send_all(head)
            for _ in range(0, size, 100_000):
                await stream.send_all(bytes(min(size, 100_000)))
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            assert (await receive_until(stream, b"enough")).startswith(b"HTTP/1.1 413")
        assert await ended(stream)
        assert trio.current_time() <= rest


async def test_who_vanishes_with_requests_left_to_answer_is_forgotten(
    autojump_clock: MockClock,
) -> None:
    app = App()
    async with serving(app.asgi()) as listener:
        stream = listener.dial()
        await stream.send_all(GET % b"slow" + GET % b"slow")
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()
        app.go_on.set()
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() < DRAIN_TIME


def transcript() -> list[tuple[bytes, bytes]]:
    """What a reference client sent to a discovery and what it got, piece by piece."""
    path = Path(__file__).parents[1] / "vectors" / "captures" / "client-discovery-http.txt"
    parts = re.split(rb"([<>]) \d{4}/\S+ \S+  length=(\d+) from=\d+ to=\d+\n", path.read_bytes())
    pieces: list[tuple[bytes, bytes]] = list(zip(parts[1::3], parts[3::3], strict=True))
    requests = [as_sent(text) for way, text in pieces if way == b">"]
    answers = [text for way, text in pieces if way == b"<"]
    return list(zip(requests, answers, strict=True))


def as_sent(text: bytes) -> bytes:
    """The recording shows ends of lines as newlines alone."""
    head, _, body = text.replace(b"\r\n", b"\n").partition(b"\n\n")
    return head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body


async def test_the_recorded_life_of_a_reference_client_is_answered_byte_for_byte() -> None:
    store = MemoryStore(lambda: NOW)
    exchanges = transcript()
    assert len(exchanges) == 6
    bodies = [answer.partition(b"\n\n")[2] for _, answer in exchanges]
    for known in (bodies[0].removeprefix(b"[").removesuffix(b"]"), bodies[1], bodies[3]):
        entry = Entry.parse_untrusted(known)
        record = Record(entry, None, Since.beginning(entry, NOW))
        await store.update(record.entry.pk, lambda _, record=record: record)  # type: ignore[misc]
    app = make_app(DiscoveryService(store, wall_clock=lambda: NOW))
    async with serving(app) as listener:
        stream = listener.dial()
        for (request, answer), body in zip(exchanges, bodies, strict=True):
            await stream.send_all(request)
            ours = await receive_until(stream, body)
            our_head, _, our_body = ours.partition(b"\r\n\r\n")
            assert our_body == body
            assert our_head.startswith(b"HTTP/1.1 200")
            wanted = re.findall(rb"(?m)^Content-(?:Type|Length): .*$", answer)
            for header in wanted:
                assert header.lower() in our_head.lower()


async def test_a_bug_is_logged_once_and_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(App().asgi()) as listener:
        stream = listener.dial()
        await stream.send_all(GET % b"bug")
        assert (await receive_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 500")
        other = listener.dial()
        await other.send_all(GET % b"quick")
        await receive_until(other, b"quick")
    errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(errors) == 1
    assert "a bug in an app" in caplog.text


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * MAX_HEAD,
        b"POST /quick HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_nonsense_ends_its_own_connection(nonsense: bytes) -> None:
    async with serving(App().asgi()) as listener:
        stream, other = listener.dial(), listener.dial()
        await stream.send_all(nonsense)
        assert await ended(stream)
        await other.send_all(GET % b"quick")
        await receive_until(other, b"quick")


@pytest.mark.parametrize(
    "offer", [b"Upgrade: h2c\r\nConnection: Upgrade\r\nHTTP2-Settings: AAMAAABk\r\n", b""]
)
async def test_http_stays_at_the_version_that_has_limits(
    offer: bytes, autojump_clock: MockClock
) -> None:
    async with serving(App().asgi()) as listener:
        stream = listener.dial()
        if offer:
            await stream.send_all((GET % b"quick").replace(b"\r\n\r\n", b"\r\n" + offer + b"\r\n"))
            answer = await receive_until(stream, b"quick")
        else:
            await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
            answer = await receive_until(stream, b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200" if offer else b"HTTP/1.1 4")


# ---- limits ----


async def test_a_request_that_dribbles_in_is_cut_off(autojump_clock: MockClock) -> None:
    async with serving(App().asgi()) as listener:
        stream = listener.dial()
        start = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"G")
                await trio.sleep(1)
        assert trio.current_time() - start == pytest.approx(REQUEST_TIME, abs=2)


async def test_an_idle_connection_is_ended(autojump_clock: MockClock) -> None:
    async with serving(App().asgi()) as listener:
        stream = listener.dial()
        await stream.send_all(GET % b"quick")
        await receive_until(stream, b"quick")
        start = trio.current_time()
        assert await ended(stream)
        assert trio.current_time() - start == pytest.approx(REQUEST_TIME, abs=1)


async def test_an_answer_may_take_its_time_while_it_moves(autojump_clock: MockClock) -> None:
    async with serving(App().asgi()) as listener:
        stream = listener.dial()
        await stream.send_all(GET % b"long")
        received = 0
        while trio.current_time() < 3 * REQUEST_TIME:
            received += len(await stream.receive_some())
        assert received > 2 * REQUEST_TIME * 1000


async def test_a_reader_that_stalls_is_dropped(autojump_clock: MockClock) -> None:
    class Stalled(Listener):
        """Its streams never take anything."""

        def dial(self) -> Stream:
            near, far = memory_stream_pair()
            far.send_stream.send_all_hook = trio.sleep_forever
            self._send.send_nowait(far)
            return near

    listener = Stalled()
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(serve_app, App().asgi(), listener, client_address=lambda _: ("02ab", 1))
        )
        stream = listener.dial()
        await stream.send_all(GET % b"quick")
        assert await ended(stream)
        assert trio.current_time() == pytest.approx(WRITE_TIMEOUT, abs=1)
        nursery.cancel_scope.cancel()


async def test_only_so_many_connections_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_module, "MAX_CONNECTIONS", 2)
    async with serving(App().asgi()) as listener:
        first, second, third = (listener.dial() for _ in range(3))
        assert await ended(third)
        await first.aclose()
        await trio.testing.wait_all_tasks_blocked()
        fourth = listener.dial()
        for stream in (second, fourth):
            await stream.send_all(GET % b"quick")
            await receive_until(stream, b"quick")


async def test_who_is_gone_before_being_named_harms_nobody() -> None:
    def name(stream: Stream) -> tuple[str, int]:
        if not named:
            named.append(stream)
            raise OSError("not connected")
        return ("02ab", 1)

    named: list[Stream] = []
    listener = Listener()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_app, App().asgi(), listener, client_address=name))
        gone, here = listener.dial(), listener.dial()
        assert await ended(gone)
        await here.send_all(GET % b"quick")
        await receive_until(here, b"quick")
        nursery.cancel_scope.cancel()


class Short(Listener):
    """Cannot accept at first."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self._errors = [error]

    async def accept(self) -> Stream:
        if self._errors:
            raise self._errors.pop()
        return await super().accept()


async def test_a_lack_of_file_descriptors_passes(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Short(OSError(errno.EMFILE, "too many open files"))
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(serve_app, App().asgi(), listener, client_address=lambda _: ("02ab", 1))
        )
        stream = listener.dial()
        await stream.send_all(GET % b"quick")
        await receive_until(stream, b"quick")
        nursery.cancel_scope.cancel()
    assert "too many open files" in caplog.text


async def test_a_listener_that_broke_is_the_callers_to_know() -> None:
    listener = Short(OSError(errno.EIO, "broken"))
    with pytest.raises(OSError, match="broken"):
        await serve_app(App().asgi(), listener, client_address=lambda _: ("02ab", 1))


# ---- what comes before a WebSocket is one ----

UPGRADE = (
    b"GET /ws HTTP/%s\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
HELLO = b"\x81\x85\0\0\0\0hello"  # a frame with a mask of zeros


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        await websocket.send_text(await websocket.receive_text())


async def refuse(websocket: WebSocket) -> None:
    await websocket.close()


async def refuse_at_length(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("no", 418))


@asynccontextmanager
async def dialed(app: Callable[[WebSocket], Awaitable[None]]) -> AsyncIterator[Stream]:
    listener = Listener()
    routes = Starlette(routes=[WebSocketRoute("/ws", app)])
    async with trio.open_nursery() as nursery:
        serve = partial(serve_app, client_address=lambda _: ("02ab", 1), websockets=True)
        await nursery.start(serve, routes, listener)
        yield listener.dial()
        nursery.cancel_scope.cancel()


async def test_words_that_come_too_early_wait_for_the_app(autojump_clock: MockClock) -> None:
    async with dialed(echo) as near:
        await near.send_all(UPGRADE % b"1.1" + HELLO)
        received = await receive_until(near, b"hello")
    assert received.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(("app", "code"), [(refuse, b"403"), (refuse_at_length, b"418")])
@pytest.mark.parametrize("early", [HELLO, b"PUT / HTTP\r\n folded\r\n\r\n"])
async def test_who_is_refused_is_answered_once_whatever_it_has_said(
    app: Callable[[WebSocket], Awaitable[None]],
    code: bytes,
    early: bytes,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with dialed(app) as near:
        await near.send_all(UPGRADE % b"1.1" + early)
        await near.send_eof()
        received = b""
        with suppress(trio.BrokenResourceError):
            while data := await near.receive_some():
                received += data
    assert received.startswith(b"HTTP/1.1 %s " % code)
    assert received.count(b"HTTP/1.1") == 1
    assert not caplog.records


async def test_no_other_version_has_websockets(autojump_clock: MockClock) -> None:
    async with dialed(echo) as near:
        await near.send_all(UPGRADE % b"1.9" + b"garbage")
        assert (await receive_until(near, b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")


# ---- the end ----


async def test_who_is_cancelled_before_it_serves_is_not_held() -> None:
    listener = Listener()
    with trio.CancelScope() as scope:
        scope.cancel()
        await serve_app(App().asgi(), listener, client_address=lambda _: ("02ab", 1))
    assert scope.cancelled_caught
    with pytest.raises(trio.BrokenResourceError):  # the listener is closed
        listener.dial()


async def test_an_answer_under_way_is_finished_and_an_idle_connection_ended(
    autojump_clock: MockClock,
) -> None:
    app, finished = App(), trio.Event()
    listener = Listener()

    async def serve(*, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                await inner.start(
                    partial(serve_app, app.asgi(), listener, client_address=lambda _: ("a", 1))
                )
                task_status.started(scope)
        finished.set()

    async with trio.open_nursery() as nursery:
        scope: trio.CancelScope = await nursery.start(serve)
        busy, idle = listener.dial(), listener.dial()
        await busy.send_all(GET % b"slow")
        await idle.send_all(GET % b"quick")
        await receive_until(idle, b"quick")
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        assert await ended(idle)
        assert not finished.is_set()
        app.go_on.set()
        await receive_until(busy, b"slow")
        assert await ended(busy)
        await finished.wait()
        assert trio.current_time() < DRAIN_TIME


async def test_an_answer_that_does_not_finish_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with serving(App().asgi()) as listener:
        stream = listener.dial()
        await stream.send_all(GET % b"slow")
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == pytest.approx(DRAIN_TIME, abs=0.5)


# ---- on real sockets ----


@pytest.mark.network
async def test_a_discovery_on_tcp_does_what_its_client_asks() -> None:
    client, server = SecretKey(b"\x01" * 32), SecretKey(b"\x02" * 32)
    now: Callable[[], int] = lambda: NOW  # noqa: E731
    service = DiscoveryService(MemoryStore(now), Policy(test_mode=True), wall_clock=now)
    by_source = RateLimiter(trio.current_time, rate=0.001, burst=6)
    limits = Limits(by_source, RateLimiter(trio.current_time))
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_discovery, service, make_app(service, limits=limits), [listener])
        async with HttpDiscovery(f"http://127.0.0.1:{port}") as discovery:
            info = ServerInfo(address="127.0.0.1:1", available_sessions=1)
            await discovery.publish(Entry(pk=server.pk, timestamp=NOW, server=info).signed(server))
            mine = Entry(pk=client.pk, timestamp=NOW, client=ClientInfo((server.pk,)))
            await discovery.publish(mine.signed(client))
            assert (await discovery.entry(client.pk)).delegated_servers == (server.pk,)
            assert [entry.pk for entry in await discovery.available_servers()] == [server.pk]
            await discovery.withdraw(mine.signed(client))
            assert len(await discovery.all_servers()) == 1
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            assert (await http.get("/health")).status_code == 429
            big = b" " * 100_000
            assert (await http.post("/dmsg-discovery/entry/", content=big)).status_code == 429
        nursery.cancel_scope.cancel()
