"""dmsg-socks5 as two programs, and curl, which knows nothing of us."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest
import trio

from dmsg_trio._net.nurseries import open_service_nursery
from tests.cli.running import DMSG, PATIENCE, Done, command, environment, line_of
from tests.waiting import Log


def curl() -> str:
    """Where curl is; without it the test is skipped."""
    path = shutil.which("curl")
    if path is None:
        pytest.skip("there is no curl on this machine")
    return path


@dataclass
class Running:
    """One of the two programs."""

    process: trio.Process
    log: Log
    lines: list[str]

    @property
    def place(self) -> dict[str, str]:
        """What it printed with --json."""
        return cast("dict[str, str]", json.loads(self.lines[0]))


@asynccontextmanager
async def socks(
    *arguments: str, discovery: str = "", wrapper: Sequence[str] = (), as_json: bool = True
) -> AsyncIterator[Running]:
    """Run `dmsg socks server` or `client` for the block; it is ready then."""
    process = await trio.lowlevel.open_process(
        [*wrapper, DMSG, "socks", *arguments, *(["--json"] if as_json else [])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(discovery),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    log = Log(f"dmsg socks {arguments[0]}")
    try:
        async with open_service_nursery() as nursery:
            nursery.start_soon(log.read, process.stderr)
            with trio.fail_after(PATIENCE):
                count = 1 if as_json else 4
                lines = [(await line_of(process.stdout)).decode() for _ in range(count)]
            yield Running(process, log, lines)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()
            await process.stderr.aclose()


async def fetch(proxy: Running, *arguments: str, wrapper: Sequence[str] = ()) -> Done:
    """Run curl through the proxy."""
    place = proxy.place["proxy"].removeprefix("socks5h://")
    words = [*wrapper, curl(), "-sS", "--max-time", "20", "--socks5-hostname", place, *arguments]
    return await command(words)


# ---- a web server that nobody but the exit can reach ----


@dataclass
class Site:
    """A web server of one page; what it was asked, and by whom."""

    port: int
    page: bytes
    asked: list[str] = field(default_factory=list)
    hang_after: int | None = None


@asynccontextmanager
async def site(page: bytes = b"from the exit\n", host: str = "127.0.0.1") -> AsyncIterator[Site]:
    """Serve a page on loopback for the block."""
    listeners = await trio.open_tcp_listeners(0, host=host)
    found = Site(listeners[0].socket.getsockname()[1], page)

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            request = b""
            while b"\r\n\r\n" not in request:
                piece = await stream.receive_some()
                if not piece:
                    return
                request += piece
            found.asked.append(request.decode())
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(found.page)}\r\n\r\n".encode()
            try:
                await stream.send_all(head + found.page[: found.hang_after])
                if found.hang_after is not None:
                    await trio.sleep_forever()
            except trio.BrokenResourceError:
                pass

    async with open_service_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield found
