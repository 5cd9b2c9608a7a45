"""The walk through the tree that a sender describes: which folder is open, and what lies where."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from dmsg_trio._wire.file_copy import Folder

from ._partial import stale_names
from ._policy import PERMISSIONS, Policy
from ._settling import LeftFolder
from ._target import Place, Target, enter, is_there


@dataclass(slots=True)
class _Inside:
    """A folder that things go into; without a number, it could not be entered."""

    item: int
    path: bytes
    number: int | None = None
    mode: int | None = None
    mtime: int | None = None
    stale: list[bytes] | None = None  # parts of files from earlier runs, once somebody asked


class Walk:
    """The folders from ``target`` to where a sender is; ``on_failure`` hears which are closed."""

    def __init__(
        self,
        target: Target,
        policy: Policy,
        umask: int,
        on_failure: Callable[[int, bytes, OSError], None],
    ) -> None:
        self._target = target
        self._policy = policy
        self._umask = umask
        self._on_failure = on_failure
        self._inside: list[_Inside] = []

    def enter_untrusted(self, item: int, folder: Folder) -> None:
        """Go into a folder, which is made if need be; nothing is written into one that is closed."""
        place = self.place_untrusted(folder.name)
        here = _Inside(item, b"" if place is None else place.path)
        self._inside.append(here)
        if place is None:
            return
        if not self._policy.recursive:
            raise ValueError(f"{folder.name!r} is a folder, which was not asked for")
        try:
            self._open(here, place, folder)
        except OSError as error:
            self._on_failure(item, place.path, error)

    def _open(self, here: _Inside, place: Place, folder: Folder) -> None:
        mode = folder.mode & PERMISSIONS
        is_new = bool(place.name) and not is_there(place)
        if place.name:
            here.number = enter(place.folder, place.name, mode | stat.S_IRWXU)
        else:
            here.number = os.dup(place.folder)
        others = os.fstat(here.number).st_mode & 0o7000  # of the folder here, not the sender's
        if self._policy.preserve:
            here.mode, here.mtime = others | mode, folder.mtime
        elif is_new and ~mode & stat.S_IRWXU:
            here.mode = others | mode & ~self._umask

    def leave(self) -> LeftFolder | None:
        """Go back up; the folder that was left is still to have its permissions and times."""
        here = self._inside.pop()
        if here.number is None:
            return None
        return LeftFolder(
            item=here.item, path=here.path, number=here.number, mode=here.mode, mtime=here.mtime
        )

    def place_untrusted(self, name: bytes) -> Place | None:
        """Say where a thing lies that the sender calls ``name``; None: in a folder that is closed."""
        target = self._target
        if not self._inside:
            path = target.path if target.name else os.path.join(target.path, name)
            wanted = target.must_be_folder and bool(target.name)
            return Place(target.number, target.admit_untrusted(name), path, must_be_folder=wanted)
        here = self._inside[-1]
        if here.number is None:
            return None
        return Place(here.number, name, os.path.join(here.path, name))

    def stale(self, folder: int) -> list[bytes]:
        """List what earlier runs left in the folder that is open, which takes a look at all in it."""
        if not self._inside:
            return stale_names(folder)
        here = self._inside[-1]
        if here.stale is None:
            here.stale = stale_names(folder)
        return here.stale

    def close(self) -> None:
        with ExitStack() as closing:
            closing.callback(self._target.close)
            for here in self._inside:
                if here.number is not None:
                    closing.callback(os.close, here.number)
