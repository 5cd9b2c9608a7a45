"""A bug in one connection to a service is logged, and those who come next are served."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import httpx
import pytest
import trio

from dmsg_trio._asgi.connection import Connection
from dmsg_trio.apps.socks5._client import _LocalProxy
from dmsg_trio.apps.socks5._exit import Exit
from dmsg_trio.apps.web import _forwards, _proxy, _srv
from tests.apps.socks5.parties import echo, parties, target
from tests.apps.web.parties import scene
from tests.apps.web.test_ports import ask, exposed, forwards, plain
from tests.http.parties import ends
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.network, pytest.mark.faulty]

Works = Callable[[], Awaitable[bool]]


@asynccontextmanager
async def a_served_app() -> AsyncIterator[Works]:
    async with ends() as here, here.http() as http:

        async def works() -> bool:
            return (await http.get("/who")).is_success

        yield works


@asynccontextmanager
async def a_proxy() -> AsyncIterator[Works]:
    async with scene() as here:

        async def works() -> bool:
            return (await here.ask("/who")).endswith(b"/who")

        yield works


@asynccontextmanager
async def a_forward() -> AsyncIterator[Works]:
    async with forwards((80, False)) as (here, (port,)):

        async def works() -> bool:
            return (await here.say(plain("/who"), port=port)).endswith(b"/who")

        yield works


@asynccontextmanager
async def a_port_on_a_key() -> AsyncIterator[Works]:
    async with exposed() as (here, _):

        async def works() -> bool:
            return (await ask(here, plain("/"))).endswith(b"ok")

        yield works


@asynccontextmanager
async def socks() -> AsyncIterator[Works]:
    async with target(echo) as place, parties() as here:

        async def works() -> bool:
            stream, reply = await here.request(place.endpoint)
            await stream.send_all(b"hello")
            return not reply.code and await stream.receive_some() == b"hello"

        yield works


@pytest.mark.parametrize(
    ("service", "of", "part"),
    [
        (a_served_app, Connection, "_read"),
        (a_proxy, _proxy, "converse"),
        (a_forward, _forwards, "converse"),
        (a_port_on_a_key, _srv, "converse"),
        (socks, _LocalProxy, "_serve"),
        (socks, Exit, "serve"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
async def test_one_connection_ends_by_it(
    service: Callable[[], AbstractAsyncContextManager[Works]],
    of: object,
    part: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sound, calls = getattr(of, part), 0

    async def wrong_once(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError
        return await sound(*arguments, **options)

    monkeypatch.setattr(of, part, wrong_once)
    with trio.fail_after(PATIENCE):
        async with service() as works:
            worked = False
            with suppress(httpx.HTTPError, trio.BrokenResourceError, AssertionError):
                worked = await works()
            assert (calls, worked) == (1, False)
            assert await works()
    (fault,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert fault.getMessage() == "a connection ended by a fault of ours"
