"""Our clients with each other, over each kind of server and discovery."""

from __future__ import annotations

import hashlib
import time
from functools import partial
from typing import Final

import pytest
import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import ErrorCode, RefusedError, UnreachableError
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.opening import OPEN_TIMEOUT, open_stream
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio.client import Client, DmsgListener, DmsgStream, open_client
from tests.interop.conftest import OUR_DISCOVERY, OUR_SERVER, OURS, THEIRS, Network

SIZE: Final = 8_000_000
STREAMS: Final = 200


async def send(stream: DmsgStream, size: int) -> str:
    """Send ``size`` bytes that depend on the stream, and give their checksum."""
    digest = hashlib.sha256()
    block = hashlib.shake_256(str(stream.local).encode()).digest(min(size, 1_000_000))
    for start in range(0, size, len(block)):
        piece = block[: size - start]
        digest.update(piece)
        await stream.send_all(piece)
    return digest.hexdigest()


async def receive(stream: DmsgStream, size: int) -> str:
    """Receive exactly ``size`` bytes and give their checksum."""
    digest = hashlib.sha256()
    while size:
        data = await stream.receive_some(size)
        assert data, f"{size} bytes are missing"
        size -= len(data)
        digest.update(data)
    return digest.hexdigest()


async def exchange(stream: DmsgStream, size: int) -> tuple[str, str]:
    """Send and receive ``size`` bytes at once; give both checksums, first the one of what was sent."""
    sums = {}

    async def do_send() -> None:
        sums["sent"] = await send(stream, size)

    async def do_receive() -> None:
        sums["received"] = await receive(stream, size)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(do_send)
        nursery.start_soon(do_receive)
    return sums["sent"], sums["received"]


async def open_pair(a: Client, listener: DmsgListener) -> tuple[DmsgStream, DmsgStream]:
    near = await a.open_stream(listener.address.pk, listener.address.port)
    far = await listener.accept()
    assert (near.remote, far.remote) == (far.local, near.local)
    return near, far


async def test_bytes_arrive_both_ways_as_they_were_sent(network: Network) -> None:
    async with (
        open_client(discovery=network.discovery) as a,
        open_client(discovery=network.discovery) as b,
    ):
        near, far = await open_pair(a, b.listen(80))
        assert near.server_pk == far.server_pk == network.server_pk
        sums: dict[str, tuple[str, str]] = {}

        async def note(name: str, stream: DmsgStream) -> None:
            sums[name] = await exchange(stream, SIZE)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, "near", near)
            nursery.start_soon(note, "far", far)
        assert sums["near"] == sums["far"][::-1]


async def test_many_streams_at_once_do_not_mix_up(network: Network) -> None:
    async with (
        open_client(discovery=network.discovery) as a,
        open_client(discovery=network.discovery) as b,
    ):
        listener = b.listen(80)
        done = []

        async def echo(stream: DmsgStream) -> None:
            async with stream:
                async for data in stream:
                    await stream.send_all(data)

        async def ask() -> None:
            async with await a.open_stream(b.pk, 80) as stream:
                sent, received = await exchange(stream, 10_000)
                assert sent == received
                done.append(sent)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.serve_listeners, echo, [listener]))
            async with trio.open_nursery() as asking:
                for _ in range(STREAMS):
                    asking.start_soon(ask)
            nursery.cancel_scope.cancel()
        assert len(set(done)) == STREAMS


async def test_the_server_tells_a_client_its_address(network: Network) -> None:
    async with open_client(discovery=network.discovery) as client:
        assert await client.look_up_ip(network.server_pk) == bytes([127, 0, 0, 1])


# ---- ends ----


@pytest.mark.parametrize("network", [OURS, OUR_SERVER], indirect=True, ids=str)
async def test_half_an_end_leaves_the_other_direction_open_over_our_server(
    network: Network,
) -> None:
    async with (
        open_client(discovery=network.discovery) as a,
        open_client(discovery=network.discovery) as b,
    ):
        near, far = await open_pair(a, b.listen(80))
        await near.send_eof()
        assert await far.receive_some() == b""
        await far.send_all(b"I can still talk")
        assert await near.receive_some() == b"I can still talk"


@pytest.mark.parametrize("network", [THEIRS, OUR_DISCOVERY], indirect=True, ids=str)
async def test_half_an_end_ends_both_directions_over_their_server(network: Network) -> None:
    """What was sent before the end arrives; then their server ends the other direction too."""
    async with (
        open_client(discovery=network.discovery) as a,
        open_client(discovery=network.discovery) as b,
    ):
        near, far = await open_pair(a, b.listen(80))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, near, 100_000)
            await receive(far, 100_000)
        await near.send_eof()
        assert await far.receive_some() == b""
        with trio.fail_after(5):
            assert await near.receive_some() == b""


# ---- refusals ----


@pytest.mark.parametrize("network", [OURS, OUR_SERVER], indirect=True, ids=str)
async def test_a_closed_port_is_refused_at_once_over_our_server(network: Network) -> None:
    async with (
        open_client(discovery=network.discovery) as a,
        open_client(discovery=network.discovery) as b,
    ):
        with trio.fail_after(2), pytest.raises(RefusedError) as refusal:
            await a.open_stream(b.pk, 80)
        assert refusal.value.code == ErrorCode.NO_LISTENER


@pytest.mark.parametrize("network", [THEIRS], indirect=True, ids=str)
async def test_a_closed_port_is_silence_over_their_server(network: Network) -> None:
    """Their server keeps the refusal that we signed to itself; our own limit ends the dial."""
    assert network.server_program is not None
    async with (
        open_client(discovery=network.discovery) as a,
        open_client(discovery=network.discovery) as b,
    ):
        with trio.fail_after(OPEN_TIMEOUT + 2), pytest.raises(UnreachableError) as refusal:
            await a.open_stream(b.pk, 80)
        assert refusal.value.code == ErrorCode.CANNOT_CONNECT_TO_DELEGATED
        assert "no answer within" in str(refusal.value)
        await network.server_program.log.said("dmsg error 306")
        listener = b.listen(80)
        near, far = await open_pair(a, listener)  # and the sessions live on
        await near.send_all(b"still here")
        assert await far.receive_some() == b"still here"


# ---- post-quantum ----


@pytest.mark.parametrize("network", [OURS, THEIRS], indirect=True, ids=str)
async def test_streams_are_post_quantum_even_through_a_server_that_is_not(
    network: Network,
) -> None:
    sk = SecretKey.generate()
    async with (
        open_client(sk, discovery=network.discovery) as a,
        open_client(discovery=network.discovery) as b,
    ):
        listener = b.listen(80)
        session = a.sessions[network.server_pk]
        assert session.is_post_quantum is (network.server_program is None)
        near = await open_stream(
            session,
            sk,
            Address(sk.pk, 50_000),
            listener.address,
            timestamp=time.time_ns(),
            post_quantum=PostQuantum.REQUIRE,
        )
        far = await listener.accept()
        await near.send_all(b"sealed twice over")
        assert await far.receive_some() == b"sealed twice over"
