"""Servers and discoveries as processes that are killed and come back, and clients that outlive it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from dmsg_trio import Client, open_client
from dmsg_trio._errors import DmsgError
from dmsg_trio._keys import SecretKey
from dmsg_trio.client import DmsgStream

pytestmark = pytest.mark.network

PATIENCE = 40  # seconds; backoff may have grown to half of it


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@asynccontextmanager
async def process(arguments: Sequence[str]) -> AsyncIterator[trio.Process]:
    """Run one of our programs, and kill it at the end if it still runs."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("DMSG_")}
    running = await trio.lowlevel.open_process(
        [sys.executable, "-m", *arguments],
        env=own,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield running
    finally:
        running.kill()
        with trio.CancelScope(shield=True):
            await running.wait()


class Deployment:
    """A discovery and a server, each with an address of its own."""

    def __init__(self, folder: Path) -> None:
        self.key = SecretKey.generate()
        address = f"127.0.0.1:{free_port()}"
        discovery = f"127.0.0.1:{free_port()}"
        self.url = f"http://{discovery}"
        self.discovery_arguments = [
            "dmsg_trio.discovery", "--addr", discovery, "--test-mode",
            "--store", f"sqlite:{folder / 'entries.sqlite'}",
        ]  # fmt: skip
        config = {
            "public_key": str(self.key.pk),
            "secret_key": self.key.reveal().hex(),
            "discovery": self.url,
            "public_address": address,
            "local_address": address,
            "update_interval": 2_000_000_000,
        }
        path = folder / "server.json"
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        self.server_arguments = ["dmsg_trio.server", "start", str(path)]

    @asynccontextmanager
    async def discovery(self) -> AsyncIterator[trio.Process]:
        async with process(self.discovery_arguments) as running:
            yield running

    @asynccontextmanager
    async def server(self) -> AsyncIterator[trio.Process]:
        async with process(self.server_arguments) as running:
            yield running


async def kill(running: trio.Process) -> None:
    running.send_signal(signal.SIGKILL)
    await running.wait()


async def connected(a: Client, b: Client) -> None:
    """Wait until ``a`` reaches ``b``, and say something."""
    with trio.fail_after(PATIENCE):
        async with b.listen(80) as listener:
            near = await _dialed(a, b)
            far = await listener.accept()
            await near.send_all(b"hello")
            assert await far.receive_some() == b"hello"
            await near.aclose()
            await far.aclose()


async def _dialed(a: Client, b: Client) -> DmsgStream:
    while True:
        try:
            return await a.open_stream(b.pk, 80)
        except DmsgError:
            await trio.sleep(0.5)


@asynccontextmanager
async def two_clients(deployment: Deployment) -> AsyncIterator[tuple[Client, Client]]:
    async with (
        open_client(discovery=deployment.url) as a,
        open_client(discovery=deployment.url) as b,
    ):
        yield a, b


async def test_clients_come_back_to_a_server_that_was_killed(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    async with deployment.discovery(), deployment.server() as server:
        async with two_clients(deployment) as (a, b):
            await connected(a, b)
            near = await _open(a, b)
            await kill(server)
            with trio.fail_after(2), pytest.raises(trio.BrokenResourceError):
                await near.receive_some()
            async with deployment.server():
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


async def test_a_client_that_is_there_first_waits_for_the_rest(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    async with open_client(discovery=deployment.url, wait=False) as early:
        await trio.sleep(1)
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
            await near.send_all(bytes(200_000))
            await near.send_eof()
            await trio.sleep(2)
            server.send_signal(signal.SIGCONT)
            received = 0
            with trio.fail_after(PATIENCE):
                async for data in far:
                    received += len(data)
            assert received == 200_000
