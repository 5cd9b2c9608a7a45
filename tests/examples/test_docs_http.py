"""The functions that docs/http.md shows do what it says."""

import re
from collections.abc import Awaitable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import httpx
import pytest
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from dmsg_trio.client import Client
from dmsg_trio.http import DmsgTransport, serve_asgi
from dmsg_trio.testing import Network

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


class Shown(Protocol):
    """A function of the page."""

    def __call__(self, *given: object) -> Awaitable[object]: ...


@pytest.fixture
def shown() -> Iterator[dict[str, Shown]]:
    """All that the page defines."""
    names: dict[str, Shown] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/http.md", "exec"), names)
    yield names
    names.clear()


async def page(request: Request) -> PlainTextResponse:
    assert request.client is not None
    return PlainTextResponse(request.client.host)


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


APP = Starlette(
    routes=[Route("/", page), Route("/index.html", page), WebSocketRoute("/echo", echo)]
)


async def test_what_fetches_and_talks_does(shown: dict[str, Shown]) -> None:
    async with Network() as network, network.client() as server, network.client() as client:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_asgi, APP, server, 80))
            pk, name = str(server.pk), str(client.pk)
            assert await shown["fetch"](client, pk) == name
            assert await shown["fetch_by_httpcore"](client, pk) == name.encode()
            both = shown["both"](client)
            assert isinstance(both, httpx.AsyncClient)
            async with both as http:
                assert (await http.get(f"http://{pk}.dmsg/")).text == name
                assert await shown["shout"](http, pk) == "hello"
            assert await shown["shout_by_trio_websocket"](client, pk) == "hello"
            nursery.cancel_scope.cancel()


async def status(client: Client, url: str) -> int:
    async with httpx.AsyncClient(transport=DmsgTransport(client)) as http:
        return (await http.get(url)).status_code


async def test_what_serves_friends_serves_nobody_else(shown: dict[str, Shown]) -> None:
    async with (
        Network() as network,
        network.client() as server,
        network.client() as friend,
        network.client() as stranger,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(shown["serve_friends"], APP, server, {friend.pk})
        await trio.testing.wait_all_tasks_blocked()
        assert await status(friend, f"dmsg://{server.pk}/") == 200
        assert await status(stranger, f"dmsg://{server.pk}/") == 403
        nursery.cancel_scope.cancel()


def test_nothing_is_shown_that_is_not_tried_here(shown: dict[str, Shown]) -> None:
    functions = {
        name
        for block in BLOCKS
        for name in re.findall(r"^(?:async )?def (\w+)", block, re.MULTILINE)
    }
    tried = {"fetch", "fetch_by_httpcore", "both", "shout", "shout_by_trio_websocket"}
    elsewhere = {
        "page",
        "main",
        "open_tls",
    }  # tests/examples/test_examples.py, tests/http/test_anyio.py
    assert functions == tried | elsewhere | {"serve_friends"}
    assert functions <= shown.keys()
