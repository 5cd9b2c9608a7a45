"""Where things go: an open folder, and what they are called there.

All that is written is named relative to an open folder, without following links, so nobody who
moves folders or makes links meanwhile can lead it elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_asking_for_umask: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class Place:
    """Where one thing goes: a name in an open folder, and its path for people."""

    folder: int
    name: bytes
    path: bytes
    must_be_folder: bool = False  # as its path was written: no file


class Target:
    """A folder that is there, or a name in one.

    ``expected`` are the names that things may have, in their order; None lets the sender name them.
    """

    def __init__(
        self, path: bytes, *, several: bool = False, expected: Sequence[bytes] | None = None
    ) -> None:
        self.path = path
        self.name: bytes | None = None  # what the only thing is called
        self.must_be_folder = path.endswith(b"/")
        self._expected = None if expected is None else iter(expected)
        self._is_taken = False
        try:
            self.number = os.open(path, OPEN_FOLDER)
        except (FileNotFoundError, NotADirectoryError) as error:
            parent, self.name = os.path.split(path.rstrip(b"/"))
            if several or self.name in (b"", b".", b".."):
                raise _no_folder(path, error) from error
            self.number = os.open(parent or b".", OPEN_FOLDER)

    def admit_untrusted(self, name: bytes) -> bytes:
        """Say what a thing that the sender calls ``name`` is called here: "" is the target itself.

        `ValueError` if it was not asked for, or is one too many.
        """
        if self._expected is not None and name not in self._expected:
            raise ValueError(f"{name!r}, which was not asked for")
        if self.name is None:
            return name
        if self._is_taken:
            raise ValueError(f"{name!r}, another thing for the name {self.name!r}")
        self._is_taken = True
        return self.name

    def close(self) -> None:
        os.close(self.number)


def enter(folder: int, name: bytes, mode: int) -> int:
    """Open a folder within a folder, which is made if it is not there; a link is not followed."""
    with suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=folder)
    return os.open(name, OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=folder)


def look_at(place: Place, *, overwrite: bool) -> os.stat_result | None:
    """Look at what is there already; `OSError` if it is nothing to be replaced."""
    try:
        found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder has this name")
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
        raise OSError(errno.EEXIST, "what has this name is no regular file")
    if not overwrite:
        raise FileExistsError(errno.EEXIST, "it is there already")
    return found


def is_there(place: Place) -> bool:
    """Tell whether something has this name, whatever it is."""
    try:
        os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def umask() -> int:
    """Ask for what new files do not allow; there is no way but to set it."""
    with _asking_for_umask:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


def _no_folder(path: bytes, error: OSError) -> OSError:
    return NotADirectoryError(error.errno or errno.ENOTDIR, "no such folder", path)
