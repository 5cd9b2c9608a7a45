"""A command on pipes: what it reads and writes is bytes, and its errors stay apart."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from enum import Enum
from typing import Final

import trio

from ._child import Child, open_child
from ._command import Command, starting_to
from ._files import CommandFile
from ._running import RunningCommand

LINGER: Final = 1  # seconds that output may follow the command's exit, if somebody else has it


class OutputKind(Enum):
    """Where a command wrote."""

    OUTPUT = "stdout"
    ERRORS = "stderr"


@asynccontextmanager
async def open_process_on_pipes(command: Command) -> AsyncIterator[PipedProcess]:
    """Start ``command`` on three pipes; leaving the block ends it, as on a terminal."""
    with ExitStack() as far_files, ExitStack() as near_files:
        far: list[int] = []
        near: list[CommandFile] = []
        for is_input in (True, False, False):
            with starting_to("open a pipe"):
                ends = os.pipe()
            far.append(ends[0] if is_input else ends[1])
            far_files.callback(os.close, far[-1])
            near.append(CommandFile(ends[1] if is_input else ends[0]))
            near_files.callback(near[-1].close)
        stdin, stdout, stderr = far
        async with open_child(command, (stdin, stdout, stderr), terminal=False) as child:
            far_files.close()
            async with PipedProcess(child, *near).with_files() as process:
                yield process


class PipedProcess(RunningCommand):
    """A command on pipes; one task reads, any number may write."""

    def __init__(
        self, child: Child, stdin: CommandFile, stdout: CommandFile, stderr: CommandFile
    ) -> None:
        super().__init__(child)
        self._input = stdin
        self._outputs = {OutputKind.OUTPUT: stdout, OutputKind.ERRORS: stderr}
        # Without a buffer: each of both has one piece in its hands, and they take turns.
        self._sink, self._pieces = trio.open_memory_channel[tuple[OutputKind, bytes]](0)

    async def read(self) -> tuple[OutputKind, bytes] | None:
        """Read a piece of output of either kind, up to 128 KiB; None when both have ended.

        They end with the command: what others write to them that it left behind is read for a
        second more, so that a forgotten daemon does not keep a caller waiting for ever.
        """
        try:
            return await self._pieces.receive()
        except trio.EndOfChannel:
            return None

    async def write(self, data: bytes) -> None:
        """Give all of ``data`` to the command; wait while it does not read.

        Raises `trio.BrokenResourceError` when nobody can read it any more.
        """
        await self._input.write(data)

    async def end_input(self) -> None:
        """Let the command read the end of its input, behind what is being written."""
        await self._input.close_behind_writes()

    def signal(self, number: int) -> None:
        """Signal the command's process group."""
        self._child.signal(number)

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            async with self._sink:
                for kind, file in self._outputs.items():
                    nursery.start_soon(self._carry, kind, file, self._sink.clone())
            await self._child.wait()
            self._input.finish()
            await trio.sleep(LINGER)
            for file in self._outputs.values():
                file.finish_with_what_is_there()

    async def _carry(
        self,
        kind: OutputKind,
        file: CommandFile,
        sink: trio.MemorySendChannel[tuple[OutputKind, bytes]],
    ) -> None:
        async with sink:
            while data := await file.read():
                await sink.send((kind, data))

    def _close(self) -> None:
        self._input.close()
        for file in self._outputs.values():
            file.close()
