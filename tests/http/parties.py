"""Apps that tests serve, and the two ends that they do it with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.client import Client
from dmsg_trio.http import DmsgTransport, serve_asgi
from dmsg_trio.http._allow import Allow
from dmsg_trio.http._serving import AsgiApp
from dmsg_trio.testing import Network


@dataclass
class Pieces(AsyncIterator[bytes]):
    """A body that comes slowly; no generator, as Starlette leaves those to the collector."""

    left: int

    async def __anext__(self) -> bytes:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        await trio.sleep(1)
        return bytes(64 * 1024)


@dataclass
class Halves(AsyncIterator[bytes]):
    """A body whose second half waits for a word."""

    go_on: trio.Event
    halves: list[bytes]

    async def __anext__(self) -> bytes:
        if not self.halves:
            raise StopAsyncIteration
        if len(self.halves) == 1:
            await self.go_on.wait()
        return self.halves.pop(0)


@dataclass
class Site:
    """An app with a page for each thing that a test looks at; it keeps what it saw."""

    hosts: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)  # of who asks: one for each stream
    codes: list[int] = field(default_factory=list)
    go_on: trio.Event = field(default_factory=trio.Event)

    def asgi(self) -> ASGIApp:
        methods = ["GET", "POST", "PUT", "HEAD"]
        pages = {"who": self.who, "echo": self.echo, "slow": self.slow, "large": self.large}
        pages |= {"deaf": self.deaf, "away": self.away, "slow-start": self.slow_start}
        routes = [Route(f"/{name}", page, methods=methods) for name, page in pages.items()]
        return Starlette(routes=[*routes, WebSocketRoute("/ws", self.ws)])

    async def who(self, request: Request) -> Response:
        assert request.client is not None
        self.hosts.append(request.headers["host"])
        self.ports.append(request.client.port)
        return PlainTextResponse(request.client.host)

    async def echo(self, request: Request) -> Response:
        return Response(await request.body())

    async def slow(self, request: Request) -> Response:
        await self.go_on.wait()
        return PlainTextResponse("slow")

    async def slow_start(self, request: Request) -> Response:
        return StreamingResponse(Halves(self.go_on, [b"the beginning, then ", b"the rest"]))

    async def deaf(self, request: Request) -> Response:
        return PlainTextResponse("too much", status_code=413)

    async def away(self, request: Request) -> Response:
        return RedirectResponse(request.query_params["to"], status_code=307)

    async def large(self, request: Request) -> Response:
        return StreamingResponse(Pieces(64))

    async def ws(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text((await websocket.receive_text()).upper())
        except WebSocketDisconnect as error:
            self.codes.append(error.code)


@dataclass
class Ends:
    """Who serves and who asks."""

    server: Client
    client: Client
    site: Site
    stop: Callable[[], None]  # of the server

    def http(self, **options: object) -> httpx.AsyncClient:
        """An HTTP client over dmsg, to be entered."""
        transport = DmsgTransport(self.client, **options)  # type: ignore[arg-type]
        return httpx.AsyncClient(transport=transport, base_url=f"dmsg://{self.server.pk}")


@asynccontextmanager
async def ends(*, allow: Allow | None = None, app: AsgiApp | None = None) -> AsyncIterator[Ends]:
    """A network with a server that serves on port 80 and a client, for the block."""
    site = Site()
    async with (
        Network() as network,
        network.client() as server,
        network.client() as client,
        open_service_nursery() as nursery,
    ):
        scope = trio.CancelScope()

        async def serve(*, task_status: trio.TaskStatus[None]) -> None:
            with scope:
                served = app or site.asgi()
                await serve_asgi(served, server, 80, allow=allow, task_status=task_status)

        await nursery.start(serve)
        yield Ends(server, client, site, scope.cancel)
