"""The guardian of a host's sessions as the host sees it: told of all, and replaced when it dies.

Nothing waits for it: what it is told lies in its channel, which outlives this process as well.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from dmsg_trio._net.backoff import Backoff
from dmsg_trio._net.nurseries import open_service_nursery

from . import _guardian
from ._system import wait_for_exit

LEAVE_WITHIN: Final = 2  # seconds for a guardian that has nobody left to guard
LASTED: Final = 1  # seconds after which the death of one is no reason to wait with the next
CHANNEL_SIZE: Final = 256 * 1024  # bytes asked of the system; a session takes some 20

_SCRIPT: Final = Path(_guardian.__file__)
_current: Final = trio.lowlevel.RunVar["Guardian | None"]("dmsg_trio guardian", None)

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_guardian() -> AsyncIterator[None]:
    """Guard all commands that are started within the block, however this process ends."""
    guardian = Guardian()
    guardian.start()
    try:
        async with open_service_nursery() as nursery:
            nursery.start_soon(guardian.keep)
            token = _current.set(guardian)
            try:
                yield
            finally:
                _current.reset(token)
    finally:
        await guardian.leave()


def guarding(leader: int) -> Guarded:
    """Have the session of ``leader`` ended with this process, if there is a guardian."""
    return Guarded(_current.get(), leader)


class Guarded:
    """A session that the guardian, if there is one, knows of until it has ended."""

    def __init__(self, guardian: Guardian | None, leader: int) -> None:
        self._guardian = guardian
        self._leader, self._started = leader, _guardian.start_of(leader)
        self.add_group(leader)

    def add_group(self, group: int) -> None:
        """Let one more group be ended with it: elsewhere than on Linux nobody else tells."""
        if self._guardian is not None:
            self._guardian.note(self._leader, self._started, group)

    def end(self) -> None:
        """Let nothing be ended: nothing is left."""
        if self._guardian is not None:
            self._guardian.forget(self._leader, self._started)


class Guardian:
    """A process that knows all sessions of this one, or is about to."""

    def __init__(self) -> None:
        self._sessions: _guardian.Sessions = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    # ---- what it knows ----

    def note(self, leader: int, started: int, group: int) -> None:
        """Have it know a group of a session."""
        self._sessions.setdefault((leader, started), set()).add(group)
        self._say(_guardian.begun(leader, started, group))

    def forget(self, leader: int, started: int) -> None:
        """Have it know that nothing is left of a session."""
        if self._sessions.pop((leader, started), None):
            self._say(_guardian.ended(leader, started))

    def _say(self, line: bytes) -> None:
        if self._channel is None or self._process is None:
            return  # the next one is told of all
        try:
            if self._channel.send(line) == len(line):
                return
        except BlockingIOError:
            logger.warning("the guardian of the shells does not listen")
        except OSError:
            return  # it has just died: see `keep`
        self._process.kill()

    # ---- its life ----

    def start(self) -> None:
        """Start one, which takes a few milliseconds, and tell it of all sessions."""
        try:
            self._channel, far = socket.socketpair()
            with far:
                self._channel.settimeout(0)
                self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHANNEL_SIZE)
                self._process = subprocess.Popen(  # noqa: S603  of this package
                    (sys.executable, "-I", "-S", "-X", "utf8", str(_SCRIPT), str(far.fileno())),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(far.fileno(),),
                    start_new_session=True,
                    cwd="/",
                    env={},
                )
        except OSError as error:
            logger.warning("the shells have no guardian, should this process be killed: %s", error)
            self._close()
            return
        for (leader, started), groups in self._sessions.items():
            for group in groups:
                self._say(_guardian.begun(leader, started, group))

    async def keep(self) -> None:
        """Start another one whenever there is none."""
        backoff = Backoff()
        while True:
            began = trio.current_time()
            if self._process is not None:
                await wait_for_exit(self._process.pid)
                status = self._process.wait()
                logger.warning("the guardian of the shells ended (%d), starting another", status)
                self._close()
            if trio.current_time() - began > LASTED:
                backoff.reset()
            else:
                await trio.sleep(backoff.next_delay())
            self.start()

    async def leave(self) -> None:
        """Let it go, now that this process ends in good order."""
        process = self._process
        self._close()
        if process is None:
            return
        with trio.move_on_after(LEAVE_WITHIN, shield=True):
            await wait_for_exit(process.pid)
        if process.poll() is None and not self._sessions:
            process.kill()
            process.wait()

    def _close(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel = self._process = None
