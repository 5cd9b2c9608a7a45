"""dmsgweb, ours and the reference's: each side that works there, against the other one here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from dmsg_trio._address import Address
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.apps.web import (
    Exposed,
    Forward,
    Names,
    Ways,
    serve_exposed,
    serve_forwards,
    serve_proxy,
)
from dmsg_trio.client import Client, open_client
from tests.apps.web.parties import all_of, receive_until
from tests.interop.conftest import OURS, THEIRS, Network
from tests.interop.programs import Reference
from tests.ports import free_port
from tests.waiting import PATIENCE, answered

both_networks = pytest.mark.parametrize("network", [OURS, THEIRS], indirect=True, ids=str)


class Local:
    """A program on loopback, and what it was asked."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heads: list[bytes] = []


@asynccontextmanager
async def local_program() -> AsyncIterator[Local]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    local = Local(listeners[0].socket.getsockname()[1])

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                while True:
                    local.heads.append(await receive_until(stream, b"\r\n\r\n"))
                    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlocal")
            except (AssertionError, trio.BrokenResourceError):
                pass

    async with open_service_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield local


@asynccontextmanager
async def our_ways_in(client: Client, pk: PublicKey) -> AsyncIterator[tuple[int, int]]:
    """A proxy and a forward to a key's port 80."""
    proxy, forward = [await trio.open_tcp_listeners(0, host="127.0.0.1") for _ in range(2)]
    ports = [each[0].socket.getsockname()[1] for each in (proxy, forward)]
    async with open_service_nursery() as nursery:
        await nursery.start(partial(serve_proxy, Ways(client, Names()), proxy))
        found = [Forward(forward, Address(pk, 80))]
        await nursery.start(partial(serve_forwards, client, found))
        yield ports[0], ports[1]


async def ask(port: int, data: bytes) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        try:
            await stream.send_all(data)
        except trio.BrokenResourceError:
            return b""
        return await all_of(stream)


def get(target: str, host: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


async def their_srv(
    reference: Reference, discovery: str, local_port: int, *options: str
) -> PublicKey:
    sk = SecretKey.generate()
    await reference.start(
        reference.path("dmsgweb"),
        *("srv", "-D", discovery, "-l", str(local_port), "-s", sk.reveal().hex(), *options),
    )
    return sk.pk


@both_networks
async def test_our_proxy_and_our_forward_open_what_their_srv_serves(
    network: Network, reference: Reference
) -> None:
    async with local_program() as local, open_client(discovery=network.discovery) as client:
        pk = await their_srv(reference, network.discovery, local.port)
        async with our_ways_in(client, pk) as (proxy, forward):

            async def serves() -> bool:
                return (await ask(forward, get("/", "127.0.0.1"))).endswith(b"local")

            assert await answered(serves, within=PATIENCE)
            local.heads.clear()
            assert (await ask(forward, get("/a?b=1", "127.0.0.1"))).endswith(b"local")
            assert (await ask(proxy, get(f"http://{pk}.dmsg/a?b=1", "x"))).endswith(b"local")
            for each in local.heads:
                assert each.startswith(b"GET /a?b=1 HTTP/1.1\r\n")
                assert f"\r\nHost: 127.0.0.1:{local.port}\r\n".encode() in each
                assert f"\r\nX-Forwarded-For: {client.pk}\r\n".encode() in each


@both_networks
async def test_their_srv_refuses_who_is_not_on_its_list_as_ours_does(
    network: Network, reference: Reference
) -> None:
    nobody = SecretKey.generate().pk
    async with (
        local_program() as local,
        open_client(discovery=network.discovery) as client,
        open_client(discovery=network.discovery) as ours,
        open_service_nursery() as nursery,
    ):
        theirs = await their_srv(reference, network.discovery, local.port, "-w", str(nobody))
        exposed = [Exposed(local.port, 80, allow={nobody})]
        await nursery.start(partial(serve_exposed, ours, exposed))
        answers = []
        for pk in theirs, ours.pk:
            async with our_ways_in(client, pk) as (_, forward):

                async def refuses(port: int = forward) -> bool:
                    return b" 401 Unauthorized\r\n" in await ask(port, get("/", "127.0.0.1"))

                assert await answered(refuses, within=PATIENCE)
                answers.append(await ask(forward, get("/", "127.0.0.1")))
        assert [each.partition(b"\r\n\r\n")[2] for each in answers] == [b"401 Unauthorized"] * 2
        assert local.heads == []


@both_networks
async def test_their_forward_opens_what_our_srv_serves(
    network: Network, reference: Reference
) -> None:
    async with (
        local_program() as local,
        open_client(discovery=network.discovery) as ours,
        open_service_nursery() as nursery,
    ):
        await nursery.start(partial(serve_exposed, ours, [Exposed(local.port, 80)]))
        port, sk = free_port(), SecretKey.generate()
        await reference.start(
            reference.path("dmsgweb"),
            *("-d", network.discovery, "-t", f"{ours.pk}:80", "-p", str(port), "-e", "1"),
            *("-s", sk.reveal().hex()),
        )

        async def serves() -> bool:
            try:
                return b"local" in await ask(port, get("/a?b=1", "127.0.0.1"))
            except OSError:
                return False

        assert await answered(serves, within=PATIENCE)
        assert local.heads[-1].startswith(b"GET /a?b=1 HTTP/1.1\r\n")
        assert f"\r\nX-Forwarded-For: {sk.pk}\r\n".encode() in local.heads[-1]
