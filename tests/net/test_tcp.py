"""Connections over TCP, and what is said of those that do not come to be."""

from __future__ import annotations

import socket
import ssl
import time
from typing import NoReturn

import httpx
import pytest
import trio

from dmsg_trio import SecretKey, open_client
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.tcp import connect_tcp, listen_tcp, reason_of
from dmsg_trio.discovery import Entry, MemoryDiscovery, ServerInfo
from dmsg_trio.server import Server, ServerOptions
from tests.ports import free_port
from tests.waiting import PATIENCE, hearing

pytestmark = pytest.mark.network


async def test_who_dials_in_vain_hears_where_and_what_the_system_said() -> None:
    place = f"127.0.0.1:{free_port()}"
    with pytest.raises(OSError, match=f"^no connection to {place}: Connection refused$"):
        await connect_tcp(place)


async def test_a_name_that_nobody_has_is_named() -> None:
    trio.socket.set_custom_hostname_resolver(_Nobody())
    with pytest.raises(OSError, match=r"^no connection to nobody\.invalid:80: no such name$"):
        await connect_tcp("nobody.invalid:80")


IMPOSSIBLE = ["a..b", "x" * 70, ".", "\N{IDEOGRAPHIC FULL STOP}", "\udcff", "\0"]


@pytest.mark.parametrize("host", IMPOSSIBLE)
async def test_what_can_be_no_name_is_as_one_that_nobody_has(host: str) -> None:
    with pytest.raises(OSError, match=r"^no connection to "):
        await connect_tcp(f"{host}:80")
    with pytest.raises(OSError):  # noqa: PT011 - the system has the words for some of them
        await listen_tcp(f"{host}:0")


@pytest.mark.parametrize("host", IMPOSSIBLE[:2])
async def test_a_server_that_says_it_is_nowhere_harms_nobody(host: str) -> None:
    discovery, mallory = MemoryDiscovery(), SecretKey.generate()
    nowhere = ServerInfo(address=f"{host}:80", available_sessions=100)
    entry = Entry(pk=mallory.pk, timestamp=time.time_ns(), server=nowhere)
    await discovery.publish(entry.signed(mallory))
    listeners = await listen_tcp("127.0.0.1:0")
    place = "{}:{}".format(*listeners[0].socket.getsockname())
    server = Server(
        SecretKey.generate(), discovery=discovery, options=ServerOptions(public_address=place)
    )
    with hearing("dmsg_trio") as log, trio.fail_after(PATIENCE):
        async with open_service_nursery() as nursery:
            nursery.start_soon(server.serve, listeners)
            await log.said(f"server {mallory.pk} not reached, next try in .*no name of a host")
            async with (
                open_client(discovery=discovery, min_sessions=2, wait=False) as a,
                open_client(discovery=discovery) as b,
                b.listen(80) as listener,
            ):
                await log.said(f"server {mallory.pk} not reached, left alone")
                async with await a.open_stream(b.pk, 80) as near, await listener.accept() as far:
                    await near.send_all(b"hello")
                    assert await far.receive_some() == b"hello"


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
