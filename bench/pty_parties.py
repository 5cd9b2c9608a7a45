"""The parties of `bench/pty.py`, each a process: ``python -m bench.pty_parties ROLE ARGUMENT...``.

They speak with whoever measures as those of `bench.parties` do.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final, TypeAlias

import trio

from bench.parties import commands, joined, ready, until_end_of_input
from dmsg_trio._address import Address
from dmsg_trio._errors import DmsgError
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.tcp import listen_tcp
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import Output
from dmsg_trio.apps.pty._requests import request
from dmsg_trio.apps.pty._routes import DirectRoute
from dmsg_trio.apps.pty.copy import CopyOptions, Progress, get, put
from dmsg_trio.apps.pty.host._allow import AllowList
from dmsg_trio.apps.pty.host._audit import Audit
from dmsg_trio.apps.pty.host._config import HostOptions
from dmsg_trio.apps.pty.host._host import PtyHost
from dmsg_trio.apps.pty.remote._remote import RemoteShell, Wanted
from dmsg_trio.apps.pty.remote._resuming import open_resuming_shell
from dmsg_trio.client import Client, DmsgStream, open_client
from dmsg_trio.discovery import HttpDiscovery
from dmsg_trio.discovery.serving import (
    DiscoveryService,
    Policy,
    make_app,
    open_store,
    serve_discovery,
)
from dmsg_trio.server import Server, ServerOptions

HOST: Final = SecretKey(bytes([4]) * 32)
USER: Final = SecretKey(bytes([5]) * 32)
TYPIST: Final = SecretKey(bytes([6]) * 32)  # uses the CLI

Answer: TypeAlias = dict[str, float]
BARE_PORT: Final = 81  # beside the host: bytes and nothing else
SHELL: Final = ("/bin/sh", "-c", "stty raw -echo; exec cat")
CHUNK: Final = 64 * 1024
AT_ONCE: Final = 8
MANY: Final = 100_000


async def relay(discovery: str, server: str) -> None:
    """Be a discovery and a server that it knows."""
    async with open_store("memory:", time.time_ns) as store, open_service_nursery() as nursery:
        service = DiscoveryService(store, Policy(test_mode=True))
        listeners = await listen_tcp(discovery)
        await nursery.start(serve_discovery, service, make_app(service), listeners)
        async with (
            HttpDiscovery(f"http://{discovery}") as http,
            open_service_nursery() as serving,
        ):
            dmsg = Server(
                SecretKey.generate(), discovery=http, options=ServerOptions(public_address=server)
            )
            await serving.start(dmsg.serve, await listen_tcp(server))
            await dmsg.registration.done.wait()
            ready()
            await until_end_of_input()


# ---- the host ----


async def host(discovery: str, socket: str) -> None:
    """Be a host of shells, which tells what it holds."""
    logging.disable(logging.ERROR)
    options = HostOptions(
        network="unix", address=socket, max_sessions=MANY, max_sessions_per_key=MANY
    )
    audit = Audit(None)
    try:
        async with (
            open_client(HOST, discovery=f"http://{discovery}", wait=False) as client,
            open_service_nursery() as nursery,
        ):
            await joined(client)
            allow = AllowList(None, given=(USER.pk, TYPIST.pk))
            await nursery.start(PtyHost(client, options, allow, audit).serve)
            serve = partial(trio.serve_listeners, _bare, [client.listen(BARE_PORT)])
            nursery.start_soon(serve)
            ready()
            async for _, _ in commands():
                ready(**_held())
    finally:
        audit.close()


async def _bare(stream: DmsgStream) -> None:
    """Send back, or take as many bytes as the first eight say."""
    async with stream:
        head = bytes(await stream.receive_some(8))
        left = int.from_bytes(head, "big")
        if not left:
            async for data in stream:
                await stream.send_all(data)
            return
        while left:
            left -= len(await stream.receive_some(CHUNK))
        await stream.send_all(b"!")


def _held() -> Answer:
    statistics = trio.lowlevel.current_statistics()
    return {
        "tasks": statistics.tasks_living,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "children": len(children_of(os.getpid())),
    }


def children_of(pid: int) -> list[int]:
    """Say which processes a process has started for others, and not to be its guardian."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if not _is_guardian(child)]


def _is_guardian(pid: str) -> bool:
    try:
        return b"_guardian.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


# ---- who uses it ----


async def user(discovery: str, scratch: str) -> None:
    """Have shells on the host, and files."""
    async with open_client(USER, discovery=f"http://{discovery}", wait=False) as client:
        await joined(client)
        async with open_service_nursery() as nursery:
            ready()
            async for name, numbers in commands():
                ready(**await _answer(client, nursery, scratch, name, numbers))
            nursery.cancel_scope.cancel()


