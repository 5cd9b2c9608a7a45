"""Servers and discoveries as processes that are killed and come back, and clients that outlive it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dmsg_trio import Client, open_client
from dmsg_trio.client import DmsgStream
from tests.end_to_end.deployment import Deployment
from tests.waiting import PATIENCE, Log

pytestmark = pytest.mark.network


async def kill(running: trio.Process) -> None:
    running.send_signal(signal.SIGKILL)
    await running.wait()


async def connected(a: Client, b: Client) -> None:
    """Have ``a`` reach ``b``, and say something."""
    with trio.fail_after(PATIENCE):
        async with b.listen(80) as listener:
            near = await a.open_stream(b.pk, 80)
            far = await listener.accept()
            await near.send_all(b"hello")
            assert await far.receive_some() == b"hello"
            await near.aclose()
            await far.aclose()


@asynccontextmanager
async def two_clients(deployment: Deployment) -> AsyncIterator[tuple[Client, Client]]:
    async with (
        open_client(discovery=deployment.url) as a,
        open_client(discovery=deployment.url) as b,
    ):
        yield a, b


async def test_clients_come_back_to_a_server_that_was_killed(tmp_path: Path, log: Log) -> None:
    deployment = Deployment(tmp_path)
    async with deployment.discovery(), deployment.server() as server:
        async with two_clients(deployment) as (a, b):
            await connected(a, b)
            near = await _open(a, b)
            await kill(server)
            with trio.fail_after(2), pytest.raises(trio.BrokenResourceError):
                await near.receive_some()
            await log.until(lambda: not (a.sessions or b.sessions), "end of both sessions")
            async with deployment.server():
                await log.until(lambda: bool(a.sessions and b.sessions), "new sessions")
                await connected(a, b)
                await connected(b, a)


async def _open(a: Client, b: Client) -> DmsgStream:
    async with b.listen(81) as listener:
        near = await a.open_stream(b.pk, 81)
        await listener.accept()
        return near


async def test_a_discovery_that_is_killed_is_missed_only_where_it_is_needed(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    async with deployment.discovery() as discovery, deployment.server():
        async with two_clients(deployment) as (a, b):
            await connected(a, b)
            await kill(discovery)
            await connected(a, b)
            async with deployment.discovery():
                with trio.fail_after(PATIENCE):
                    async with open_client(discovery=deployment.url) as late:
                        await connected(late, b)


async def test_a_client_that_is_there_first_waits_for_the_rest(tmp_path: Path, log: Log) -> None:
    deployment = Deployment(tmp_path)
    async with open_client(discovery=deployment.url, wait=False) as early:
        await log.said("no list of servers, next try")
        async with deployment.server(), deployment.discovery():
            with trio.fail_after(PATIENCE):
                await early.wait_registered()
                async with open_client(discovery=deployment.url) as late:
                    await connected(late, early)


async def test_a_server_that_hangs_and_goes_on_has_lost_nothing(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    async with deployment.discovery(), deployment.server() as server:
        async with two_clients(deployment) as (a, b), b.listen(82) as listener:
            near, far = await a.open_stream(b.pk, 82), await listener.accept()
            server.send_signal(signal.SIGSTOP)
            await trio.to_thread.run_sync(os.waitid, os.P_PID, server.pid, os.WSTOPPED)
            await near.send_all(bytes(200_000))
            await near.send_eof()
            await wait_all_tasks_blocked()  # all of it is sent, and goes no further
            server.send_signal(signal.SIGCONT)
            received = 0
            with trio.fail_after(PATIENCE):
                async for data in far:
                    received += len(data)
            assert received == 200_000
