"""A running command with its files: how it ends is the same on a terminal and on pipes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from dmsg_trio._net.nurseries import open_service_nursery

from ._child import Child
from ._command import Exit


class RunningCommand(ABC):
    """A command and what it reads and writes, which are closed before its session ends."""

    def __init__(self, child: Child) -> None:
        self._child = child

    @property
    def pid(self) -> int:
        """The number of the process, which leads its session and its group."""
        return self._child.pid

    async def hang_up(self) -> Exit:
        """End all of the session, and close its files; it takes the grace time at most."""
        # Who is told before the files are gone knows what it is: no write fails before.
        await self._child.end(when_told=self._close)
        self._close()
        return await self._child.wait()

    async def wait(self) -> Exit:
        """Wait until the command has ended, and say how; output may be there still."""
        return await self._child.wait()

    @asynccontextmanager
    async def with_files(self) -> AsyncIterator[Self]:
        """See to the command's files during the block, and close them."""
        try:
            async with open_service_nursery() as nursery:
                nursery.start_soon(self._run)
                yield self
        finally:
            self._close()

    @abstractmethod
    async def _run(self) -> None:
        """Do what is to be done beside whoever reads and writes."""

    @abstractmethod
    def _close(self) -> None:
        """Close what the command reads and writes; twice is as once."""
