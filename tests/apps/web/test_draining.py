"""A proxy and forwards that are told to end: who is at something may finish it, and nobody else comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest
import trio
import trio.testing

from dmsg_trio._address import Address
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.socks5 import Command, Endpoint, Greeting, Request, encode
from dmsg_trio.apps.web import Forward, _draining, serve_forwards, serve_proxy
from dmsg_trio.client import DmsgStream
from tests.apps.web.parties import Scene, all_of, receive_exactly, receive_until, scene
from tests.waiting import PATIENCE, hearing

pytestmark = pytest.mark.network

WAYS = ["proxy", "CONNECT", "SOCKS5", "forward", "raw"]
LONG = 2 * PATIENCE  # seconds: as long as no test takes, on a machine that is busy
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _draining.DRAIN_TIME == 5
    monkeypatch.setattr(_draining, "DRAIN_TIME", LONG)


@dataclass
class Ending:
    """What is told to end, and a transfer through it that is half done."""

    place: tuple[str, int]
    serving: trio.CancelScope
    ended: trio.Event
    asking: trio.SocketStream
    far: DmsgStream

    async def tell(self) -> None:
        """Tell it to end, and wait until it takes no more connections."""
        self.serving.cancel()
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    (await trio.open_tcp_stream(*self.place)).socket.close()
                except OSError:
                    return


@asynccontextmanager
async def half_way(way: str) -> AsyncIterator[Ending]:
    """Serve, and have half an answer come through."""
    async with scene() as here, open_service_nursery() as nursery:
        listener = here.server.listen(91)
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        place = listeners[0].socket.getsockname()
        if way in ("forward", "raw"):
            forward = Forward(listeners, Address(here.server.pk, 91), raw=way == "raw")
            start = partial(serve_forwards, here.client, [forward])
        else:
            start = partial(serve_proxy, here.ways, listeners)
        serving, ended = trio.CancelScope(), trio.Event()

        async def serve(*, task_status: trio.TaskStatus[None]) -> None:
            with serving:
                await start(task_status=task_status)
            ended.set()

        await nursery.start(serve)
        async with await trio.open_tcp_stream(*place) as asking:
            await begin(way, here, asking)
            far = await listener.accept()
            await far.send_all(HEAD + b"ha")
            await receive_until(asking, b"\r\n\r\nha")
            yield Ending(place, serving, ended, asking, far)


async def begin(way: str, here: Scene, asking: trio.SocketStream) -> None:
    """Ask for something on port 91 of the key."""
    name = f"{here.host}:91"
    match way:
        case "CONNECT":
            await asking.send_all(f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            await receive_until(asking, b"\r\n\r\n")
        case "SOCKS5":
            request = Request(Command.CONNECT, Endpoint(here.host, 91))
            await asking.send_all(encode(Greeting()) + encode(request))
            await receive_exactly(asking, 12)
    url = f"http://{name}/" if way == "proxy" else "/"
    host = "127.0.0.1" if way == "forward" else name
    await asking.send_all(f"GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_under_way_comes_to_its_end(way: str) -> None:
    with hearing("dmsg_trio.web") as log:
        async with half_way(way) as it:
            await it.tell()
            assert not it.ended.is_set()
            await log.said(f"ending: 1 under way may take {LONG} s more")
            await it.far.send_all(b"lf")
            await it.far.aclose()
            assert await receive_exactly(it.asking, 2) == b"lf"
            assert await all_of(it.asking) == b""
            it.asking.socket.close()
            with trio.fail_after(PATIENCE):
                await it.ended.wait()


@pytest.mark.parametrize("way", WAYS)
async def test_what_takes_too_long_is_reset(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(_draining, "DRAIN_TIME", 0.1)
    async with half_way(way) as it:
        await it.tell()
        assert await all_of(it.asking) == b"<reset>"
        with trio.fail_after(PATIENCE):
            await it.ended.wait()
        with pytest.raises(trio.BrokenResourceError):
            while await it.far.receive_some():
                pass


@pytest.mark.parametrize("said", [b"", b"\5", b"GET / HT"])
async def test_who_has_not_asked_yet_is_not_waited_for(said: bytes) -> None:
    async with half_way("proxy") as it:
        async with await trio.open_tcp_stream(*it.place) as waiting:
            await waiting.send_all(said)
            await trio.testing.wait_all_tasks_blocked()
            await it.tell()
            assert await all_of(waiting) in (b"", b"<reset>")
            assert not it.ended.is_set()  # for who has
            await it.far.send_all(b"lf")
            assert await all_of(it.asking) == b"lf"


async def test_nobody_under_way_is_nobody_to_wait_for() -> None:
    with hearing("dmsg_trio.web") as log:
        async with half_way("proxy") as it:
            await it.far.send_all(b"lf")
            await receive_exactly(it.asking, 2)
            await it.tell()  # it keeps the connection, for another request
            with trio.fail_after(PATIENCE):
                await it.ended.wait()
        assert "ending" not in log.text
