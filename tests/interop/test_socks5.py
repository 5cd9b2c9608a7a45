"""SOCKS5 over dmsg, ours and the reference's: the same questions get the same answers.

The reference's client never uses the stream that it opens, so there is nothing to try it against.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from dmsg_trio._errors import UnreachableError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.socks5 import NOWHERE, Command, Endpoint, ReplyCode
from dmsg_trio.apps.socks5 import (
    SOCKS_PORT,
    ExitOptions,
    TargetRules,
    serve_local_socks5,
    serve_socks5,
)
from dmsg_trio.client import Client, open_client
from tests.apps.socks5.parties import ask, echo, target
from tests.interop.conftest import OURS, THEIRS, Network
from tests.interop.programs import Reference
from tests.ports import free_port
from tests.waiting import PATIENCE, answered

THEIR_LIMIT = 5  # seconds of every connection

both_networks = pytest.mark.parametrize("network", [OURS, THEIRS], indirect=True, ids=str)
our_network = pytest.mark.parametrize("network", [OURS], indirect=True, ids=str)


async def their_server(reference: Reference, discovery: str) -> PublicKey:
    sk = SecretKey.generate()
    program = await reference.start(
        reference.path("dmsg-socks5"), *("server", "-D", discovery, "-s", sk.reveal().hex())
    )
    await program.log.said("Serving session")
    return sk.pk


async def wait_until_it_listens(client: Client, pk: PublicKey) -> None:
    """It says nothing when it begins to listen, and nothing to those who come before."""

    async def listens() -> bool:
        with trio.move_on_after(1):
            try:
                await trio.aclose_forcefully(await client.open_stream(pk, SOCKS_PORT))
            except UnreachableError:
                return False
            return True
        return False

    assert await answered(listens, within=PATIENCE)


@asynccontextmanager
async def local_proxy(client: Client, pk: PublicKey) -> AsyncIterator[int]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with open_service_nursery() as nursery:
        await nursery.start(partial(serve_local_socks5, client, pk, SOCKS_PORT, listeners))
        yield listeners[0].socket.getsockname()[1]


@both_networks
async def test_our_client_goes_out_at_their_server(network: Network, reference: Reference) -> None:
    pk = await their_server(reference, network.discovery)
    async with (
        open_client(discovery=network.discovery) as client,
        local_proxy(client, pk) as port,
        target(echo) as there,
    ):
        await wait_until_it_listens(client, pk)
        for name in (there.endpoint, Endpoint("localhost", there.endpoint.port)):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                reply = await ask(stream, name)
                assert reply.code == ReplyCode.SUCCEEDED
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            reply = await ask(stream, NOWHERE, Command.UDP_ASSOCIATE)
            assert reply.code == ReplyCode.COMMAND_NOT_SUPPORTED


@our_network
async def test_their_server_cuts_every_connection_and_the_program_learns_it(
    network: Network, reference: Reference
) -> None:
    pk = await their_server(reference, network.discovery)
    async with (
        open_client(discovery=network.discovery) as client,
        local_proxy(client, pk) as port,
        target(echo) as there,
    ):
        await wait_until_it_listens(client, pk)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            assert (await ask(stream, there.endpoint)).code == ReplyCode.SUCCEEDED
            began = trio.current_time()
            with trio.fail_after(PATIENCE):
                assert await ends(stream)
            assert trio.current_time() - began < 2 * THEIR_LIMIT


async def ends(stream: trio.abc.ReceiveStream) -> bool:
    try:
        return not await stream.receive_some()
    except trio.BrokenResourceError:
        return True


@our_network
async def test_both_servers_answer_the_same_bytes(network: Network, reference: Reference) -> None:
    theirs = await their_server(reference, network.discovery)
    options = ExitOptions(targets=TargetRules(private=True))
    async with (
        open_client(discovery=network.discovery) as out,
        open_client(discovery=network.discovery) as client,
        open_service_nursery() as nursery,
        target(echo) as there,
    ):
        await wait_until_it_listens(client, theirs)
        await nursery.start(partial(serve_socks5, out, allow=None, options=options))
        here, port = socket.inet_aton("127.0.0.1"), there.endpoint.port.to_bytes(2)
        closed = free_port().to_bytes(2)
        for question in (
            b"\5\1\0" + b"\5\1\0\1" + here + port,
            b"\5\1\0" + b"\5\1\0\3\x09localhost" + port,
            b"\5\2\0\1" + b"\5\1\0\1" + here + closed,
            b"\5\1\0" + b"\5\1\0\3\x0fnowhere.invalid" + port,
            b"\5\1\0" + b"\5\2\0\1" + here + port,
            b"\5\1\0" + b"\5\1\0\2" + here + port,
            b"\5\1\2",
        ):
            answers = [await answer(client, pk, question) for pk in (theirs, out.pk)]
            assert without_port(answers[0]) == without_port(answers[1]), question


async def answer(client: Client, pk: PublicKey, question: bytes) -> bytes:
    """Ask, and wait for both messages, or for the end if it comes before."""
    async with await client.open_stream(pk, SOCKS_PORT) as stream:
        await stream.send_all(question)
        data = b""
        with trio.fail_after(PATIENCE):
            try:
                while len(data) < 12 and (piece := await stream.receive_some()):
                    data += piece
            except trio.BrokenResourceError:
                pass
        return data


def without_port(data: bytes) -> bytes:
    """Leave out the port from which a server connected."""
    return data[:10]
