"""A proxy on loopback, a site on a key behind it, and what programs say to both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.apps.web import Aliases, Book, Names, Upstream, Ways, serve_proxy
from dmsg_trio.client import Client
from dmsg_trio.http import serve_asgi
from dmsg_trio.testing import Network

METHODS = ["GET", "HEAD", "POST", "PUT"]


@dataclass
class Site:
    """An app that keeps what it saw."""

    heads: list[dict[str, str]] = field(default_factory=list)
    clients: list[tuple[str, int]] = field(default_factory=list)

    def asgi(self) -> ASGIApp:
        pages = {"who": self.who, "echo": self.echo, "large": self.large, "away": self.away}
        pages |= {"slow": self.slow, "deaf": self.deaf}
        routes = [Route(f"/{name}", page, methods=METHODS) for name, page in pages.items()]
        return Starlette(routes=[*routes, WebSocketRoute("/ws", self.ws)])

    def _note(self, request: Request) -> None:
        assert request.client is not None
        self.heads.append(dict(request.headers))
        self.clients.append((request.client.host, request.client.port))

    async def who(self, request: Request) -> Response:
        self._note(request)
        return PlainTextResponse(request.url.path)

    async def echo(self, request: Request) -> Response:
        self._note(request)
        return Response(await request.body())

    async def large(self, request: Request) -> Response:
        return Response(bytes(int(request.query_params["n"])))

    async def away(self, request: Request) -> Response:
        return RedirectResponse(request.query_params["to"])

    async def slow(self, request: Request) -> Response:
        self._note(request)
        await trio.sleep_forever()
        raise AssertionError

    async def deaf(self, request: Request) -> Response:
        return PlainTextResponse("too much", status_code=413)

    async def ws(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text((await websocket.receive_text()).upper())
        except WebSocketDisconnect:
            pass


@dataclass
class Scene:
    """What a test has to do with."""

    network: Network
    server: Client
    client: Client
    site: Site
    port: int
    book: Book
    ways: Ways
    stop_site: Callable[[], None]
    streams: list[trio.SocketStream] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"{self.server.pk}.dmsg"

    async def connect(self) -> trio.SocketStream:
        """Connect to the proxy; closed with the scene at the latest."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self.streams.append(stream)
        return stream

    async def say(self, data: bytes, *, port: int | None = None) -> bytes:
        """Send bytes, and give all that comes back until the end."""
        async with await trio.open_tcp_stream("127.0.0.1", port or self.port) as stream:
            try:
                await stream.send_all(data)
            except trio.BrokenResourceError:
                return b"<reset>"
            return await all_of(stream)

    async def ask(self, path: str, *headers: str, host: str = "", method: str = "GET") -> bytes:
        """Ask by the proxy for a page of the site."""
        lines = [
            f"{method} http://{host or self.host}{path} HTTP/1.1",
            f"Host: {host or self.host}",
        ]
        return await self.say("\r\n".join([*lines, *headers, "Connection: close\r\n\r\n"]).encode())


async def all_of(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    try:
        with trio.fail_after(20):
            while piece := await stream.receive_some():
                data += piece
    except trio.BrokenResourceError:
        data += b"<reset>"
    return data


async def receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = b""
    with trio.fail_after(20):
        while len(data) < size:
            piece = await stream.receive_some(size - len(data))
            assert piece, data
            data += piece
    return data


async def receive_until(stream: trio.abc.ReceiveStream, end: bytes) -> bytes:
    data = b""
    with trio.fail_after(20):
        while end not in data:
            piece = await stream.receive_some(1)  # what follows is for who asks next
            assert piece, data
            data += piece
    return data


@asynccontextmanager
async def scene(
    *,
    aliases: Path | None = None,
    only_dmsg: bool = False,
    upstream: Upstream | None = None,
    app: ASGIApp | None = None,
) -> AsyncIterator[Scene]:
    """A network with a site on port 80 of a key, and a proxy."""
    site = Site()
    async with (
        Network() as network,
        network.client() as server,
        network.client() as client,
        open_service_nursery() as nursery,
    ):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        ways = Ways(
            client,
            Names(aliases=Aliases(aliases)),
            upstream=upstream,
            only_dmsg=only_dmsg,
            own_ports={port},
        )
        book = Book()
        scope = trio.CancelScope()

        async def serve_site(*, task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await serve_asgi(app or site.asgi(), server, 80, task_status=task_status)

        await nursery.start(serve_site)
        await nursery.start(partial(serve_proxy, ways, listeners, book=book))
        here = Scene(network, server, client, site, port, book, ways, scope.cancel)
        try:
            yield here
        finally:
            for stream in here.streams:
                stream.socket.close()
