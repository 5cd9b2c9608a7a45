"""A dmsghttp as a program of its own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from dmsg_trio._net.nurseries import open_service_nursery
from tests.cli.running import DMSG, environment
from tests.waiting import PATIENCE, Log


class Program:
    """A dmsghttp that runs, and what it says on its two outputs."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.out = Log("dmsghttp's output")
        self.err = Log("dmsghttp's log")

    async def url(self) -> str:
        return await self.out.said(r"at +(dmsg://\S+)\n")

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def dmsghttp(
    *arguments: str | Path, discovery: str, env: dict[str, str] | None = None
) -> AsyncIterator[Program]:
    """Serve for the block."""
    process = await trio.lowlevel.open_process(
        [DMSG, "http", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment(discovery), **(env or {})},
    )
    program = Program(process)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with open_service_nursery() as nursery:
            nursery.start_soon(program.out.read, process.stdout)
            nursery.start_soon(program.err.read, process.stderr)
            yield program
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()
            await process.stderr.aclose()
