"""Waiting until a file may have changed, however it was changed.

The folder is watched and not the file, since whoever replaces a file makes a new one. Where the
system does not tell (no inotify, none left, a file of another machine) the wait ends by itself now
and then: so a wake-up is a reason to look, never a promise that there is something to see.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import trio

if sys.platform == "linux":
    from inotify_simple import INotify, flags

LOOK_INTERVAL: Final = 1.0  # seconds between two looks where nobody tells of changes
QUIET_INTERVAL: Final = 30.0  # and where somebody does: a file system may still keep silent

logger = logging.getLogger("dmsg_trio.access")


class Changes(Protocol):
    """Tells when it is time to look at a file again."""

    async def wait(self) -> None:
        """Wait until the file may have changed."""


async def call_at_changes(
    path: Path,
    look: Callable[[], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call ``look`` now, and whenever ``path`` may have changed, until cancelled."""
    with watching(path) as changes:
        look()
        task_status.started()
        while True:
            await changes.wait()
            look()


@contextmanager
def watching(path: Path) -> Iterator[Changes]:
    """Watch for changes of ``path`` during the block; none from then on is missed."""
    if sys.platform != "linux":
        yield Interval()
        return
    try:
        notify = INotify(nonblocking=True)
    except OSError as error:
        logger.warning("%s is looked at each second: no inotify: %s", path, error.strerror)
        yield Interval()
        return
    with notify:
        yield Notified(notify, path)


class Interval:
    """Looks from time to time."""

    async def wait(self) -> None:
        """Wait until the next look is due."""
        await trio.sleep(LOOK_INTERVAL)


if sys.platform == "linux":
    MASK: Final = (
        flags.CREATE
        | flags.CLOSE_WRITE
        | flags.MOVED_TO
        | flags.MOVED_FROM
        | flags.DELETE
        | flags.ATTRIB
        | flags.ONLYDIR
    )

    class Notified:
        """Is told by the kernel."""

        def __init__(self, notify: INotify, path: Path) -> None:
            self._notify = notify
            self._path = path
            self._fault = ""
            self._watch_folders()

        async def wait(self) -> None:
            """Wait until something happened next to the file."""
            interval = LOOK_INTERVAL if self._fault else QUIET_INTERVAL
            with trio.move_on_after(interval):
                await trio.lowlevel.wait_readable(self._notify.fileno())
                self._notify.read(timeout=0)
            # A link may lead elsewhere now, and a folder that was replaced is another one.
            self._watch_folders()

        def _watch_folders(self) -> None:
            fault = ""
            for folder in {self._path.parent, self._path.resolve().parent}:
                try:
                    self._notify.add_watch(folder, MASK)
                except OSError as error:
                    fault = f"{folder} is looked at each second: {error.strerror}"
            if fault and fault != self._fault:
                logger.warning("%s", fault)
            self._fault = fault
