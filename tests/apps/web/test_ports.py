"""Local ports that lead to keys, and local ports on keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from dmsg_trio._address import Address
from dmsg_trio._errors import UnreachableError
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.apps.access import AllowList
from dmsg_trio.apps.web import Exposed, Forward, _draining, _srv, serve_exposed, serve_forwards
from dmsg_trio.client import DmsgStream
from tests.apps.web.parties import Scene, all_of, receive_exactly, receive_until, scene
from tests.cli.running import NOBODY
from tests.ports import free_port
from tests.waiting import PATIENCE, answered

pytestmark = pytest.mark.network

# ---- forwards ----


@asynccontextmanager
async def forwards(*remotes: tuple[int, bool]) -> AsyncIterator[tuple[Scene, list[int]]]:
    """A scene, and local ports that lead to these ports of its site."""
    async with scene() as here, open_service_nursery() as nursery:
        found = []
        for port, raw in remotes:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            found.append(Forward(listeners, Address(here.server.pk, port), raw))
        await nursery.start(partial(serve_forwards, here.client, found))
        yield here, [each.listeners[0].socket.getsockname()[1] for each in found]


def plain(path: str, host: str = "127.0.0.1", *lines: str) -> bytes:
    first = [f"GET {path} HTTP/1.1", f"Host: {host}", *lines, "Connection: close", "", ""]
    return "\r\n".join(first).encode()


async def test_a_forward_of_http_says_the_key_for_a_host() -> None:
    async with forwards((80, False)) as (here, (port,)):
        answer = await here.say(plain("/who"), port=port)
        assert answer.endswith(b"/who")
        assert here.site.heads[0]["host"] == str(here.server.pk)
        to = f"http://{here.server.pk}/x"
        assert b"location: /x\r\n" in await here.say(plain(f"/away?to={to}"), port=port)
        absolute = await here.say(plain(f"http://{NOBODY}.dmsg/who"), port=port)
        assert absolute.endswith(b"/who")
        assert (await here.say(plain("/who", "evil.example"), port=port)).startswith(
            b"HTTP/1.1 421 "
        )
        assert (
            await here.say(
                b"CONNECT x:1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", port=port
            )
        ).startswith(b"HTTP/1.1 400 ")


async def test_several_forwards_carry_bytes_and_each_way_ends_by_itself() -> None:
    async with forwards((7, True), (8, True)) as (here, ports):
        for number, port in zip((7, 8), ports, strict=True):
            async with (
                here.server.listen(number) as listener,
                await trio.open_tcp_stream("127.0.0.1", port) as near,
            ):
                async with await listener.accept() as far:
                    await near.send_all(b"hello")
                    await near.send_eof()
                    assert await all_of(far) == b"hello"
                    await far.send_all(b"I can still talk")
                    await far.send_eof()
                    assert await all_of(near) == b"I can still talk"


async def test_a_forward_to_where_nobody_listens_resets_bytes_and_tells_http() -> None:
    async with forwards((7, True), (8, False)) as (here, (raw, http)):
        assert await here.say(b"x", port=raw) == b"<reset>"
        assert (await here.say(plain("/"), port=http)).startswith(b"HTTP/1.1 502 ")


# ---- srv ----


class Local:
    """A program on a port of loopback that keeps what it was asked."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heads: list[bytes] = []
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        self.rest = b""  # of each answer; it waits for the next event
        self.may_end = trio.Event()
        self.serving = trio.CancelScope()  # of who puts it on dmsg
        self.ended = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                while True:
                    self.heads.append(await receive_until(stream, b"\r\n\r\n"))
                    await stream.send_all(self.answer)
                    if self.rest:
                        await self.may_end.wait()
                        await stream.send_all(self.rest)
            except (AssertionError, trio.BrokenResourceError):
                pass


