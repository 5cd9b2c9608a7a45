"""A thousand sessions and streams of ours at the reference's server, which loses some of its own.

Its race: it gives a connection up when yamux bytes are there already as it reads the last message of
the handshake. Whoever opens a stream at once meets it about once in a hundred sessions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import pytest
import trio

from dmsg_trio.client import open_client
from dmsg_trio.discovery import HttpDiscovery, StaticDiscovery
from tests.interop.conftest import THEIRS, Network

TIMES: Final = 1000

pytestmark = pytest.mark.parametrize("network", [THEIRS], indirect=True, ids=str)


async def repeat(work: Callable[[], Awaitable[None]], *, workers: int) -> int:
    """Do ``work`` `TIMES` times, by so many at once; say how often it was done."""
    done = 0

    async def run() -> None:
        nonlocal done
        for _ in range(TIMES // workers):
            await work()
            done += 1

    async with trio.open_nursery() as nursery:
        for _ in range(workers):
            nursery.start_soon(run)
    return done


@pytest.mark.parametrize("workers", [1, 4])
async def test_no_session_of_ours_fails(network: Network, workers: int) -> None:
    async with HttpDiscovery(network.discovery) as discovery:
        server = await discovery.entry(network.server_pk)

    async def open_and_use() -> None:
        async with open_client(discovery=StaticDiscovery([server])) as client:
            assert await client.look_up_ip(server.pk) == bytes([127, 0, 0, 1])

    assert await repeat(open_and_use, workers=workers) == TIMES


@pytest.mark.parametrize("workers", [1, 4])
async def test_no_stream_of_ours_fails(network: Network, workers: int) -> None:
    async with (
        open_client(discovery=network.discovery) as a,
        open_client(discovery=network.discovery) as b,
        trio.open_nursery() as nursery,
    ):

        async def echo_once() -> None:
            far = await listener.accept()
            await far.send_all(await far.receive_some())
            await far.aclose()

        async def open_and_use() -> None:
            nursery.start_soon(echo_once)
            near = await a.open_stream(b.pk, 80)
            await near.send_all(b"hello")
            assert await near.receive_some() == b"hello"
            await near.aclose()

        listener = b.listen(80)
        assert await repeat(open_and_use, workers=workers) == TIMES
