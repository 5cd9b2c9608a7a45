"""A terminal of the reference's service as the host sees it: counted, written down, ended when idle."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio.apps.pty.process import Command, TerminalProcess, open_process_on_terminal

from ._audit import AuditedSession


@asynccontextmanager
async def open_watched_terminal(
    command: Command, size: WindowSize, audited: AuditedSession, *, idle: float = math.inf
) -> AsyncIterator[WatchedTerminal]:
    """Run ``command`` for the block; without a byte for ``idle`` seconds it is hung up on."""
    process: TerminalProcess | None = None
    try:
        async with (
            open_process_on_terminal(command, size) as process,
            open_service_nursery() as nursery,
        ):
            terminal = WatchedTerminal(process, audited, idle)
            nursery.start_soon(terminal.end_when_idle)
            yield terminal
    finally:
        if process is not None:
            with trio.CancelScope(shield=True):  # it has ended, and is not waited for
                how = await process.wait()
            audited.exit_code, audited.signal = how.code, how.signal


class WatchedTerminal:
    """Passes everything on, and knows how much and when."""

    def __init__(self, process: TerminalProcess, audited: AuditedSession, idle: float) -> None:
        self._process = process
        self._audited = audited
        self._idle_time = idle
        self._idle = trio.CancelScope()  # that ends when nothing has happened for so long
        self._touch()

    async def read(self) -> bytes:
        """Do as the terminal does."""
        data = await self._process.read()
        self._touch()
        self._audited.bytes_out += len(data)
        return data

    async def write(self, data: bytes) -> None:
        """Do as the terminal does."""
        await self._process.write(data)
        self._touch()
        self._audited.bytes_in += len(data)

    def resize(self, size: WindowSize) -> None:
        """Do as the terminal does."""
        self._process.resize(size)

    def _touch(self) -> None:
        self._idle.deadline = trio.current_time() + self._idle_time

    async def end_when_idle(self) -> None:
        """Wait until nothing happens for too long, and hang up."""
        with self._idle:
            await trio.sleep_forever()
        self._audited.reason = f"idle for {self._idle_time:g} s"
        await self._process.hang_up()
