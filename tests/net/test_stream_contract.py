"""Our streams do what Trio promises of streams, on whatever carries them."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import check_half_closeable_stream

from dmsg_trio._net.stream import RECEIVE_SIZE, DmsgStream
from tests.net.links import (
    CarrierPair,
    MakeCarriers,
    clog,
    lockstep_carriers,
    memory_carriers,
    open_dmsg_streams,
    open_mux_streams,
    socket_carriers,
    tcp_carriers,
)

Pair = tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]
OpenPair = Callable[[trio.Nursery, CarrierPair], Awaitable[Pair]]


class ReadsInto(trio.abc.HalfCloseableStream):
    """A stream of ours that is read with `receive_into` only."""

    def __init__(self, stream: DmsgStream, size: int) -> None:
        self._stream = stream
        self._size = size

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        memory = bytearray(self._size if max_bytes is None else max_bytes)
        return bytes(memory[: await self._stream.receive_into(memory)])

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def read_into_little(nursery: trio.Nursery, carriers: CarrierPair) -> Pair:
    near, far = await open_dmsg_streams(nursery, carriers)
    return ReadsInto(near, 100), ReadsInto(far, 5000)


async def read_into_much(nursery: trio.Nursery, carriers: CarrierPair) -> Pair:
    near, far = await open_dmsg_streams(nursery, carriers)
    return ReadsInto(near, RECEIVE_SIZE), ReadsInto(far, RECEIVE_SIZE)


CARRIERS = [
    memory_carriers,
    lockstep_carriers,
    pytest.param(socket_carriers, marks=pytest.mark.network),
    pytest.param(tcp_carriers, marks=pytest.mark.network),
]


@pytest.mark.parametrize("carriers", CARRIERS)
@pytest.mark.parametrize(
    "open_pair", [open_mux_streams, open_dmsg_streams, read_into_little, read_into_much]
)
async def test_a_stream_keeps_the_contract_of_half_closeable_streams(
    nursery: trio.Nursery, open_pair: OpenPair, carriers: MakeCarriers
) -> None:
    async def make() -> Pair:
        return await open_pair(nursery, await carriers())

    async def make_clogged() -> Pair:
        near, far = await make()
        await clog(near)
        await clog(far)
        return near, far

    await check_half_closeable_stream(make, make_clogged)


@pytest.mark.parametrize("size", [1, 4069, 70_000, RECEIVE_SIZE])
async def test_memory_of_any_size_gets_every_byte_in_order(
    nursery: trio.Nursery, size: int
) -> None:
    text = bytes(range(256)) * 300 if size < 100 else bytes(range(256)) * 6000
    near, far = await open_dmsg_streams(nursery, await memory_carriers())

    async def send() -> None:
        await near.send_all(text)
        await near.send_eof()

    nursery.start_soon(send)
    received, memory = bytearray(), bytearray(size)
    while count := await far.receive_into(memory):
        received += memory[:count]
    assert received == text


async def test_what_is_left_by_one_way_to_read_comes_by_the_other(nursery: trio.Nursery) -> None:
    near, far = await open_dmsg_streams(nursery, await memory_carriers())
    await near.send_all(b"one two three")
    memory = bytearray(4)
    assert bytes(memory[: await far.receive_into(memory)]) == b"one "
    assert await far.receive_some(4) == b"two "
    assert bytes(memory[: await far.receive_into(memory)]) == b"thre"
    assert await far.receive_some() == b"e"


async def test_memory_without_room_is_refused(nursery: trio.Nursery) -> None:
    _, far = await open_dmsg_streams(nursery, await memory_carriers())
    with pytest.raises(ValueError, match="a buffer of no bytes"):
        await far.receive_into(bytearray())
