"""ASGI apps on a port: who asks, who may, WebSockets, lifespans, long bodies, and the end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count

import httpx
import pytest
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from trio.testing import MockClock
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    RejectConnection,
    RejectData,
    TextMessage,
)
from wsproto.events import Request as Upgrade
from wsproto.extensions import PerMessageDeflate

from dmsg_trio._asgi.connection import BODY_TIME, REQUEST_TIME, WRITE_TIMEOUT
from dmsg_trio._asgi.serving import DRAIN_TIME, MAX_HEAD
from dmsg_trio._errors import DmsgError, LocalProtocolError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.client import DmsgStream
from dmsg_trio.http import DmsgTransport, serve_asgi
from dmsg_trio.testing import Network
from tests.http.parties import Ends, Site, ends

# ---- who asks ----


async def test_the_app_sees_the_key_and_the_port_of_who_asks() -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        scopes.append(scope)
        await PlainTextResponse("ok")(scope, receive, send)

    async with ends(app=app) as both, both.http() as http:
        await http.get("/")
    host, port = scopes[0]["client"]
    assert host == str(both.client.pk)
    assert port >= 49152
    assert scopes[0]["server"] == (str(both.server.pk), 80)


async def test_who_is_on_the_list_is_answered() -> None:
    def anybody(pk: PublicKey) -> bool:
        asked.append(pk)
        return True

    asked: list[PublicKey] = []
    async with ends(allow=anybody) as both, both.http() as http:
        assert (await http.get("/who")).text == str(both.client.pk)
        assert asked == [both.client.pk]


async def test_who_is_not_on_the_list_is_told_and_the_app_sees_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ends(allow=set()) as both, both.http() as http:
        for _ in range(2):
            answer = await http.post("/who", content=bytes(2_000_000))
            assert answer.status_code == 403
            assert f"{both.client.pk} is not on this server's list" in answer.text
        assert both.site.hosts == []
        async with await both.client.open_stream(both.server.pk, 80) as stream:
            ws = WebSocketClient(stream)
            rejection = await ws.connect()
            assert isinstance(rejection, RejectConnection)
            assert rejection.status_code == 403
            assert isinstance(body := await ws.receive(), RejectData)
            assert b"is not on this server's list" in bytes(body.data)
    refusals = [each for each in caplog.records if "refused" in each.getMessage()]
    assert len(refusals) == 1
    assert str(both.client.pk) in refusals[0].getMessage()


async def test_what_are_no_keys_and_no_app_is_an_error_at_once() -> None:
    async with ends() as both:
        for allow in (str(both.client.pk), [str(both.client.pk)]):
            with pytest.raises(TypeError, match=f"allow has keys, .* not .*{both.client.pk}"):
                await serve_asgi(both.site.asgi(), both.server, 81, allow=allow)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="an ASGI app is called, and 'app' cannot be"):
            await serve_asgi("app", both.server, 81)  # type: ignore[arg-type]


async def test_a_port_that_is_taken_is_an_error_before_the_app_starts() -> None:
    started: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started.append(scope["type"])

    async with ends() as both:
        with pytest.raises(LocalProtocolError):
            await serve_asgi(app, both.server, 80)
    assert started == []


# ---- WebSockets ----


class WebSocketClient:
    """One WebSocket on a stream of dmsg."""

    def __init__(self, stream: DmsgStream) -> None:
        self._stream = stream
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []

    async def connect(self) -> Event:
        await self.send(Upgrade("x", "/ws", extensions=[PerMessageDeflate()]))
        return await self.receive()

    async def send(self, event: Event) -> None:
        await self._stream.send_all(self._ws.send(event))

    async def receive(self) -> Event:
        while not self._events:
            self._ws.receive_data(bytes(await self._stream.receive_some()) or None)
            self._events += self._ws.events()
        return self._events.pop(0)


@asynccontextmanager
async def websocket(both: Ends) -> AsyncIterator[WebSocketClient]:
    async with await both.client.open_stream(both.server.pk, 80) as stream:
        ws = WebSocketClient(stream)
        answer = await ws.connect()
        assert isinstance(answer, AcceptConnection)
        assert answer.extensions == []
        yield ws


async def test_a_websocket_stays_for_hours_and_its_app_hears_how_it_was_closed(
    autojump_clock: MockClock,
) -> None:
    async with ends() as both, websocket(both) as ws:
        await ws.send(TextMessage("hello"))
        assert (await ws.receive()) == TextMessage("HELLO")
        await trio.sleep(3 * 3600)
        await ws.send(TextMessage("again"))
        assert (await ws.receive()) == TextMessage("AGAIN")
        await ws.send(CloseConnection(4321, "enough"))
        assert (await ws.receive()) == CloseConnection(4321, "enough")
        await trio.testing.wait_all_tasks_blocked()
        assert both.site.codes == [4321]


async def test_a_websocket_whose_client_vanishes_is_known_as_such() -> None:
    async with ends() as both:
        with pytest.raises(ZeroDivisionError):
            async with websocket(both):
                raise ZeroDivisionError
        await trio.testing.wait_all_tasks_blocked()
        assert both.site.codes == [1006]


async def test_websockets_are_told_when_the_server_ends(autojump_clock: MockClock) -> None:
    async with ends() as both, websocket(both) as ws:
        await ws.send(TextMessage("hello"))
        await ws.receive()
        both.stop()
        assert isinstance(end := await ws.receive(), CloseConnection)
        assert end.code == 1001
        await ws.send(CloseConnection(1001))
        await trio.testing.wait_all_tasks_blocked()
        assert both.site.codes == [1001]


# ---- lifespans ----


async def test_a_lifespan_begins_before_the_first_request_and_ends_after_the_last(
    autojump_clock: MockClock,
) -> None:
    said: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        said.append("startup")
        yield {"name": "of the lifespan"}
        said.append("shutdown")

    async def page(request: Request) -> PlainTextResponse:
        said.append("asked")
        await trio.sleep(1)
        said.append("answered")
        return PlainTextResponse(request.state.name)

    app = Starlette(routes=[Route("/", page)], lifespan=lifespan)
    answers: list[str] = []

    async def ask(http: httpx.AsyncClient, url: str) -> None:
        answers.append((await http.get(url)).text)

    async with ends(app=app) as both, both.http() as http, trio.open_nursery() as nursery:
        assert said == ["startup"]
        nursery.start_soon(ask, http, "/")
        await trio.sleep(0.5)
        both.stop()
    assert answers == ["of the lifespan"]
    assert said == ["startup", "asked", "answered", "shutdown"]


async def test_an_app_that_cannot_start_says_so_to_who_serves_it() -> None:
    database: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if not database:
            raise RuntimeError("no database")
        yield

    async with Network() as network, network.client() as server:
        with pytest.raises(DmsgError, match=r"did not start.*no database"):
            await serve_asgi(Starlette(lifespan=lifespan), server, 80)
        server.listen(80)  # is free again


async def test_an_app_that_knows_no_lifespans_needs_none() -> None:
    async def leaves(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await PlainTextResponse("ok")(scope, receive, send)

    async with ends(app=leaves) as both, both.http() as http:
        assert (await http.get("/")).text == "ok"


# ---- time ----


async def test_long_transfers_and_long_thoughts_are_not_cut_off(autojump_clock: MockClock) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 1000
            await trio.sleep(REQUEST_TIME / 2)

    async with ends() as both, both.http(keepalive_expiry=None) as http:
        answer = await http.post("/echo", content=pieces(), timeout=None)
        assert len(answer.content) == 20_000
        assert trio.current_time() > 5 * REQUEST_TIME
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(http.get, "/slow", timeout=None))
            await trio.sleep(3600)
            both.site.go_on.set()
        assert len((await http.get("/large", timeout=None)).content) == 64 * 64 * 1024


@pytest.mark.parametrize(
    ("sent", "limit"),
    [
        (b"GET / HT", REQUEST_TIME),
        (b"", REQUEST_TIME),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", BODY_TIME),
    ],
)
async def test_who_leaves_a_request_unfinished_is_sent_away(
    sent: bytes, limit: float, autojump_clock: MockClock
) -> None:
    async with ends() as both, await both.client.open_stream(both.server.pk, 80) as stream:
        began = trio.current_time()
        await stream.send_all(sent)
        with suppress(trio.BrokenResourceError):
            assert await stream.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(limit, abs=1)


async def test_who_takes_nothing_is_dropped_and_the_app_hears_of_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[tuple[float, type[BaseException] | None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        start: Message = {"type": "http.response.start", "status": 200, "headers": []}
        await send(start)
        try:
            for _ in count():
                body = bytes(1_000_000)
                await send({"type": "http.response.body", "body": body, "more_body": True})
        except OSError as error:
            ended.append((trio.current_time(), type(error)))
            raise

    async with ends(app=app) as both, await both.client.open_stream(both.server.pk, 80) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await trio.sleep(2 * WRITE_TIMEOUT)
        assert len(ended) == 1
        with pytest.raises(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_answers_under_way_are_finished_when_the_server_ends(
    autojump_clock: MockClock,
) -> None:
    answers: list[str] = []

    async def ask(http: httpx.AsyncClient) -> None:
        answers.append((await http.get("/slow")).text)

    async with ends() as both, both.http() as http, trio.open_nursery() as nursery:
        nursery.start_soon(ask, http)
        await trio.sleep(1)
        both.stop()
        await trio.sleep(DRAIN_TIME / 2)
        both.site.go_on.set()
    assert answers == ["slow"]


async def test_answers_under_way_are_finished_when_the_client_ends_with_its_server(
    autojump_clock: MockClock,
) -> None:
    site, scope = Site(), trio.CancelScope()
    async with (
        Network() as network,
        network.client() as client,
        httpx.AsyncClient(transport=DmsgTransport(client)) as http,
        open_service_nursery() as nursery,
    ):

        async def be_a_program(*, task_status: trio.TaskStatus[PublicKey]) -> None:
            with scope:
                async with network.client() as server, trio.open_nursery() as serving:
                    await serving.start(serve_asgi, site.asgi(), server, 80)
                    task_status.started(server.pk)

        pk: PublicKey = await nursery.start(be_a_program)
        async with http.stream("GET", f"dmsg://{pk}/slow-start") as answer:
            body = answer.aiter_raw()
            assert await anext(body)
            scope.cancel()
            await trio.sleep(DRAIN_TIME / 2)
            site.go_on.set()
            assert b"".join([piece async for piece in body]) == b"the rest"


# ---- requests as they should not be ----


async def test_the_status_of_an_answer_says_what_it_means() -> None:
    async with ends() as both, await both.client.open_stream(both.server.pk, 80) as stream:
        await stream.send_all(b"GET /who HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n")
        answer = b"".join([bytes(data) async for data in stream])
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("cut", [1000, 1 << 20])
@pytest.mark.parametrize("header", [b"X: %b\r\n" % (b"y" * MAX_HEAD), b"x: y\r\n" * MAX_HEAD])
async def test_a_head_that_is_too_long_is_refused_however_it_comes(cut: int, header: bytes) -> None:
    request = b"GET /who HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n"
    async with ends() as both, await both.client.open_stream(both.server.pk, 80) as stream:
        with suppress(trio.BrokenResourceError):
            for start in range(0, len(request), cut):
                await stream.send_all(request[start : start + cut])
        assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 431 ")
        assert both.site.hosts == []


async def test_a_target_with_another_authority_is_for_the_server_that_was_dialed() -> None:
    async with ends() as both, await both.client.open_stream(both.server.pk, 80) as stream:
        await stream.send_all(
            b"GET http://elsewhere/who HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n"
        )
        answer = b"".join([bytes(data) async for data in stream])
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(str(both.client.pk).encode())


async def test_trailers_are_left_out_and_leave_a_connection_that_is_used_again() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"ok", "more_body": False})
        headers = [(b"x-sum", b"1")]
        await send({"type": "http.response.trailers", "headers": headers, "more_trailers": False})

    request = b"POST / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with ends(app=app) as both, await both.client.open_stream(both.server.pk, 80) as stream:
        for _ in range(2):
            await stream.send_all(request + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\r\n0\r\n\r\n"):
                data = await stream.receive_some()
                assert data
                answer += data
            assert answer.startswith(b"HTTP/1.1 200")


async def test_an_app_that_fails_halfway_leaves_no_answer_that_looks_whole() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ZeroDivisionError("a bug")

    async with ends(app=app) as both, await both.client.open_stream(both.server.pk, 80) as stream:
        await stream.send_all(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