@asynccontextmanager
async def exposed(**options: object) -> AsyncIterator[tuple[Scene, Local]]:
    """A scene whose server has a local program on its port 90."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    local = Local(listeners[0].socket.getsockname()[1])
    async with scene() as here, open_service_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, local.serve, listeners)
        allow = options.pop("allow", None)
        if allow == "me":
            allow = {here.client.pk}
        each = Exposed(local.port, 90, allow=allow, **options)  # type: ignore[arg-type]

        async def serve(*, task_status: trio.TaskStatus[None]) -> None:
            with local.serving:
                await serve_exposed(here.server, [each], task_status=task_status)
            local.ended.set()

        await nursery.start(serve)
        yield here, local


async def ask(here: Scene, data: bytes, *, port: int = 90) -> bytes:
    async with await here.client.open_stream(here.server.pk, port) as stream:
        try:
            await stream.send_all(data)
        except trio.BrokenResourceError:
            return b"<reset>"
        return await all_of(stream)


async def test_the_program_is_told_the_key_and_nothing_that_the_client_says_of_itself() -> None:
    async with exposed() as (here, local):
        lies = ["X-Forwarded-For: 1.2.3.4", "x_forwarded_for: 1.2.3.4", "Forwarded: for=1.2.3.4",
                "X-Real-IP: 1.2.3.4", "X-Forwarded-Proto: https", "Connection: X-Forwarded-For",
                "X-Forwarded-For : 1"]  # fmt: skip
        assert (await ask(here, plain("/a?b", "some.host", *lies[:-1]))).endswith(b"ok")
        assert local.heads[0].splitlines() == [
            b"GET /a?b HTTP/1.1",
            b"Host: 127.0.0.1:%d" % local.port,
            b"X-Forwarded-For: " + str(here.client.pk).encode(),
            b"",
        ]
        assert (await ask(here, plain("/", "h", *lies))).startswith(b"HTTP/1.1 400 ")


async def test_the_host_is_left_as_it_was_if_that_is_wanted() -> None:
    async with exposed(keep_host=True) as (here, local):
        await ask(here, plain("http://evil.example/x", "some.host"))
        assert local.heads[0].startswith(b"GET /x HTTP/1.1\r\nHost: some.host\r\n")


async def test_connections_are_kept_on_both_sides() -> None:
    async with exposed() as (here, local):
        async with await here.client.open_stream(here.server.pk, 90) as stream:
            for _ in range(3):
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await receive_until(stream, b"ok")).startswith(b"HTTP/1.1 200")
        assert len(local.heads) == 3


async def test_redirects_stay_on_the_site() -> None:
    async with exposed() as (here, local):
        local.answer = (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/x\r\nContent-Length: 0\r\n\r\n"
            % local.port
        )
        assert b"Location: /x\r\n" in await ask(here, plain("/"))


async def test_who_is_not_on_the_list_gets_401_as_with_the_reference() -> None:
    async with exposed(allow=set()) as (here, local):
        answer = await ask(here, plain("/"))
        assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert answer.endswith(b"\r\n\r\n401 Unauthorized")
        assert local.heads == []
    async with exposed(allow="me") as (here, local):
        assert (await ask(here, plain("/"))).endswith(b"ok")
    async with exposed(allow=set(), raw=True) as (here, local):
        assert await ask(here, b"x") == b"<reset>"


@pytest.mark.parametrize("raw", [False, True])
async def test_who_is_taken_off_the_list_is_cut_off(*, raw: bool) -> None:
    allow = AllowList()
    async with exposed(allow=allow, raw=raw) as (here, local):
        allow.give([here.client.pk])
        local.answer, local.rest = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", b"!"
        async with await here.client.open_stream(here.server.pk, 90) as asking:
            await asking.send_all(plain("/"))
            await receive_until(asking, b"ok")
            allow.take_back([here.client.pk])
            assert await all_of(asking) == b"<reset>"
        answer = await ask(here, plain("/"))
        assert answer == b"<reset>" if raw else answer.startswith(b"HTTP/1.1 401 ")


async def test_bytes_go_both_ways_and_each_way_ends_by_itself() -> None:
    async with exposed(raw=True) as (here, local):
        async with await here.client.open_stream(here.server.pk, 90) as stream:
            await stream.send_all(b"anything\r\n\r\n")
            assert await receive_until(stream, b"ok") == local.answer
            await stream.send_eof()
            assert await all_of(stream) == b""


async def test_a_program_that_does_not_run_is_502() -> None:
    async with scene() as here, open_service_nursery() as nursery:
        found = [Exposed(free_port(), 90), Exposed(free_port(), 91, raw=True)]
        await nursery.start(partial(serve_exposed, here.server, found))
        assert (await ask(here, plain("/"))).startswith(b"HTTP/1.1 502 ")
        assert await ask(here, b"x", port=91) == b"<reset>"


async def test_one_key_cannot_take_all_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_srv, "MAX_PER_KEY", 2)
    async with exposed() as (here, _):
        held = [await here.client.open_stream(here.server.pk, 90) for _ in range(2)]
        for stream in held:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await receive_exactly(stream, 10)
        assert await ask(here, plain("/")) == b"<reset>"
        for stream in held:
            stream.reset()

        async def serves() -> bool:
            try:
                return (await ask(here, plain("/"))).endswith(b"ok")
            except trio.BrokenResourceError:
                return False

        assert await answered(serves, within=PATIENCE)


@asynccontextmanager
async def answer_under_way(*, raw: bool) -> AsyncIterator[tuple[Local, DmsgStream]]:
    """A stream with half an answer on it, and beside it one that waits."""
    async with exposed(raw=raw) as (here, local):
        waiting = await here.client.open_stream(here.server.pk, 90)
        asking = await here.client.open_stream(here.server.pk, 90)
        async with waiting, asking:
            if not raw:
                await waiting.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await receive_until(waiting, b"ok")
            local.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha"
            local.rest = b"lf"
            await asking.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await receive_until(asking, b"ha")
            local.serving.cancel()
            if not raw:
                assert await all_of(waiting) == b""
            yield local, asking


@pytest.mark.parametrize("raw", [False, True])
async def test_an_answer_under_way_still_comes_when_it_is_cancelled(*, raw: bool) -> None:
    async with answer_under_way(raw=raw) as (local, asking):
        assert not local.ended.is_set()
        local.may_end.set()
        assert await receive_exactly(asking, 2) == b"lf"
        if not raw:
            assert await all_of(asking) == b""
            with trio.fail_after(PATIENCE):
                await local.ended.wait()


@pytest.mark.parametrize("raw", [False, True])
async def test_an_answer_that_takes_too_long_then_is_reset(
    monkeypatch: pytest.MonkeyPatch, *, raw: bool
) -> None:
    monkeypatch.setattr(_draining, "DRAIN_TIME", 0.2)
    async with answer_under_way(raw=raw) as (local, asking):
        assert await all_of(asking) == b"<reset>"
        with trio.fail_after(PATIENCE):
            await local.ended.wait()


async def test_nobody_comes_in_while_it_drains() -> None:
    async with exposed() as (here, local):
        local.rest = b"!"
        async with await here.client.open_stream(here.server.pk, 90) as asking:
            await asking.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await receive_until(asking, b"ok")
            local.serving.cancel()
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(UnreachableError):
                await here.client.open_stream(here.server.pk, 90)
