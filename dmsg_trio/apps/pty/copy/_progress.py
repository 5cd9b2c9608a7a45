"""What a copy tells about itself while it goes on, for whoever draws bars or counts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from dmsg_trio._wire.file_copy import (
    Abandoned,
    At,
    Complete,
    Data,
    Event,
    File,
    Folder,
    Unreadable,
    Up,
)


class Progress:
    """Hears what happens; a base with methods that do nothing."""

    def file_begins(self, path: str, size: int) -> None:
        """A file of ``size`` bytes comes next."""

    def file_goes_on(self, offset: int) -> None:
        """So many of its bytes were there already."""

    def bytes_moved(self, count: int) -> None:
        """More of its content has gone over."""

    def file_ends(self) -> None:
        """Nothing of it follows; whether it came to something, only `problem` tells."""

    def problem(self, path: str, reason: str) -> None:
        """Something could not be copied; the rest goes on. Both texts may be a stranger's."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a copy ended: whole files, bytes that went over, and what did not work."""

    files: int
    bytes: int
    problems: int

    @property
    def is_complete(self) -> bool:
        return not self.problems


class Watch:
    """Translates what a sender says into what people want to know."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._folders: list[bytes] = []
        self._path = ""
        self._files = self._bytes = self._problems = 0

    def see(self, events: Iterable[Event]) -> None:
        """Take notice of what was said."""
        for event in events:
            match event:
                case Data(data):
                    self.moved(len(data))
                case Folder(name):
                    self._folders.append(name)
                case Up():
                    self._folders.pop()
                case File():
                    self._path = shown(os.path.join(b"", *self._folders, event.name))
                    self._progress.file_begins(self._path, event.size)
                case At(offset):
                    self._progress.file_goes_on(offset)
                case Complete():
                    self._files += 1
                    self._progress.file_ends()
                case Abandoned(reason):
                    self._progress.file_ends()
                    if reason:
                        self._problem(self._path, reason)
                case Unreadable(path, reason):
                    self._problem(shown(path), reason)
                case _:
                    pass

    def moved(self, count: int) -> None:
        """Take notice of content that nobody looked at."""
        self._bytes += count
        self._progress.bytes_moved(count)

    def failed(self, path: bytes, reason: str) -> None:
        """Take notice of what could not be written."""
        self._problem(shown(path), reason)

    def _problem(self, path: str, reason: str) -> None:
        self._problems += 1
        self._progress.problem(path, reason)

    def outcome(self) -> Outcome:
        return Outcome(self._files, self._bytes, self._problems)


def shown(path: bytes) -> str:
    """Say a path in text, whatever its bytes."""
    return path.decode("utf-8", "backslashreplace")
