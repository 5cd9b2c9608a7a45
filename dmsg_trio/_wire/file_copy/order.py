"""In which order the two sides of files/1 may say what they say."""

from __future__ import annotations

from .frames import TYPES
from .words import (
    MAX_DEPTH,
    Abandoned,
    At,
    Complete,
    Data,
    Done,
    Event,
    File,
    Folder,
    Link,
    Unreadable,
    Up,
)


class Order:
    """What a sender may say next: folders end, content belongs to a file, and is as long as it.

    ``item`` is the number of the last item that began.
    """

    __slots__ = ("_asked", "_file_left", "_is_done", "depth", "item")

    def __init__(self) -> None:
        self.depth = 0
        self.item = -1
        self._file_left: int | None = None  # bytes of the file that has begun
        self._asked: int | None = None  # its size, until `At` says where it begins
        self._is_done = False

    def check(self, event: Event) -> None:
        """Take notice of what a sender says; raise `ValueError` if it cannot follow."""
        if self._is_done:
            raise self._unexpected(event)
        match event:
            case Folder(name) if self._file_left is None:
                if not name and self.depth:
                    raise ValueError("a folder without a name within a folder")
                if self.depth == MAX_DEPTH:
                    raise ValueError(f"more than {MAX_DEPTH} folders within each other")
                self.depth += 1
                self.item += 1
            case Up() if self._file_left is None and self.depth:
                self.depth -= 1
            case Link() if self._file_left is None:
                self.item += 1
            case File() if self._file_left is None:
                self.item += 1
                self._file_left = event.size
                self._asked = event.size if event.asks else None
            case At(offset) if self._asked is not None:
                if offset > self._asked:
                    raise ValueError(f"content at {offset} of {self._asked} bytes")
                self._file_left, self._asked = self._asked - offset, None
            case Data(data) if self._file_left is not None and self._asked is None:
                if len(data) > self._file_left:
                    raise ValueError(f"{len(data)} bytes of content, {self._file_left} are left")
                self._file_left -= len(data)
            case Complete() if self._file_left is not None and self._asked is None:
                if self._file_left:
                    raise ValueError(f"{self._file_left} bytes of content are missing")
                self._file_left = None
            case Abandoned() if self._file_left is not None:
                self._file_left = self._asked = None
            case Unreadable() if self._file_left is None:
                pass
            case Done() if self._file_left is None and not self.depth:
                self._is_done = True
            case _:
                raise self._unexpected(event)

    def _unexpected(self, event: Event) -> ValueError:
        within = "" if self._file_left is None else " within a file"
        return ValueError(f"{TYPES[type(event)].name}{within} at depth {self.depth}")
