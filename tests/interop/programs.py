"""The reference's programs: started on free ports of loopback, watched, and ended.

What a program prints is read as it comes, and is how one knows that it is ready.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import pytest
import trio

from dmsg_trio._keys import PublicKey, SecretKey
from tests.ports import free_port
from tests.waiting import PATIENCE, Log, answered

END_WITHIN: Final = 5  # seconds from SIGTERM to SIGKILL
OWN_RACE: Final = 8  # tries of a tool that loses some 1 % of its sessions by a race of its own


# ---- programs ----


class Program:
    """A running program, and what it says."""

    def __init__(self, process: trio.Process, name: str) -> None:
        assert process.stdout is not None
        self.process = process
        self.log = Log(name)
        self.listen = partial(self.log.read, process.stdout)

    async def aclose(self) -> None:
        """End the program, the hard way if it has to be."""
        self.process.terminate()
        with trio.move_on_after(END_WITHIN):
            await self.process.wait()
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of a program that runs to its end by itself."""

    log: str
    seconds: float


class Reference:
    """Starts the reference's programs, and ends them with the test."""

    def __init__(self, folder: Path, scratch: Path, nursery: trio.Nursery) -> None:
        self._folder = folder
        self._scratch = scratch
        self._nursery = nursery
        self._programs: list[Program] = []

    def path(self, name: str) -> Path:
        """Where a program is; without it the test is skipped."""
        path = self._folder / name
        if not os.access(path, os.X_OK):
            pytest.skip(f"the reference's programs lack {name}")
        return path

    async def start(self, path: Path, *arguments: str | Path) -> Program:
        """Start a program in a folder of its own."""
        folder = self._scratch / f"{path.name}-{len(self._programs)}"
        folder.mkdir()
        process = await trio.lowlevel.open_process(
            [path, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        program = Program(process, path.name)
        self._programs.append(program)
        self._nursery.start_soon(program.listen)
        return program

    async def run(self, name: str, *arguments: str | Path) -> Finished:
        """Run a tool to its end."""
        began = trio.current_time()
        finished = await trio.run_process(
            [self.path(name), *arguments],
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
        log = finished.stdout.decode(errors="replace")
        return Finished(log, trio.current_time() - began)

    async def aclose(self) -> None:
        """End all programs, the last one first."""
        for program in reversed(self._programs):
            await program.aclose()

    # ---- the programs that tests need ----

    async def start_discovery(self) -> tuple[str, Program]:
        """Start the reference's discovery with an empty store; give its URL."""
        redis = shutil.which("redis-server")
        if redis is None:
            pytest.skip("the reference's discovery needs a redis-server")
        store = f"127.0.0.1:{(port := free_port())}"
        settings = {"port": str(port), "bind": "127.0.0.1", "save": "", "appendonly": "no"}
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        redis_program = await self.start(Path(redis), *options)
        await redis_program.log.said("Ready to accept connections")
        address = f"127.0.0.1:{free_port()}"
        program = await self.start(
            self.path("dmsg-discovery"),
            *("--test-mode", "--addr", address, "--redis", f"redis://{store}"),
        )
        if not await answered(partial(_answers, f"http://{address}/health"), within=PATIENCE):
            pytest.fail(f"the discovery does not answer:\n{program.log.text}")
        return f"http://{address}", program

    async def start_server(self, discovery: str) -> tuple[PublicKey, Program]:
        """Start the reference's server; give its key once it takes sessions."""
        sk, address = SecretKey.generate(), f"127.0.0.1:{free_port()}"
        config = {
            "public_key": str(sk.pk),
            "secret_key": sk.reveal().hex(),
            "discovery": discovery,
            "public_address": address,
            "local_address": address,
            "health_endpoint_address": f"127.0.0.1:{free_port()}",
            "log_level": "debug",
            "update_interval": 0,
            "max_sessions": 2048,
        }
        path = self._scratch / f"{sk.pk}.json"
        path.write_text(json.dumps(config))
        program = await self.start(self.path("dmsg-server"), "start", path)
        await program.log.said("Accepting sessions")
        return sk.pk, program

    async def serve_files(self, discovery: str, folder: Path) -> PublicKey:
        """Start the reference's file server on port 80; give its key once it can be reached."""
        sk = SecretKey.generate()
        key = ("--sk", sk.reveal().hex())
        program = await self.start(
            self.path("dmsghttp"), "--dir", folder, "--dmsg-disc", discovery, *key
        )
        await program.log.said("Serving...")
        return sk.pk

    async def fetch(self, discovery: str, url: str, target: Path, *, tries: int = 1) -> None:
        """Fetch with the reference's dmsgcurl; a failure is one of the test."""
        finished = await self.curl(discovery, url, target)
        if "failed" not in finished.log:
            return
        if tries == 1:
            pytest.fail(f"dmsgcurl did not fetch {url}:\n{_without_progress(finished.log)}")
        await self.fetch(discovery, url, target, tries=tries - 1)

    async def curl(self, discovery: str, url: str, target: Path) -> Finished:
        """Run the reference's dmsgcurl."""
        options = ("--dmsg-disc", discovery, "--loglvl", "debug", "--replace", "--out", target)
        return await self.run("dmsgcurl", *options, url)


def _without_progress(log: str) -> str:
    return "\n".join(line for line in log.split("\n") if "\r" not in line)


async def _answers(url: str) -> bool:
    """Whether somebody answers at ``url``."""
    async with httpx.AsyncClient() as http:
        try:
            await http.get(url)
        except httpx.TransportError:
            return False
    return True
