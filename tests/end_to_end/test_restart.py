"""A server that is restarted while it is in use: nobody who uses it notices."""

from __future__ import annotations

import random
import signal
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trio

from dmsg_trio import Client, open_client
from dmsg_trio._keys import PublicKey
from dmsg_trio.client import DmsgStream
from tests.end_to_end.deployment import Deployment

pytestmark = pytest.mark.network

PATIENCE = 40  # seconds
WORKERS = 3


async def echo(stream: DmsgStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send_all(data)
        await stream.send_eof()


async def exchange(client: Client, pk: PublicKey, size: int, *, pause: float = 0) -> None:
    """Send bytes there and back."""
    data = random.randbytes(size)
    async with await client.open_stream(pk, 80) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            for at in range(0, size, 10_000):
                await stream.send_all(data[at : at + 10_000])
                await trio.sleep(pause)
            await stream.send_eof()

        nursery.start_soon(send)
        received = b"".join([bytes(piece) async for piece in stream])
        assert received == data


async def both_servers(*clients: Client) -> None:
    """Wait until each client has a session with each server."""
    with trio.fail_after(PATIENCE):
        while not all(len(client.sessions) == 2 for client in clients):
            await trio.lowlevel.checkpoint()


async def test_a_restart_under_load_loses_no_dial_and_no_stream(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, servers=2)
    with trio.fail_after(4 * PATIENCE):
        await restart_under_load(deployment)


async def restart_under_load(deployment: Deployment) -> None:
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
        await both_servers(near, far)
        is_over, exchanged = False, 0

        async def work() -> None:
            nonlocal exchanged
            while not is_over:
                with trio.fail_after(PATIENCE):
                    await exchange(near, far.pk, 50_000)
                exchanged += 1

        async with AsyncExitStack() as later, trio.open_nursery() as working:
            for _ in range(WORKERS):
                working.start_soon(work)
                # These are under way when it happens.
                working.start_soon(partial(exchange, near, far.pk, 200_000, pause=0.1))
            await trio.sleep(1)
            leaving.send_signal(signal.SIGTERM)
            with trio.fail_after(PATIENCE):
                assert await leaving.wait() == 0
            before = exchanged
            await later.enter_async_context(deployment.server(0))
            await both_servers(near, far)
            await trio.sleep(1)
            is_over = True
        assert exchanged > before > 0
        nursery.cancel_scope.cancel()
