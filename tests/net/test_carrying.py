"""Bytes carried between a socket and a stream of ours: all of them, ends, and what breaks."""

import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from dmsg_trio._net.carrying import Carried, _spare_of_loop, carry_both_ways
from dmsg_trio._net.stream import RECEIVE_SIZE, DmsgStream
from tests.net.links import memory_carriers, open_dmsg_streams, receive_all

TEXT = os.urandom(5 * RECEIVE_SIZE + 321)


@asynccontextmanager
async def carried(
    nursery: trio.Nursery, count: Carried | None = None
) -> AsyncIterator[tuple[trio.SocketStream, DmsgStream]]:
    """Carry between a socket and a stream; give the other ends of both."""
    near, far_of_socket = (
        trio.SocketStream(trio.socket.from_stdlib_socket(each)) for each in socket.socketpair()
    )
    stream, far = await open_dmsg_streams(nursery, await memory_carriers())
    async with trio.open_nursery() as carrying:

        async def carry() -> None:
            async with far_of_socket, stream:
                await carry_both_ways(far_of_socket, stream, carried=count)

        carrying.start_soon(carry)
        async with near, far:
            yield near, far
            carrying.cancel_scope.cancel()


async def say(stream: trio.abc.HalfCloseableStream, text: bytes) -> None:
    await stream.send_all(text)
    await stream.send_eof()


async def test_every_byte_and_both_ends_arrive_while_both_talk(nursery: trio.Nursery) -> None:
    count = Carried()
    async with carried(nursery, count) as (near, far):
        nursery.start_soon(say, near, TEXT)
        nursery.start_soon(say, far, TEXT[::-1])
        assert await receive_all(far) == TEXT
        assert await receive_all(near) == TEXT[::-1]
    assert (count.to_far, count.to_near) == (len(TEXT), len(TEXT))


async def test_an_end_of_one_side_leaves_the_other_direction(nursery: trio.Nursery) -> None:
    async with carried(nursery) as (near, far):
        await say(near, b"question")
        assert await receive_all(far) == b"question"
        nursery.start_soon(say, far, b"answer")
        assert await receive_all(near) == b"answer"


async def test_a_reset_of_the_stream_resets_the_socket(nursery: trio.Nursery) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0] as listener:
        near = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        there = await listener.accept()
    stream, far = await open_dmsg_streams(nursery, await memory_carriers())
    far.reset()
    async with there, stream:
        await carry_both_ways(there, stream)
    with pytest.raises(trio.BrokenResourceError):
        await near.receive_some()
    await near.aclose()


async def test_a_reset_of_the_socket_resets_the_stream(nursery: trio.Nursery) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0] as listener:
        near = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        there = await listener.accept()
    stream, far = await open_dmsg_streams(nursery, await memory_carriers())
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await near.aclose()
    async with there, stream:
        await carry_both_ways(there, stream)
    with pytest.raises(trio.BrokenResourceError):
        await receive_all(far)


async def test_who_waits_holds_no_memory(nursery: trio.Nursery) -> None:
    async with carried(nursery) as (near, far):
        await near.send_all(b"text")
        assert await far.receive_some() == b"text"
        await trio.testing.wait_all_tasks_blocked()
        assert len(_spare_of_loop()) == 1  # that both directions have used, or will
