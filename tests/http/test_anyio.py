"""Streams as anyio wants them."""

import anyio
import pytest
import trio
from anyio.streams.buffered import BufferedByteReceiveStream
from trio.testing import memory_stream_pair

from dmsg_trio.http import AnyioByteStream
from dmsg_trio.testing import Network


async def test_bytes_go_both_ways_and_each_way_ends_by_itself() -> None:
    async with Network() as network, network.client() as a, network.client() as b:
        async with b.listen(9) as listener:
            near = AnyioByteStream(await a.open_stream(b.pk, 9))
            far = AnyioByteStream(await listener.accept())
            await near.send(b"hello")
            assert await BufferedByteReceiveStream(far).receive_exactly(5) == b"hello"
            await near.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await far.receive()
            await far.send(b"I can still talk")
            assert await near.receive(6) == b"I can "
            assert await near.receive() == b"still talk"
            await far.aclose()
            await near.aclose()


async def test_errors_are_those_of_anyio() -> None:
    near, far = memory_stream_pair()
    stream = AnyioByteStream(near)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(far.send_all, b"x")
        await stream.receive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(near.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await stream.receive()
        await far.send_all(b"x")
    await far.aclose()
    with pytest.raises(anyio.BrokenResourceError):
        await stream.send(b"x")
    await stream.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        await stream.receive()


async def test_what_is_closed_by_a_cancellation_is_reset() -> None:
    async with Network() as network, network.client() as a, network.client() as b:
        async with b.listen(9) as listener:
            near = AnyioByteStream(await a.open_stream(b.pk, 9))
            far = AnyioByteStream(await listener.accept())
            await anyio.aclose_forcefully(near)
            with pytest.raises(anyio.BrokenResourceError):
                await far.receive()
