"""The parties of `bench/http.py`, each a process: ``python -m bench.http_parties ROLE ARGUMENT...``.

They speak with whoever measures as those of `bench.parties` do.
"""

from __future__ import annotations

import itertools
import sys
import time
from functools import partial

import httpx
import trio

from bench.delay import handle
from bench.parties import SERVER, commands, joined, ready, until_end_of_input
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.tcp import listen_tcp, parse_host_port
from dmsg_trio.client import open_client
from dmsg_trio.discovery import HttpDiscovery
from dmsg_trio.discovery.serving import (
    DiscoveryService,
    Policy,
    make_app,
    open_store,
    serve_discovery,
)
from dmsg_trio.http import DmsgTransport
from dmsg_trio.server import Server, ServerOptions


async def network(discovery: str, server: str, public: str) -> None:
    """Be a discovery and a server, of which it says that it is at ``public``."""
    async with open_store("memory:", time.time_ns) as store, open_service_nursery() as nursery:
        service = DiscoveryService(store, Policy(test_mode=True))
        listeners = await listen_tcp(discovery)
        await nursery.start(serve_discovery, service, make_app(service), listeners)
        async with (
            HttpDiscovery(f"http://{discovery}") as http,
            open_service_nursery() as serving,
        ):
            dmsg = Server(SERVER, discovery=http, options=ServerOptions(public_address=public))
            await serving.start(dmsg.serve, await listen_tcp(server))
            await dmsg.registration.done.wait()
            ready()
            await until_end_of_input()


async def path(address: str, target: str, seconds: str) -> None:
    """Be a path on which the first connection is long, and those after it are not."""
    host, port = parse_host_port(target)
    delays = itertools.chain([float(seconds)], itertools.repeat(0.0))

    async def carry(near: trio.SocketStream) -> None:
        await handle(near, host=host, port=port, delay=next(delays))

    listeners = await listen_tcp(address)
    async with open_service_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, carry, listeners))
        ready()
        await until_end_of_input()


async def ask(discovery: str, *hosts: str) -> None:
    """Ask hosts for a small file again and again, on kept streams or on one for each request."""
    async with (
        open_client(discovery=f"http://{discovery}", wait=False) as client,
        DmsgTransport(client) as keeping,
        DmsgTransport(client, keepalive_expiry=0) as closing,
    ):
        await joined(client)
        ready()
        async for _, numbers in commands():
            transport = keeping if numbers["keeps"] else closing
            url = f"dmsg://{hosts[numbers['host']]}/small"
            async with httpx.AsyncClient(transport=_Lent(transport), timeout=20) as http:
                ready(seconds=await _ask_often(http, url, numbers["count"], numbers["at_once"]))


async def _ask_often(http: httpx.AsyncClient, url: str, count: int, at_once: int) -> float:
    async def one_after_the_other() -> None:
        for _ in range(count // at_once):
            (await http.get(url)).raise_for_status()

    await http.get(url)  # sessions are there from now on
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(one_after_the_other)
    return time.perf_counter() - began


class _Lent(httpx.AsyncBaseTransport):
    """A transport that stays open when a client of it ends."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._transport.handle_async_request(request)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["network", discovery, server, public]:
            trio.run(network, discovery, server, public)
        case ["path", address, target, seconds]:
            trio.run(path, address, target, seconds)
        case ["asker", discovery, *hosts]:
            trio.run(ask, discovery, *hosts)
