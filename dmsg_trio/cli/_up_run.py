"""dmsg up at work: the parties of a network, each in its own task."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from dmsg_trio._asgi import serve_app, serve_tcp
from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.borders import serve_each
from dmsg_trio._net.tcp import listen_tcp
from dmsg_trio.client import Client, DmsgListener, DmsgStream, open_client
from dmsg_trio.discovery import HttpDiscovery
from dmsg_trio.discovery.serving import (
    DiscoveryService,
    Health,
    Neighbours,
    Policy,
    make_app,
    open_store,
    serve_discovery,
)
from dmsg_trio.server import Server, ServerOptions
from dmsg_trio.server.serving import make_app as make_health_app

from ._parties import ECHO_PORT
from .up import DISCOVERY_PORT

logger = logging.getLogger("dmsg_trio.cli")

HTTP_PORT: Final = 80


@dataclass(frozen=True, slots=True)
class Relay:
    """One of the servers, and where it is."""

    server: Server
    address: str
    health: str  # the URL at which it tells of itself


@dataclass(frozen=True, slots=True)
class Ready:
    """What runs."""

    discovery: str
    relays: Sequence[Relay]
    client: PublicKey

    def as_json(self) -> str:
        """One object, for programs."""
        report = {
            "discovery": self.discovery,
            "servers": [
                {"pk": str(each.server.pk), "address": each.address, "health": each.health}
                for each in self.relays
            ],
            "client": str(self.client),
            "http": f"{self.client}:{HTTP_PORT}",
            "echo": f"{self.client}:{ECHO_PORT}",
        }
        return json.dumps(report)

    def as_text(self) -> str:
        """The same for people, with lines to paste."""
        lines = ["A dmsg network is up.", ""]
        lines.append(f"  discovery  {self.discovery}")
        lines += [f"  server     {each.server.pk}  at {each.address}" for each in self.relays]
        lines.append(f"  client     {self.client}")
        lines.append(f"             port {HTTP_PORT}: a web page, port {ECHO_PORT}: an echo")
        option = ""
        if not self.discovery.endswith(f":{DISCOVERY_PORT}"):
            option = f" --discovery {self.discovery}"
        request = r"printf 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'"
        lines += [
            "",
            "Try in a second terminal (after `source .venv/bin/activate`, in a checkout):",
            "",
            f"  dmsg status{option}",
            f"  dmsg ping{option} {self.client}",
            f"  echo hello | dmsg cat{option} {self.client}:{ECHO_PORT}",
            f"  {request} | dmsg cat{option} {self.client}:{HTTP_PORT}",
            "",
            "Ctrl-C ends it.",
        ]
        return "\n".join(lines)


async def run_network(port: int, servers: int, store: str, *, as_json: bool) -> None:
    """Run all of it until cancelled; the discovery goes last."""
    neighbours = Neighbours()
    async with trio.open_nursery() as nursery:
        url, discovery = await nursery.start(_serve_discovery, port, store, neighbours)
        discovery.shield = True  # until the others have taken their entries back
        try:
            await _run_parties(url, servers, neighbours, as_json=as_json)
        finally:
            discovery.cancel()


async def _run_parties(url: str, servers: int, neighbours: Neighbours, *, as_json: bool) -> None:
    async with trio.open_nursery() as nursery:
        relays, relaying = await nursery.start(_serve_relays, url, servers)
        # So that `dmsg status` can show their links without being told where to ask.
        neighbours.health = tuple(each.health for each in relays)
        relaying.shield = True  # until the page has drained
        try:
            await _run_client(url, relays, as_json=as_json)
        finally:
            relaying.cancel()


async def _run_client(url: str, relays: Sequence[Relay], *, as_json: bool) -> None:
    async with trio.open_nursery() as nursery:
        ready = Ready(url, relays, await nursery.start(_serve_client, url))
        print(ready.as_json() if as_json else ready.as_text(), flush=True)


async def _serve_discovery(
    port: int,
    store_url: str,
    neighbours: Neighbours,
    *,
    task_status: trio.TaskStatus[tuple[str, trio.CancelScope]],
) -> None:
    listeners = await _listen(f"127.0.0.1:{port}")
    with trio.CancelScope() as scope:
        async with open_store(store_url, time.time_ns) as store, trio.open_nursery() as nursery:
            service = DiscoveryService(store, Policy(test_mode=True))
            health = Health(datetime.now(tz=UTC))
            page = make_app(service, limits=None, health=health, neighbours=neighbours)
            await nursery.start(serve_discovery, service, page, listeners)
            task_status.started((f"http://{_place(listeners)}", scope))


async def _serve_relays(
    url: str,
    count: int,
    *,
    task_status: trio.TaskStatus[tuple[Sequence[Relay], trio.CancelScope]],
) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            relays: list[Relay] = [await nursery.start(_serve_relay, url) for _ in range(count)]
            for each in relays:
                await each.server.registration.done.wait()
            task_status.started((relays, scope))


async def _serve_relay(discovery_url: str, *, task_status: trio.TaskStatus[Relay]) -> None:
    listeners, endpoint = await _listen("127.0.0.1:0"), await _listen("127.0.0.1:0")
    address = _place(listeners)
    async with HttpDiscovery(discovery_url) as discovery, trio.open_nursery() as nursery:
        options = ServerOptions(public_address=address)
        server = Server(SecretKey.generate(), discovery=discovery, options=options)
        await nursery.start(server.serve, listeners)
        await nursery.start(serve_tcp, make_health_app(server), endpoint)
        task_status.started(Relay(server, address, f"http://{_place(endpoint)}"))


async def _serve_client(discovery_url: str, *, task_status: trio.TaskStatus[PublicKey]) -> None:
    async with open_client(discovery=discovery_url, min_sessions=0) as client:
        page = Starlette(routes=[Route("/", partial(_page, client))])
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(
                    serve_app,
                    page,
                    client.listen(HTTP_PORT),
                    client_address=lambda stream: (str(stream.remote.pk), stream.remote.port),
                )
            )
            nursery.start_soon(_serve_echo, client.listen(ECHO_PORT))
            task_status.started(client.pk)


async def _serve_echo(listener: DmsgListener) -> None:
    await serve_each(_echo, [listener], logger)


async def _echo(stream: DmsgStream) -> None:
    try:
        async with stream:
            async for data in stream:
                await stream.send_all(data)
    except trio.BrokenResourceError:
        logger.debug("%s went away while its bytes were echoed", stream.remote)


async def _page(client: Client, request: Request) -> HTMLResponse:
    caller = request.client
    return HTMLResponse(
        "<!doctype html><meta charset=utf-8><title>dmsg</title>"
        "<style>body{font:1.1rem/1.5 system-ui;max-width:46rem;margin:4rem auto;padding:0 1rem}"
        "code{overflow-wrap:anywhere}</style>"
        "<h1>It works</h1><p>This page came over dmsg, from"
        f" <code>{client.pk}</code> to <code>{caller.host if caller else '?'}</code>.</p>\n"
    )


async def _listen(address: str) -> list[trio.SocketListener]:
    try:
        return await listen_tcp(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address}: {error.strerror or error}; is another network up?"
            " --port 0 takes any port that is free"
        ) from error


def _place(listeners: Sequence[trio.SocketListener]) -> str:
    host, port = listeners[0].socket.getsockname()[:2]
    return f"{host}:{port}"
