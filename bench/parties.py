"""The parties of a measurement, each a process: ``python -m bench.parties ROLE ADDRESS...``.

A party prints one line of JSON when it is ready. Those who measure then take commands from stdin,
one line of JSON each, and answer each with one line. All parties end with their stdin.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

import trio

from bench.workloads import Answer, Connect, dials, handle_stream, round_trips, throughput
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.tcp import listen_tcp, parse_host_port
from dmsg_trio.client import Client, open_client
from dmsg_trio.discovery import ClientInfo, Entry, ServerInfo, StaticDiscovery
from dmsg_trio.discovery.serving import (
    DiscoveryService,
    Policy,
    make_app,
    open_store,
    serve_discovery,
)
from dmsg_trio.server import Server, ServerOptions

SERVER: Final = SecretKey(bytes([1]) * 32)
RECEIVER: Final = SecretKey(bytes([2]) * 32)
PORT: Final = 80
MAX_FILES: Final = 8192
JOIN_WITHIN: Final = 20  # seconds


def ready(**facts: float) -> None:
    """Tell whoever started this process that it may go on."""
    print(json.dumps(facts), flush=True)


async def commands() -> AsyncIterator[tuple[str, dict[str, int]]]:
    """Read the commands; the end of stdin is the end of the party."""
    lines = trio.wrap_file(sys.stdin)
    async for line in lines:
        command = json.loads(line)
        yield command.pop("name"), command


async def until_end_of_input() -> None:
    """Wait until this party is no longer wanted."""
    async for _ in commands():
        pass


def known(address: str) -> StaticDiscovery:
    """A discovery that knows the server at ``address``, and the receiver."""
    where = ServerInfo(address=address, available_sessions=4096)
    server = Entry(pk=SERVER.pk, timestamp=0, server=where)
    receiver = Entry(pk=RECEIVER.pk, timestamp=0, client=ClientInfo((SERVER.pk,)))
    return StaticDiscovery([server, receiver])


async def joined(client: Client) -> None:
    """Wait until a client is on the network; give up rather than let those wait who measure."""
    with trio.fail_after(JOIN_WITHIN):
        await client.wait_registered()


# ---- between ----


async def serve(address: str) -> None:
    """Be a dmsg server."""
    options = ServerOptions(public_address=address)
    server = Server(SERVER, discovery=known(address), options=options)
    async with open_service_nursery() as nursery:
        await nursery.start(server.serve, await listen_tcp(address))
        ready()
        await until_end_of_input()


async def relay(address: str, target: str) -> None:
    """Copy bytes between TCP connections: the plain relay where there is no socat."""

    async def carry(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        async for data in source:
            await sink.send_all(data)
        await sink.send_eof()

    async def handle(near: trio.SocketStream) -> None:
        async with near, await connect_plain(target) as far, trio.open_nursery() as nursery:
            nursery.start_soon(carry, near, far)
            nursery.start_soon(carry, far, near)

    await serve_plain(handle, address)


async def discover(address: str) -> None:
    """Be a discovery, for the reference's programs."""
    async with open_store("memory:", time.time_ns) as store, open_service_nursery() as nursery:
        service = DiscoveryService(store, Policy(test_mode=True))
        listeners = await listen_tcp(address)
        await nursery.start(serve_discovery, service, make_app(service), listeners)
        ready()
        await until_end_of_input()


# ---- the receiving end ----


async def receive(address: str) -> None:
    """Serve on a dmsg port."""
    async with open_client(RECEIVER, discovery=known(address), wait=False) as client:
        await joined(client)
        async with open_service_nursery() as nursery:
            nursery.start_soon(partial(trio.serve_listeners, handle_stream, [client.listen(PORT)]))
            ready()
            await until_end_of_input()


async def receive_plain(address: str) -> None:
    """Serve on a TCP port."""
    await serve_plain(handle_stream, address)


async def serve_plain(handle: Callable[[trio.SocketStream], Awaitable[None]], address: str) -> None:
    async with open_service_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, await listen_tcp(address))
        ready()
        await until_end_of_input()


# ---- the sending end ----


async def send(address: str) -> None:
    """Measure through a dmsg server."""
    async with open_client(discovery=known(address), wait=False) as client:
        await joined(client)
        await measure(partial(client.open_stream, RECEIVER.pk, PORT))


async def send_plain(address: str) -> None:
    """Measure through a plain relay."""
    await measure(partial(connect_plain, address))


async def connect_plain(address: str) -> trio.SocketStream:
    host, port = parse_host_port(address)
    return await trio.open_tcp_stream(host, port)


async def measure(connect: Connect) -> None:
    """Do what the commands say and answer with figures."""
    ready()
    async for name, numbers in commands():
        match name:
            case "throughput":
                answer = await throughput(connect, **numbers)
            case "round_trips":
                answer = await round_trips(connect, **numbers)
            case "dials":
                answer = await dials(connect, **numbers)
            case _:
                raise ValueError(f"no such command: {name}")
        ready(**answer)


# ---- many idle clients ----


async def idle(address: str) -> None:
    """Open sessions, and keep them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(MAX_FILES, hard), hard))
    async with open_service_nursery() as nursery:
        ready()
        async for _, numbers in commands():
            ready(**await open_sessions(address, nursery, **numbers))


async def open_sessions(address: str, nursery: trio.Nursery, count: int, at_once: int) -> Answer:
    """Open ``count`` more."""

    async def hold(*, task_status: trio.TaskStatus[None]) -> None:
        async with open_client(discovery=known(address), wait=False) as client:
            await joined(client)
            task_status.started()
            await trio.sleep_forever()

    async def open_some() -> None:
        for _ in range(count // at_once):
            await nursery.start(hold)

    began = time.perf_counter()
    async with trio.open_nursery() as opening:
        for _ in range(at_once):
            opening.start_soon(open_some)
    return {"seconds": time.perf_counter() - began}


ROLES: Final[dict[str, Callable[[str], Awaitable[None]]]] = {
    "server": serve,
    "discovery": discover,
    "receiver": receive,
    "plain-receiver": receive_plain,
    "sender": send,
    "plain-sender": send_plain,
    "idle": idle,
}

if __name__ == "__main__":
    match sys.argv[1:]:
        case "relay", address, target:
            trio.run(relay, address, target)
        case role, address:
            trio.run(ROLES[role], address)
