"""A command as its parent sees it: how it starts, its exit, its session, and the end of all that.

A child leads a session of its own, and stays unreaped until nothing of that session is left: as
long as it is a zombie at least, its number is no one else's, and signals to it hit no stranger.
A guardian, if there is one, knows of it before it runs, and ends it when this process cannot.
What has left the session (``setsid``: a daemon) is on its own. So is, unless this process is root,
what has become another user's; closing the terminal tells it to end all the same.
"""

from __future__ import annotations

import logging
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from ._command import Command, Exit
from ._guardian import GRACE, KILL_TIMEOUT, LONGEST_PAUSE, SHORTEST_PAUSE, signal_groups
from ._guarding import guarding
from ._starting import become, limit_of_starts, spawn_helper
from ._system import (
    exit_of,
    groups_of_session,
    is_somebody_left,
    wait_for_exit,
)

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_child(
    command: Command, files: tuple[int, int, int], *, terminal: bool
) -> AsyncIterator[Child]:
    """Start ``command`` on ``files``, its first three; its session ends with the block."""
    async with limit_of_starts():
        process, channel, plan = await spawn_helper(command, files, terminal=terminal)
        child = Child(process)
        try:
            async with channel:
                await become(channel, plan)
        except BaseException:
            await child.end(grace=0)
            raise
    try:
        yield child
    finally:
        await child.end()


class Child:
    """A started command, and the session that it leads."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._process = process
        self._exit: Exit | None = None
        self._is_reaped = False
        self._groups = {process.pid}  # that are known to be of the session
        self._guarded = guarding(process.pid)
        self._waiting = trio.Lock()
        self._ending = trio.Lock()

    # ---- the command ----

    async def wait(self) -> Exit:
        """Wait until the command has ended, and say how; others of its session may go on."""
        async with self._waiting:
            if self._exit is None:
                await wait_for_exit(self.pid)
                self._exit = Exit.of(exit_of(self._process))
            return self._exit

    def signal(self, number: int, *, group: int | None = None) -> None:
        """Signal a process group of the session, or else the command's own."""
        if not self._is_reaped:
            signal_groups((group or self.pid,), number)

    def add_group(self, group: int) -> None:
        """Know one more group of the session: elsewhere than on Linux nobody else tells."""
        self._groups.add(group)
        self._guarded.add_group(group)

    # ---- the session ----

    async def end(
        self, *, grace: float = GRACE, when_told: Callable[[], None] = lambda: None
    ) -> None:
        """Hang up on the session, kill what is left of it after the grace time, and reap.

        ``when_told`` is called between the signals and the wait.
        """
        with trio.CancelScope(shield=True):
            async with self._ending:
                if self._is_reaped:
                    return
                self._signal_all(signal.SIGHUP)
                self._signal_all(signal.SIGCONT)  # the stopped hear it now
                when_told()
                if not await self._is_gone_within(grace):
                    await self._kill()
                self._reap()

    async def _kill(self) -> None:
        with trio.move_on_after(KILL_TIMEOUT):
            while True:  # whoever is killed may have forked just before
                self._signal_all(signal.SIGKILL)
                if await self._is_gone_within(LONGEST_PAUSE):
                    return
        logger.warning("processes of session %d are still there when killed", self.pid)

    async def _is_gone_within(self, seconds: float) -> bool:
        with trio.move_on_after(seconds):
            await self.wait()
            pause = SHORTEST_PAUSE
            # The others are not our children: nobody tells when they have ended.
            while is_somebody_left(self.pid, self._groups):
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            return True
        return False

    def _signal_all(self, number: int) -> None:
        signal_groups(groups_of_session(self.pid, self._groups), number)

    def _reap(self) -> None:
        self._guarded.end()  # before anybody else can have its number
        if self._process.poll() is not None:
            self._is_reaped = True
