"""Connections over TCP, and what is said of those that do not come to be."""

from __future__ import annotations

import socket
import ssl
from typing import NoReturn

import httpx
import pytest
import trio

from dmsg_trio._net.tcp import connect_tcp, reason_of
from tests.ports import free_port

pytestmark = pytest.mark.network


async def test_who_dials_in_vain_hears_where_and_what_the_system_said() -> None:
    place = f"127.0.0.1:{free_port()}"
    with pytest.raises(OSError, match=f"^no connection to {place}: Connection refused$"):
        await connect_tcp(place)


async def test_a_name_that_nobody_has_is_named() -> None:
    trio.socket.set_custom_hostname_resolver(_Nobody())
    with pytest.raises(OSError, match=r"^no connection to nobody\.invalid:80: no such name$"):
        await connect_tcp("nobody.invalid:80")


class _Nobody(trio.abc.HostnameResolver):
    async def getaddrinfo(self, *_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    async def getnameinfo(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError


async def test_what_the_system_said_is_found_behind_the_words_of_httpx() -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(httpx.ConnectError) as info:
            await http.get(f"http://127.0.0.1:{free_port()}/")
    assert reason_of(info.value) == "Connection refused"


async def test_what_tls_says_is_not_taken_for_the_systems_number() -> None:
    async def answer_without_tls(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.0 400 What?\r\n\r\n")

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery, httpx.AsyncClient(trust_env=False) as http:
        nursery.start_soon(trio.serve_listeners, answer_without_tls, listeners)
        with pytest.raises(httpx.ConnectError) as info:
            await http.get(f"https://127.0.0.1:{port}/")
        nursery.cancel_scope.cancel()
    assert "SSL" in reason_of(info.value)
    assert reason_of(ssl.SSLError(1, "a wrong version")) == "a wrong version"


def test_an_error_that_is_not_the_systems_speaks_for_itself() -> None:
    assert reason_of(ValueError("a port is 0 to 65535")) == "a port is 0 to 65535"