async def _answer(
    client: Client, nursery: trio.Nursery, scratch: str, name: str, numbers: dict[str, int]
) -> Answer:
    match name:
        case "pings":
            return await _pings(client, **numbers)
        case "shells":
            return await _shells(client, nursery, **numbers)
        case "cycles":
            return await _cycles(client, **numbers)
        case "bare":
            return await _send_bare(client, **numbers)
        case "put" | "get":
            return await _copy(client, scratch, there=name == "put")
    raise ValueError(f"nobody knows {name!r}")


def _route(client: Client) -> DirectRoute:
    return DirectRoute(client, Address(HOST.pk, 22))


async def _pings(client: Client, count: int) -> Answer:
    """One byte there and back on a stream of its own."""
    times = []
    async with await client.open_stream(HOST.pk, BARE_PORT) as stream:
        await stream.send_all(bytes(8))
        for _ in range(count):
            began = time.perf_counter()
            await stream.send_all(b"x")
            await stream.receive_some()
            times.append(time.perf_counter() - began)
    return {"median": median(times)}


async def _send_bare(client: Client, size: int) -> Answer:
    began, chunk = time.perf_counter(), bytes(CHUNK)
    async with await client.open_stream(HOST.pk, BARE_PORT) as stream:
        await stream.send_all(size.to_bytes(8, "big"))
        for _ in range(size // CHUNK):
            await stream.send_all(chunk)
        await stream.receive_some()
    return {"seconds": time.perf_counter() - began}


async def _copy(client: Client, scratch: str, *, there: bool) -> Answer:
    began = time.perf_counter()
    source, target = os.path.join(scratch, "source"), os.path.join(scratch, "target")
    copy = put if there else get
    await copy(
        _route(client).open,
        [source.encode()],
        target.encode(),
        options=CopyOptions(resume=False),
        progress=Progress(),
    )
    seconds = time.perf_counter() - began
    _check(source, target)
    return {"seconds": seconds}


def _check(source: str, target: str) -> None:
    if os.path.getsize(target) != os.path.getsize(source):
        raise RuntimeError(f"{target} was not copied in full")
    os.unlink(target)


# ---- many shells ----


async def _open(client: Client, *, task_status: trio.TaskStatus[None]) -> None:
    """Have a shell until cancelled."""
    async with open_resuming_shell(partial(_route(client).open, "dmsgpty/shell/1"), _WANTED) as one:
        await _echo(one)
        task_status.started()
        async for _ in one:
            pass


async def _echo(shell: RemoteShell) -> None:
    seen = b""
    while b"y" not in seen:
        await shell.send_input(b"y")  # until it is raw, these may be lost
        with trio.move_on_after(0.5):
            event = await anext(shell)
            seen += event.data if isinstance(event, Output) else b""


_WANTED: Final = Wanted(argv=SHELL, terminal="xterm", size=WindowSize(24, 80))


async def _shells(client: Client, nursery: trio.Nursery, count: int) -> Answer:
    async with trio.open_nursery() as starting:
        limit = trio.CapacityLimiter(AT_ONCE)

        async def start() -> None:
            async with limit:
                await nursery.start(_open, client)

        for _ in range(count):
            starting.start_soon(start)
    return {}


async def _cycles(client: Client, count: int, host: int, seed: int) -> Answer:
    """Begin and end shells in all ways that there are; each begins with the echo of a key."""
    chance, limit = random.Random(seed), trio.CapacityLimiter(AT_ONCE)
    ends = {"left": 0, "cut": 0, "killed": 0, "early": 0}

    async def cycle(how: str, seconds: float) -> None:
        async with limit:
            streams: list[DmsgStream] = []

            async def dial() -> DmsgStream:
                stream = await client.open_stream(HOST.pk, 22)
                streams.append(stream)
                await request(stream, "dmsgpty/shell/1")
                return stream

            with trio.move_on_after(seconds if how == "early" else 30):
                try:
                    async with open_resuming_shell(dial, _WANTED) as shell:
                        await _echo(shell)
                        if how == "cut":
                            streams[-1].reset()
                        elif how == "killed":
                            os.kill(chance.choice(children_of(host)), signal.SIGKILL)
                except (DmsgError, trio.BrokenResourceError, ProcessLookupError, IndexError):
                    pass
            for stream in streams:
                if how == "early":
                    stream.reset()
            ends[how] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            how = chance.choice(list(ends))
            nursery.start_soon(cycle, how, chance.random() * 0.3)
    return {name: float(number) for name, number in ends.items()}


ROLES: Final = {"relay": relay, "host": host, "user": user}


def main() -> None:
    role, first, second = sys.argv[1:]
    trio.run(ROLES[role], first, second)


if __name__ == "__main__":
    main()
