"""Frameworks that nobody here wrote, each with an app that does what people do with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Self
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import trio
import trio.testing
from fastapi import BackgroundTasks, Depends, FastAPI, Form, Request, UploadFile, WebSocket
from fastapi.responses import StreamingResponse
from httpx_ws import AsyncWebSocketSession, WebSocketUpgradeError, aconnect_ws
from hypercorn.middleware import TrioWSGIMiddleware
from quart import Response, abort, redirect, request, url_for, websocket
from quart_trio import QuartTrio
from starlette.websockets import WebSocketDisconnect
from trio.testing import MockClock
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream
from werkzeug.routing import Map
from werkzeug.wrappers import Request as WsgiRequest
from werkzeug.wrappers import Response as WsgiResponse

from dmsg_trio.http._serving import AsgiApp
from tests.http.parties import Ends, ends

LARGE = bytes(3_000_000)


@dataclass
class Notes:
    """What an app did beside answering."""

    done: list[str] = field(default_factory=list)
    lines: int = 0


@dataclass
class Lines:
    """Lines that come one a second."""

    notes: Notes
    left: int = 5

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self.left:
            raise StopAsyncIteration
        await trio.sleep(1)
        self.left -= 1
        self.notes.lines += 1
        return b"%d\n" % self.left


@dataclass
class Item:
    name: str
    price: float


def in_a_thread() -> str:
    return "from a thread"


def fastapi_app(notes: Notes) -> AsgiApp:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        notes.done.append("up")
        yield {"database": "open"}
        notes.done.append("down")

    app = FastAPI(lifespan=lifespan)

    @app.get("/items/{number}")
    async def item(number: int, said: Annotated[str, Depends(in_a_thread)]) -> dict[str, object]:
        return {"number": number, "said": said}

    @app.post("/items")
    async def create(item: Item) -> Item:
        return item

    @app.get("/who")
    async def who(request: Request) -> dict[str, object]:
        assert request.client is not None
        return {"key": request.client.host, "database": request.state.database}

    @app.get("/lines")
    async def lines() -> StreamingResponse:
        return StreamingResponse(Lines(notes))

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        return StreamingResponse(Lines(notes, left=10_000))

    @app.post("/upload")
    async def upload(file: UploadFile, note: Annotated[str, Form()]) -> dict[str, object]:
        return {"name": file.filename, "size": len(await file.read()), "note": note}

    @app.get("/later")
    async def later(tasks: BackgroundTasks) -> str:
        tasks.add_task(think, notes)
        return "later"

    @app.get("/fault")
    async def fault() -> None:
        raise LookupError("a fault of the app")

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_text((await socket.receive_text()).upper())
        except WebSocketDisconnect:
            notes.done.append("hung up")

    return app


def quart_app(notes: Notes) -> AsgiApp:
    app = QuartTrio(__name__)

    @app.before_serving
    async def start() -> None:
        notes.done.append("up")

    @app.after_serving
    async def end() -> None:
        notes.done.append("down")

    @app.get("/items/<int:number>")
    async def item(number: int) -> dict[str, object]:
        return {"number": number, "said": await app.ensure_async(in_a_thread)()}

    @app.post("/items")
    async def create() -> dict[str, object]:
        item: dict[str, object] = await request.get_json()
        if not isinstance(item["price"], float):
            abort(422)
        return item

    @app.get("/who")
    async def who() -> dict[str, object]:
        return {"key": request.remote_addr, "database": "open"}

    @app.get("/lines")
    async def lines() -> Response:
        return Response(Lines(notes))

    @app.get("/endless")
    async def endless() -> Response:
        answer = Response(Lines(notes, left=10_000))
        answer.timeout = None
        return answer

    @app.post("/upload")
    async def upload() -> dict[str, object]:
        file = (await request.files)["file"]
        note = (await request.form)["note"]
        return {"name": file.filename, "size": len(file.read()), "note": note}

    @app.get("/later")
    async def later() -> str:
        app.add_background_task(think, notes)
        return "later"

    @app.get("/fault")
    async def fault() -> str:
        raise LookupError("a fault of the app")

    @app.get("/away")
    async def away() -> WsgiResponse:
        return redirect(url_for("who", _external=True))

    @app.get("/folder/")
    async def folder() -> str:
        return request.headers["Origin"]

    @app.websocket("/ws")
    async def ws() -> None:
        try:
            while True:
                await websocket.send((await websocket.receive()).upper())
        finally:
            notes.done.append("hung up")

    return app


async def think(notes: Notes) -> None:
    await trio.sleep(10)
    notes.done.append("thought")


MakeApp = Callable[[Notes], AsgiApp]
each_framework = pytest.mark.parametrize("make_app", [fastapi_app, quart_app])


@asynccontextmanager
async def websocket_of(both: Ends) -> AsyncIterator[WebSocketConnection]:
    async with trio.open_nursery() as nursery:
        stream = await both.client.open_stream(both.server.pk, 80)
        # It says that it wants a socket, and is content with any stream.
        ws = await wrap_client_stream(nursery, stream, "dmsg", "/ws")  # type: ignore[arg-type]
        yield ws
        await ws.aclose(4001)


@each_framework
async def test_parameters_of_paths_and_bodies_are_checked(make_app: MakeApp) -> None:
    async with ends(app=make_app(Notes())) as both, both.http() as http:
        answer = await http.get("/items/7")
        assert answer.json() == {"number": 7, "said": "from a thread"}
        assert (await http.get("/items/seven")).status_code in (404, 422)
        item = {"name": "a", "price": 1.5}
        assert (await http.post("/items", json=item)).json() == item
        assert (await http.post("/items", json=item | {"price": "x"})).status_code == 422


@each_framework
async def test_the_key_of_who_asks_and_what_startup_left_are_known(make_app: MakeApp) -> None:
    async with ends(app=make_app(Notes())) as both, both.http() as http:
        assert (await http.get("/who")).json() == {"key": str(both.client.pk), "database": "open"}


@each_framework
async def test_a_stream_arrives_as_it_is_made(make_app: MakeApp, autojump_clock: MockClock) -> None:
    async with ends(app=make_app(Notes())) as both, both.http() as http:
        async with http.stream("GET", "/lines") as answer:
            came = [(piece, trio.current_time()) async for piece in answer.aiter_raw()]
    assert [piece for piece, _ in came] == [b"4\n", b"3\n", b"2\n", b"1\n", b"0\n"]
    assert came[-1][1] - came[0][1] == pytest.approx(4, abs=0.1)


@each_framework
async def test_a_file_is_uploaded(make_app: MakeApp) -> None:
    async with ends(app=make_app(Notes())) as both, both.http() as http:
        files = {"file": ("a.bin", LARGE)}
        answer = await http.post("/upload", files=files, data={"note": "look"})
        assert answer.json() == {"name": "a.bin", "size": len(LARGE), "note": "look"}


@each_framework
async def test_work_goes_on_after_the_answer_and_ends_before_the_app_does(
    make_app: MakeApp, autojump_clock: MockClock
) -> None:
    notes = Notes()
    async with ends(app=make_app(notes)) as both, both.http() as http:
        assert "later" in (await http.get("/later")).text
        assert notes.done == ["up"]
        await trio.sleep(11)
        assert notes.done == ["up", "thought"]
    assert notes.done == ["up", "thought", "down"]


@each_framework
async def test_an_app_makes_no_lines_for_a_client_that_has_gone(
    make_app: MakeApp, autojump_clock: MockClock
) -> None:
    notes = Notes()
    async with ends(app=make_app(notes)) as both, both.http() as http:
        with trio.move_on_after(2.5):
            await http.get("/endless")
        await trio.sleep(60)
        assert 2 <= notes.lines <= 4


@each_framework
async def test_a_fault_of_the_app_is_one_answer_and_no_more(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    async with ends(app=make_app(Notes())) as both, both.http() as http:
        assert (await http.get("/fault")).status_code == 500
        assert (await http.get("/items/1")).status_code == 200
    assert "a fault of the app" in caplog.text


@each_framework
async def test_a_websocket_talks_until_its_client_hangs_up(make_app: MakeApp) -> None:
    notes = Notes()
    async with ends(app=make_app(notes)) as both:
        async with websocket_of(both) as ws:
            for _ in range(3):
                await ws.send_message("hello")
                assert await ws.get_message() == "HELLO"
        await trio.testing.wait_all_tasks_blocked()
        assert notes.done == ["up", "hung up"]


@each_framework
async def test_a_websocket_is_told_that_the_server_goes(
    make_app: MakeApp, autojump_clock: MockClock
) -> None:
    async with ends(app=make_app(Notes())) as both, websocket_of(both) as ws:
        both.stop()
        with pytest.raises(ConnectionClosed, match="1001"):
            await ws.get_message()


@each_framework
async def test_a_client_of_httpx_has_websockets_too(make_app: MakeApp) -> None:
    async with ends(app=make_app(Notes())) as both, both.http() as http:
        ws: AsyncWebSocketSession
        async with aconnect_ws(f"dmsg://{both.server.pk}/ws", http) as ws:
            await ws.send_text("hello " * 20_000)
            assert await ws.receive_text() == "HELLO " * 20_000
        with pytest.raises(WebSocketUpgradeError):
            async with aconnect_ws(f"dmsg://{both.server.pk}/nowhere", http):
                pass


# ---- names of hosts ----


async def test_what_werkzeug_makes_of_the_host_leads_back_to_the_key() -> None:
    async with ends(app=quart_app(Notes())) as both, both.http() as http:
        answer = await http.get("/away", follow_redirects=True)
        assert answer.history[0].headers["Location"] == f"http://{both.server.pk}/who"
        assert answer.json()["key"] == str(both.client.pk)
        answer = await http.get(
            "/folder", headers={"Origin": f"http://{both.server.pk}.dmsg"}, follow_redirects=True
        )
        assert answer.url.path == "/folder/"
        assert answer.text.replace(".", "", 1) == f"http://{both.server.pk}.dmsg"


async def test_an_app_for_wsgi_is_served_by_threads() -> None:
    class App:
        url_map = Map()  # what makes it one of Werkzeug's

        def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            self.url_map.bind_to_environ(environ)
            asked = WsgiRequest(environ)
            return WsgiResponse(f"{asked.remote_addr} {len(asked.data)}")(environ, start)

    app = TrioWSGIMiddleware(App(), max_body_size=len(LARGE))
    async with ends(app=app) as both, both.http() as http:
        answer = await http.post("/", content=LARGE)
        assert answer.text == f"{both.client.pk} {len(LARGE)}"
