"""Processes that are killed, stopped and started again, and always ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import trio

from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]
END_WITHIN: Final = 15  # seconds from SIGTERM to SIGKILL


def free_address() -> str:
    """An address of loopback that stays free until it is used."""
    return f"127.0.0.1:{free_port()}"


class Member:
    """A process of ours, by its module and arguments; what it logs goes to one file."""

    def __init__(self, name: str, arguments: list[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name.replace(' ', '-')}.log"
        self.starts = 0
        self.suffering = (
            trio.Lock()
        )  # held while a fault lasts; a restart may take longer than planned
        self._arguments = arguments
        self._process: trio.Process | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def process(self) -> trio.Process:
        """The process that was started last."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> trio.Process:
        """Start it, for the first time or again."""
        self.starts += 1
        own = {name: value for name, value in os.environ.items() if not name.startswith("DMSG_")}
        with self.log.open("ab") as log:
            self._process = await trio.lowlevel.open_process(
                [sys.executable, "-m", *self._arguments],
                cwd=ROOT,
                env=own,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the harness alone
            )
        return self._process

    def stop(self) -> None:
        """Let it do nothing any more, and be there."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End it as the machine would that fails."""
        self.process.kill()
        await self.process.wait()

    async def end(self) -> None:
        """End it as its owner would."""
        self.process.terminate()
        with trio.move_on_after(END_WITHIN):
            await self.process.wait()
            return
        await self.kill()

    async def aclose(self) -> None:
        """See to it that it is gone, in whatever state it is."""
        if self._process is not None:
            await self.kill()

    def resident_mib(self) -> float:
        """What it has in memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0
