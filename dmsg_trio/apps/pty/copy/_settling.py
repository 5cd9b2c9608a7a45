"""How what arrived gets its name: many at a time, each on the disk before.

To wait for the disk takes milliseconds, for one file as for many at once. So whole files wait here
until some have come together, and folders until what was in them has its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ._partial import PartialFile

MAX_WAITING: Final = 64  # files and folders, each of which has a descriptor
MAX_WAITING_BYTES: Final = 16 * 1024 * 1024
AT_ONCE: Final = 8  # threads that wait for the disk


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeFile:
    """A file that is complete, with what it shall be."""

    item: int
    path: bytes
    partial: PartialFile
    name: bytes
    mode: int
    mtime: int | None  # nanoseconds since 1970; None: now
    overwrite: bool
    keep: bool  # as a part, if it is dropped

    def reach_disk(self) -> None:
        os.fchmod(self.partial.number, self.mode)
        if self.mtime is not None:
            os.utime(self.partial.number, ns=(self.mtime, self.mtime))
        os.fsync(self.partial.number)

    def conclude(self) -> None:
        self.partial.give_name(self.name, overwrite=self.overwrite)

    def close(self) -> None:
        self.partial.close(keep=False)

    def drop(self) -> None:
        self.partial.close(keep=self.keep)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftFolder:
    """A folder in which nothing more happens."""

    item: int
    path: bytes
    number: int
    mode: int | None  # None: as it is
    mtime: int | None

    def reach_disk(self) -> None:
        pass

    def conclude(self) -> None:
        if self.mode is not None:
            os.fchmod(self.number, self.mode)
        if self.mtime is not None:
            os.utime(self.number, ns=(self.mtime, self.mtime))
        os.fsync(self.number)

    def close(self) -> None:
        os.close(self.number)

    def drop(self) -> None:
        self.close()


class Settling:
    """Files and folders that wait together; ``on_failure`` hears of each that came to nothing."""

    def __init__(self, on_failure: Callable[[int, bytes, OSError], None]) -> None:
        self._on_failure = on_failure
        self._files: list[WholeFile] = []
        self._folders: list[LeftFolder] = []
        self._bytes = 0
        self._threads = ThreadPoolExecutor(AT_ONCE, "copy-settling")

    def add(self, thing: WholeFile | LeftFolder) -> None:
        """Let it wait, or settle all if that are enough."""
        if isinstance(thing, WholeFile):
            self._files.append(thing)
            self._bytes += thing.partial.size
        else:
            self._folders.append(thing)
        waiting = len(self._files) + len(self._folders)
        if waiting >= MAX_WAITING or self._bytes >= MAX_WAITING_BYTES:
            self.settle()

    def settle(self) -> None:
        """Give everything its name and wait for the disk."""
        files, self._files, self._bytes = self._files, [], 0
        on_disk = list(self._threads.map(lambda each: self._try(each, each.reach_disk), files))
        for each, is_on_disk in zip(files, on_disk, strict=True):
            if is_on_disk:
                self._try(each, each.conclude)
            self._close(each)
        folders, self._folders = self._folders, []
        # One after the other what is told, but at once what waits: the inner ones come first.
        for _ in self._threads.map(lambda each: self._try(each, each.conclude), folders):
            pass
        for folder in folders:
            self._close(folder)

    def close(self) -> None:
        """Drop what still waits."""
        waiting: list[WholeFile | LeftFolder] = [*self._files, *self._folders]
        for each in waiting:
            with suppress(OSError):
                each.drop()
        self._files, self._folders = [], []
        self._threads.shutdown()

    def _try(self, thing: WholeFile | LeftFolder, step: Callable[[], None]) -> bool:
        try:
            step()
        except OSError as error:
            self._on_failure(thing.item, thing.path, error)
            return False
        return True

    def _close(self, thing: WholeFile | LeftFolder) -> None:
        with suppress(OSError):  # of removing: the failure itself was told
            thing.close()
