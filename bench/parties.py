"""The parties of a measurement, each a process: ``python -m bench.parties ROLE ADDRESS...``.

The addresses are those of dmsg servers, the first one's first; each end goes to the server that its
role says.

A party prints one line of JSON when it is ready. Those who measure then take commands from stdin,
one line of JSON each, and answer each with one line. All parties end with their stdin.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from bench.workloads import (
    MESSAGE,
    Answer,
    Connect,
    dials,
    handle_stream,
    receive_exactly,
    round_trips,
    throughput,
)
from dmsg_trio._errors import DmsgError
from dmsg_trio._keys import PublicKey, SecretKey
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

SERVERS: Final = [SecretKey(bytes([number]) * 32) for number in (1, 3)]
SERVER: Final = SERVERS[0]
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


def known(*addresses: str, receiver_at: Sequence[int] = (0,)) -> StaticDiscovery:
    """A discovery that knows the servers at ``addresses`` (empty: unknown), and the receiver."""
    servers = [
        Entry(pk=sk.pk, timestamp=0, server=ServerInfo(address=address, available_sessions=4096))
        for sk, address in zip(SERVERS, addresses, strict=False)
        if address
    ]
    delegated = ClientInfo(tuple(SERVERS[index].pk for index in receiver_at))
    return StaticDiscovery([*servers, Entry(pk=RECEIVER.pk, timestamp=0, client=delegated)])


async def joined(client: Client) -> None:
    """Wait until a client is on the network; give up rather than let those wait who measure."""
    with trio.fail_after(JOIN_WITHIN):
        await client.wait_registered()


# ---- between ----


async def serve(address: str) -> None:
    """Be a dmsg server."""
    await serve_as(0, address, known(address))


async def serve_first(first: str, second: str) -> None:
    """Be the first of two dmsg servers, which make a link with each other."""
    await serve_as(0, first, known(first, second))


async def serve_second(first: str, second: str) -> None:
    """Be the second of them."""
    await serve_as(1, second, known(first, second))


async def serve_as(index: int, address: str, discovery: StaticDiscovery) -> None:
    options = ServerOptions(public_address=address)
    server = Server(SERVERS[index], discovery=discovery, options=options)
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
    await receive_at(known(address))


async def receive_second(_: str, second: str) -> None:
    """Serve on a dmsg port, at the second server alone."""
    await receive_at(known("", second, receiver_at=[1]))


async def receive_both(first: str, second: str) -> None:
    """Serve on a dmsg port, at both servers."""
    await receive_at(known(first, second, receiver_at=[0, 1]), min_sessions=0)


async def receive_at(discovery: StaticDiscovery, *, min_sessions: int = 1) -> None:
    async with open_client(
        RECEIVER, discovery=discovery, min_sessions=min_sessions, wait=False
    ) as client:
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


async def send_across(first: str, _: str) -> None:
    """Measure from the first dmsg server to the second, by their link."""
    async with open_client(discovery=known(first, receiver_at=[1]), wait=False) as client:
        await joined(client)
        await reached(client)
        await measure(partial(client.open_stream, RECEIVER.pk, PORT))


async def send_anyway(first: str, second: str) -> None:
    """Measure how long it takes to find another way when a server is killed."""
    found = known(first, second, receiver_at=[0, 1])
    async with open_client(discovery=found, min_sessions=0, wait=False) as client:
        await joined(client)
        ready()
        async for _, pids in commands():
            ready(**await fail_over(client, [pids["first"], pids["second"]]))


async def fail_over(client: Client, pids: Sequence[int]) -> Answer:
    """Kill the server that dials go through; until a dial goes through the other one."""
    used = {sk.pk: pid for sk, pid in zip(SERVERS, pids, strict=True)}
    os.kill(used[await reached(client)], signal.SIGKILL)
    began = time.perf_counter()
    await reached(client)
    return {"seconds": time.perf_counter() - began}


async def reached(client: Client) -> PublicKey:
    """Dial until the receiver answers, and say through which server it did."""
    while True:
        with suppress(DmsgError, trio.BrokenResourceError):
            async with await client.open_stream(RECEIVER.pk, PORT) as stream:
                await stream.send_all(bytes(8) + MESSAGE)
                await receive_exactly(stream, len(MESSAGE))
                return stream.server_pk
        await trio.lowlevel.checkpoint()


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
ROLES_BETWEEN_TWO: Final[dict[str, Callable[[str, str], Awaitable[None]]]] = {
    "relay": relay,
    "first-server": serve_first,
    "second-server": serve_second,
    "second-receiver": receive_second,
    "receiver-at-both": receive_both,
    "sender-across": send_across,
    "sender-anyway": send_anyway,
}

if __name__ == "__main__":
    match sys.argv[1:]:
        case role, address:
            trio.run(ROLES[role], address)
        case role, first, second:
            trio.run(ROLES_BETWEEN_TWO[role], first, second)
