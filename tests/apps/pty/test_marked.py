"""Sockets on which an end is told from a break."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import check_half_closeable_stream, wait_all_tasks_blocked

from dmsg_trio._wire.marked import END, MAX_CHUNK, encode_chunk
from dmsg_trio.apps.pty._marked import MarkedStream

pytestmark = pytest.mark.network


opened: list[trio.SocketStream] = []


@pytest.fixture(autouse=True)
async def closed_behind() -> AsyncIterator[None]:
    """Close what a test left open."""
    yield
    while opened:
        opened.pop().socket.close()


async def sockets() -> tuple[trio.SocketStream, trio.SocketStream]:
    await trio.lowlevel.checkpoint()
    a, b = map(trio.socket.from_stdlib_socket, socket.socketpair())
    pair = trio.SocketStream(a), trio.SocketStream(b)
    opened.extend(pair)
    return pair


async def pair() -> tuple[MarkedStream, MarkedStream]:
    a, b = await sockets()
    return MarkedStream(a), MarkedStream(b)


async def half() -> tuple[MarkedStream, trio.SocketStream]:
    a, b = await sockets()
    return MarkedStream(a), b


async def everything(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(piece) async for piece in stream])


async def test_it_is_a_stream() -> None:
    await check_half_closeable_stream(pair, None)


async def test_much_arrives_as_it_was_sent_and_ends() -> None:
    a, b = await pair()
    data = bytes(range(256)) * 4000
    async with a, b, trio.open_nursery() as nursery:

        async def send() -> None:
            await a.send_all(memoryview(data))
            await a.send_eof()

        nursery.start_soon(send)
        assert await everything(b) == data
        assert await b.receive_some(5) == b""
        await b.send_all(b"I can still talk")
        assert await a.receive_some(5) == b"I can"
        assert await a.receive_some() == b" still talk"


async def test_a_closed_stream_has_ended_and_one_that_was_reset_has_not() -> None:
    a, b = await pair()
    await a.aclose()
    assert await b.receive_some() == b""
    a, b = await pair()
    await a.send_all(b"half of")
    assert await b.receive_some() == b"half of"
    a.reset()
    with pytest.raises(trio.BrokenResourceError):
        await b.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await a.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await a.send_all(b"x")
    await a.aclose()


async def test_a_block_that_fails_says_no_end() -> None:
    a, b = await pair()
    with pytest.raises(RuntimeError):
        async with a:
            raise RuntimeError
    with pytest.raises(trio.BrokenResourceError, match="it broke off without an end"):
        await b.receive_some()


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (b"", "it broke off without an end"),
        (b"\0\0\0", "it broke off without an end"),
        (encode_chunk(b"whole")[:-1], "it broke off without an end"),
        (b"\xff\xff\xff\xff", "a chunk of 4294967295 bytes, over 65536"),
        (END + b"x", "1 bytes behind the end"),
    ],
)
async def test_what_has_no_mark_at_its_end_is_broken(said: bytes, problem: str) -> None:
    stream, far = await half()
    async with stream:
        await far.send_all(said)
        await far.aclose()
        with pytest.raises(trio.BrokenResourceError, match=problem):
            await everything(stream)


async def test_a_write_that_was_cut_short_is_never_taken_for_whole() -> None:
    stream, far = await half()
    with trio.move_on_after(0.05):
        while True:
            await stream.send_all(bytes(MAX_CHUNK))

    async def read_on() -> None:
        other = MarkedStream(far)
        with pytest.raises(trio.BrokenResourceError):
            await everything(other)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_on)
        await stream.aclose()


async def test_closing_does_not_wait_for_who_writes() -> None:
    stream, _far = await half()

    async def fill() -> None:
        with pytest.raises(trio.ClosedResourceError):
            while True:
                await stream.send_all(bytes(MAX_CHUNK))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fill)
        await wait_all_tasks_blocked()
        await stream.aclose()
