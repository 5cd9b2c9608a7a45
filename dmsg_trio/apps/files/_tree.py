"""The folder that is served: what is in it is opened, and nothing else.

A way down is walked name by name, each opened relative to the folder before it, and the system is
told to follow no link. Where there is one, its text is read here, and the walk begins anew at the
root. So whoever moves things meanwhile can lead nobody out of the root.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ._target import MAX_DEPTH

MAX_LINKS: Final = 40  # on one way, as the system has it
UPLOAD_PREFIX: Final = b".dmsghttp-upload-"  # of files that are not whole yet, which nobody gets

_FOLDER: Final = (
    # Folders that one may enter and not list are opened, where the system can do that.
    getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
)
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(slots=True)
class Opened:
    """A file that can be read, or a folder that can be entered."""

    number: int  # of the descriptor
    status: os.stat_result

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    def close(self) -> None:
        os.close(self.number)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a folder has."""

    name: bytes
    is_folder: bool
    size: int
    modified: float  # seconds since 1970


class Tree:
    """A folder, found by its path each time: one that was replaced is the one that counts."""

    def __init__(self, root: str, *, show_hidden: bool = False) -> None:
        self._root = os.fsencode(root)
        self._show_hidden = show_hidden

    # ---- ways down ----

    def open_untrusted(self, names: Sequence[bytes]) -> Opened:
        """Open what the names lead to; `OSError` if there is nothing that may be had."""
        way: Sequence[bytes] = names
        for _ in range(MAX_LINKS):
            found = self._walk(way)
            if isinstance(found, Opened):
                return found
            way = found
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _walk(self, names: Sequence[bytes]) -> Opened | list[bytes]:
        """Open what the names lead to; if there is a link on the way, say where that leads instead."""
        folder = os.open(self._root, _FOLDER)
        try:
            for count, name in enumerate(names, start=1):
                self.check_name(name)
                mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
                if stat.S_ISLNK(mode):
                    aim = os.readlink(name, dir_fd=folder)
                    return [*self._way_of_link(names[: count - 1], aim), *names[count:]]
                if stat.S_ISDIR(mode):
                    deeper = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                    os.close(folder)
                    folder = deeper
                elif stat.S_ISREG(mode) and count == len(names):
                    return _opened_file(os.open(name, _FILE, dir_fd=folder))
                else:  # nobody knows what a device does when it is opened
                    raise _missing()
            return Opened(os.dup(folder), os.fstat(folder))
        finally:
            os.close(folder)

    def _way_of_link(self, folder: Sequence[bytes], aim: bytes) -> list[bytes]:
        """Say where a link in ``folder``, itself free of links, leads."""
        way = list(folder)
        if aim.startswith(b"/"):
            root = os.path.realpath(self._root)
            if os.path.commonpath([root, os.path.normpath(aim)]) != root:
                raise _missing()
            way, aim = [], os.path.relpath(aim, root)
        for name in aim.split(b"/"):
            if name == b"..":
                if not way:
                    raise _missing()
                way.pop()
            elif name not in (b"", b"."):
                way.append(name)
        if len(way) > MAX_DEPTH:
            raise _missing()
        return way

    def check_name(self, name: bytes) -> None:
        """Raise `FileNotFoundError` for a name that is not for others."""
        if name.startswith(UPLOAD_PREFIX) or (name.startswith(b".") and not self._show_hidden):
            raise _missing()

    # ---- folders ----

    def list(self, folder: Opened, names: Sequence[bytes], limit: int) -> list[Entry]:
        """Tell what a folder has, in no order; not more than ``limit`` of it."""
        entries: list[Entry] = []
        with _readable(folder) as number, os.scandir(number) as found:
            for each in found:
                entry = self._entry(number, names, os.fsencode(each.name))
                if entry is not None:
                    entries.append(entry)
                    if len(entries) == limit:
                        break
        return entries

    def _entry(self, folder: int, names: Sequence[bytes], name: bytes) -> Entry | None:
        try:
            self.check_name(name)
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                with _closing(self.open_untrusted([*names, name])) as aim:
                    status = aim.status
        except OSError:  # gone again, or leads to where nobody gets
            return None
        if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
            return None
        return Entry(name, stat.S_ISDIR(status.st_mode), status.st_size, status.st_mtime)


def _opened_file(number: int) -> Opened:
    status = os.fstat(number)
    if not stat.S_ISREG(status.st_mode):  # it was one a moment ago
        os.close(number)
        raise _missing()
    return Opened(number, status)


@contextmanager
def _readable(folder: Opened) -> Iterator[int]:
    """Open a folder for reading; `PermissionError` if it can be entered only."""
    number = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder.number)
    try:
        yield number
    finally:
        os.close(number)


@contextmanager
def _closing(opened: Opened) -> Iterator[Opened]:
    try:
        yield opened
    finally:
        opened.close()


def _missing() -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
