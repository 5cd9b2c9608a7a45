"""A server that is restarted while it is in use: nobody who uses it notices."""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from trio.lowlevel import checkpoint

from dmsg_trio import Client, open_client
from dmsg_trio._keys import PublicKey
from dmsg_trio.client import DmsgStream
from tests.end_to_end.deployment import Deployment
from tests.waiting import PATIENCE, Log

pytestmark = pytest.mark.network

WORKERS = 3


async def echo(stream: DmsgStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send_all(data)
        await stream.send_eof()


class Count:
    """How often something was done, and until it was done so often."""

    def __init__(self) -> None:
        self.done = 0
        self._news = trio.lowlevel.ParkingLot()

    def add(self) -> None:
        self.done += 1
        self._news.unpark_all()

    async def reaches(self, number: int) -> None:
        with trio.fail_after(PATIENCE):
            while self.done < number:
                await self._news.park()


async def exchange(
    client: Client, pk: PublicKey, size: int, halfway: Callable[[], Awaitable[None]] = checkpoint
) -> None:
    """Send bytes there and back, and do something in the middle."""
    data = random.randbytes(size)
    async with await client.open_stream(pk, 80) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            await stream.send_all(data[: size // 2])
            await halfway()
            await stream.send_all(data[size // 2 :])
            await stream.send_eof()

        nursery.start_soon(send)
        received = b"".join([bytes(piece) async for piece in stream])
        assert received == data


async def both_servers(log: Log, *clients: Client) -> None:
    """Wait until each client has a session with each server."""
    await log.until(
        lambda: all(len(client.sessions) == 2 for client in clients), "sessions with both servers"
    )


async def test_a_restart_under_load_loses_no_dial_and_no_stream(tmp_path: Path, log: Log) -> None:
    deployment = Deployment(tmp_path, servers=2)
    with trio.fail_after(4 * PATIENCE):
        await restart_under_load(deployment, log)


async def restart_under_load(deployment: Deployment, log: Log) -> None:
    async with (
        deployment.discovery(),
        deployment.server(0) as leaving,
        deployment.server(1),
        open_client(discovery=deployment.url, min_sessions=0) as near,
        open_client(discovery=deployment.url, min_sessions=0) as far,
        far.listen(80) as listener,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(trio.serve_listeners, echo, [listener])
        await both_servers(log, near, far)
        exchanged, waiting, leaves, is_over = Count(), Count(), trio.Event(), False

        async def work() -> None:
            while not is_over:
                with trio.fail_after(PATIENCE):
                    await exchange(near, far.pk, 50_000)
                exchanged.add()

        async def wait_for_the_signal() -> None:
            waiting.add()
            await leaves.wait()

        async with AsyncExitStack() as later, trio.open_nursery() as working:
            for _ in range(WORKERS):
                working.start_soon(work)
                # These are under way when it happens.
                working.start_soon(exchange, near, far.pk, 200_000, wait_for_the_signal)
            await waiting.reaches(WORKERS)
            await exchanged.reaches(WORKERS)
            leaving.send_signal(signal.SIGTERM)
            await log.said("takes no new streams|session with server .* ended")
            leaves.set()
            with trio.fail_after(PATIENCE):
                assert await leaving.wait() == 0
            await later.enter_async_context(deployment.server(0))
            await both_servers(log, near, far)
            await exchanged.reaches(exchanged.done + 10 * WORKERS)
            is_over = True
        nursery.cancel_scope.cancel()
