"""Forms with files in them, as browsers and curl send them (RFC 7578): bytes in, events out.

A form is parts between lines with a boundary. All that is kept of it is what might still become such a
line, and the head of a part, so a form may be as long as it likes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

MAX_HEAD: Final = 8 * 1024  # bytes in front of a part's content
MAX_PARTS: Final = 1000

_BOUNDARY: Final = re.compile(
    r'multipart/form-data\b.*;\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE
)
_DISPOSITION: Final = re.compile(
    rb"^content-disposition:\s*form-data\b(.*)$", re.IGNORECASE | re.MULTILINE
)
_FILENAME: Final = re.compile(rb';\s*filename="((?:[^"\\]|\\.)*)"', re.IGNORECASE)


class FormError(ValueError):
    """What came is no form."""


@dataclass(frozen=True, slots=True)
class PartBegun:
    """A part begins; a file has a name, which its sender chose."""

    filename: bytes | None


@dataclass(frozen=True, slots=True)
class PartData:
    """Bytes of the part that began last."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnded:
    """The part is whole."""


Event: TypeAlias = PartBegun | PartData | PartEnded


class _State(Enum):
    BEFORE = auto()  # the first boundary
    BOUNDARY = auto()  # behind one
    HEAD = auto()
    CONTENT = auto()
    AFTER = auto()  # the last boundary


def boundary_untrusted(content_type: str) -> bytes | None:
    """Find the boundary of a form; None if it is another kind of content."""
    found = _BOUNDARY.match(content_type)
    return (found[1] or found[2]).encode("latin-1") if found else None


class Form:
    """Reads a form as it comes."""

    def __init__(self, boundary: bytes) -> None:
        self._line = b"\r\n--" + boundary
        self._incoming = bytearray(b"\r\n")  # so that the first line is like the others
        self._state = _State.BEFORE
        self._parts = 0

    @property
    def is_whole(self) -> bool:
        """Whether its last line has come."""
        return self._state is _State.AFTER

    def receive_data_untrusted(self, data: bytes) -> list[Event]:
        """Take in what came; say what it means. `FormError` if that is nothing."""
        self._incoming += data
        return list(self._events())

    def _events(self) -> Iterator[Event]:
        while True:
            match self._state:
                case _State.BEFORE | _State.CONTENT:
                    found = self._incoming.find(self._line)
                    # Of what is no line, the end may be the beginning of one.
                    stop = (
                        found if found >= 0 else max(0, len(self._incoming) - len(self._line) + 1)
                    )
                    if stop and self._state is _State.CONTENT:
                        yield PartData(bytes(self._incoming[:stop]))
                    del self._incoming[:stop]
                    if found < 0:
                        return
                    del self._incoming[: len(self._line)]
                    if self._state is _State.CONTENT:
                        yield PartEnded()
                    self._state = _State.BOUNDARY
                case _State.BOUNDARY:
                    if len(self._incoming) < 2:
                        return
                    self._state = self._behind_boundary()
                case _State.HEAD:
                    stop = self._incoming.find(b"\r\n\r\n")
                    if max(stop, len(self._incoming) if stop < 0 else 0) > MAX_HEAD:
                        raise FormError(f"the head of a part has more than {MAX_HEAD} bytes")
                    if stop < 0:
                        return
                    yield PartBegun(_filename_in(bytes(self._incoming[:stop])))
                    del self._incoming[: stop + 4]
                    self._state = _State.CONTENT
                case _State.AFTER:
                    self._incoming.clear()
                    return

    def _behind_boundary(self) -> _State:
        if self._incoming.startswith(b"--"):
            return _State.AFTER
        if not self._incoming.startswith(b"\r\n"):
            raise FormError("a boundary does not end its line")
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise FormError(f"more than {MAX_PARTS} parts")
        return _State.HEAD


def _filename_in(head: bytes) -> bytes | None:
    disposition = _DISPOSITION.search(head)
    if disposition is None:
        raise FormError("a part without Content-Disposition")
    found = _FILENAME.search(disposition[1])
    return re.sub(rb'\\(["\\])', rb"\1", found[1]).replace(b"%22", b'"') if found else None
