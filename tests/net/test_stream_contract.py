"""Our streams do what Trio promises of streams, on whatever carries them."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import check_half_closeable_stream

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

CARRIERS = [
    memory_carriers,
    lockstep_carriers,
    pytest.param(socket_carriers, marks=pytest.mark.network),
    pytest.param(tcp_carriers, marks=pytest.mark.network),
]


@pytest.mark.parametrize("carriers", CARRIERS)
@pytest.mark.parametrize("open_pair", [open_mux_streams, open_dmsg_streams])
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
