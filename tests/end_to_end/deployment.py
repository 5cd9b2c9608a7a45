"""A discovery and servers as processes, on free ports of loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from dmsg_trio._keys import SecretKey
from tests.ports import free_port


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
    """A discovery and servers, each with an address of its own."""

    def __init__(self, folder: Path, *, servers: int = 1, behind_wires: bool = False) -> None:
        discovery = f"127.0.0.1:{free_port()}"
        self.url = f"http://{discovery}"
        self.discovery_arguments = [
            "dmsg_trio.discovery", "--addr", discovery, "--test-mode",
            "--store", f"sqlite:{folder / 'entries.sqlite'}",
        ]  # fmt: skip
        self.ports = [free_port() for _ in range(servers)]  # where the servers listen
        # Where they are found: a test carries what arrives there on.
        self.wires = [free_port() for _ in range(servers)] if behind_wires else self.ports
        self._configs = [self._write_config(folder, number) for number in range(servers)]

    def _write_config(self, folder: Path, number: int) -> Path:
        key = SecretKey.generate()
        config = {
            "public_key": str(key.pk),
            "secret_key": key.reveal().hex(),
            "discovery": self.url,
            "public_address": f"127.0.0.1:{self.wires[number]}",
            "local_address": f"127.0.0.1:{self.ports[number]}",
            "update_interval": 2_000_000_000,
        }
        path = folder / f"server-{number}.json"
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        return path

    @asynccontextmanager
    async def discovery(self) -> AsyncIterator[trio.Process]:
        async with process(self.discovery_arguments) as running:
            yield running

    @asynccontextmanager
    async def server(self, number: int = 0) -> AsyncIterator[trio.Process]:
        arguments = ["dmsg_trio.server", "start", str(self._configs[number])]
        async with process(arguments) as running:
            yield running
