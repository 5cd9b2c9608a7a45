"""A file whose content counts while a program runs: read anew whenever it has changed.

A look costs a `stat`, so whoever wants to know may look each time; `WatchedFile.watch` looks when
the file changes and nobody asks. One that is missing or wrong later on changes nothing.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

import trio

from dmsg_trio._errors import ConfigError
from dmsg_trio._files import opened_safely, read_settings

from ._changes import call_at_changes

T = TypeVar("T", bound=Sized)

SETTLED: Final = 2 * 10**9  # nanoseconds after which a change shows in the time of a file

logger = logging.getLogger("dmsg_trio.access")


@dataclass(frozen=True, slots=True)
class _Look:
    """What can be told of a file without reading it."""

    file: tuple[int, int]
    size: int
    times: tuple[int, int]

    @classmethod
    def at(cls, status: os.stat_result) -> _Look:
        times = status.st_mtime_ns, status.st_ctime_ns
        return cls((status.st_dev, status.st_ino), status.st_size, times)

    def is_settled(self, now: int) -> bool:
        """Tell whether a later change would show: clocks of file systems are coarse."""
        return max(self.times) + SETTLED < now


class WatchedFile(Generic[T]):
    """What a file says, as it was understood last.

    ``parse`` reads its content, and raises `ConfigError` if that is wrong; ``things`` are what the
    log counts. Raises `ConfigError` if the file is wrong now, or missing and not ``absent``.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], T],
        *,
        things: str,
        absent: T | None = None,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = path
        self.fault = ""  # of the file as it is now; the value is of the one before
        self._parse = parse
        self._things = things
        self._wall_clock = wall_clock
        self._look: _Look | None = None  # None: read the file, whatever it looks like
        self._digest = b""  # of what the value was read from; nothing: the file was never there
        try:
            self.value = self._read()
        except OSError as error:
            if absent is None or not isinstance(error, FileNotFoundError):
                raise ConfigError(f"cannot read {path}: {error.strerror}") from error
            self.value = absent

    def reload(self) -> None:
        """Read the file if it has changed; if it is missing or wrong, the log says so once."""
        try:
            if _Look.at(os.stat(self.path)) == self._look:
                return
            value = self._read()
        except OSError as error:
            self._look = None
            if self._digest:  # it was there
                self._complain(f"cannot read {self.path}: {error.strerror}")
            return
        except ConfigError as error:
            self._complain(str(error))
            return
        if self.fault:
            logger.info("%s is understood again: %d %s", self.path, len(value), self._things)
        self.fault, self.value = "", value

    def forget(self) -> None:
        """Read the file at the next look, whatever it looks like."""
        self._look = None

    async def watch(
        self,
        look: Callable[[], None] | None = None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Look when the file may have changed, until cancelled; ``look`` is to do more than that."""
        await call_at_changes(self.path, look or self.reload, task_status=task_status)

    def _complain(self, fault: str) -> None:
        if fault != self.fault:
            count = len(self.value)
            logger.error("%s; the %d %s read before still count", fault, count, self._things)
        self.fault = fault

    def _read(self) -> T:
        with opened_safely(self.path) as fd:
            status = os.fstat(fd)
            data = read_settings(fd, self.path)
        look = _Look.at(status)
        self._look = look if look.is_settled(self._wall_clock()) else None
        digest = hashlib.sha256(data).digest()
        if digest == self._digest and not self.fault:
            return self.value
        value = self._parse(data)
        self._digest = digest
        return value
