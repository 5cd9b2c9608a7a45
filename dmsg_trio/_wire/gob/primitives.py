"""The atoms of gob: numbers of varying length, and bytes that say how many they are.

Everything else is put together from them. A `Cursor` is the only thing that touches a peer's
bytes, and it never goes beyond the end of the message.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from dmsg_trio._errors import RemoteProtocolError

MAX_MESSAGE: Final = 64 * 1024  # a signed object is smaller, and so is all that a terminal sends
MAX_ELEMENTS: Final = 4096  # of all lists in a message; 1900 keys already fill one
UINT_BITS: Final = 64

_FLOAT: Final = struct.Struct("<d")  # the bits of a float travel last byte first


class GobError(RemoteProtocolError):
    """The peer's gob breaks the rules; the message says where and how."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: tuple[str, ...] = ()

    def inside(self, name: str) -> None:
        """Note that the problem lies within what is called ``name``."""
        self.path = (name, *self.path)

    def __str__(self) -> str:
        return f"gob: {'.'.join(self.path)}{': ' if self.path else ''}{self.problem}"


@dataclass(frozen=True, slots=True)
class Misfit:
    """A field of a type that ours does not have."""

    struct: str  # as the peer calls it
    field: str
    ours: str  # the type that we have there


class GobMismatchError(GobError):
    """A sound value of another type than was asked for; the stream can go on after it."""

    misfit: Misfit | None = None  # the innermost field in which it is, if it is in one


class GobRangeError(GobMismatchError):
    """A number for which there is no room."""


class Cursor:
    """A place in a message that moves on with what is read."""

    __slots__ = ("_data", "_elements", "at")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._elements = 0
        self.at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self.at

    @property
    def has_uint(self) -> bool:
        """Tell whether the next number is there as a whole; one that is too long counts as such."""
        if not self.left:
            return False
        first = self._data[self.at]
        return first < 128 or self.left > min(256 - first, UINT_BITS // 8)

    def read_uint(self) -> int:
        start = self.at
        try:
            first = self._data[start]
        except IndexError:
            raise GobError(f"the message ends at byte {start}, before a number") from None
        if first < 128:
            self.at = start + 1
            return first
        size = 256 - first
        if size > UINT_BITS // 8:
            raise GobError(f"a number of {size} bytes at byte {start}")
        self.at = start + 1
        return int.from_bytes(self.take(size))

    def read_int(self) -> int:
        number = self.read_uint()
        return ~(number >> 1) if number & 1 else number >> 1

    def read_float(self) -> float:
        bits = self.read_uint().to_bytes(8)
        value: float = _FLOAT.unpack(bits)[0]
        return value

    def read_bytes(self) -> bytes:
        return self.take(self.read_uint())

    def take(self, size: int) -> bytes:
        start = self.at
        if size > len(self._data) - start:
            raise GobError(f"{size} bytes at byte {start} of a message of {len(self._data)}")
        self.at = start + size
        return self._data[start : start + size]

    def read_count(self) -> int:
        """Read how many elements follow; each takes a byte at least."""
        number = self.read_uint()
        if number > self.left:
            raise GobError(f"{number} elements in {self.left} bytes")
        self._elements += number
        if self._elements > MAX_ELEMENTS:
            raise GobError(f"{self._elements} elements in a message, over {MAX_ELEMENTS}")
        return number


def write_uint(out: bytearray, number: int) -> None:
    if number < 128:
        out.append(number)
    else:
        size = (number.bit_length() + 7) // 8
        out.append(256 - size)
        out += number.to_bytes(size)


def write_int(out: bytearray, number: int) -> None:
    write_uint(out, (~number << 1 | 1) if number < 0 else number << 1)


def write_float(out: bytearray, number: float) -> None:
    write_uint(out, int.from_bytes(_FLOAT.pack(number)))


def write_bytes(out: bytearray, data: bytes | bytearray) -> None:
    write_uint(out, len(data))
    out += data
