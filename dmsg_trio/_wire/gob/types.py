"""How a type is declared, and how its values are written.

Declarations are constants that are compared by identity, as Go's types are. Values are plain
Python: a struct is a mapping by the names of its fields, a slice a list, the rest what one expects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias

from dmsg_trio._errors import LocalProtocolError

from .primitives import Cursor, GobRangeError, write_bytes, write_float, write_int, write_uint

Value: TypeAlias = "bool | int | float | str | bytes | Sequence[Value] | Mapping[str, Value] | None"

# Text that is no UTF-8 is legal in Go; it is carried as Python carries it in the names of files.
TEXT_ERRORS: Final = "surrogateescape"


def refuse(value: Value, shown: str) -> NoReturn:
    raise LocalProtocolError(f"gob: {value!r:.80} is no {shown}")


# ---- what every stream knows without a description ----


@dataclass(frozen=True, slots=True, eq=False)
class Basic:
    """A type that gob has built in, under a number of its own."""

    shown: str
    wire_id: int
    nothing: Value
    read: Callable[[Cursor], Value]
    write: Callable[[bytearray, Value], None]

    def zero(self) -> Value:
        return self.nothing

    def is_left_out(self, value: Value) -> bool:
        return not value


def _read_bool(cursor: Cursor) -> Value:
    return cursor.read_uint() != 0


def _write_bool(out: bytearray, value: Value) -> None:
    if not isinstance(value, bool):
        refuse(value, "bool")
    out.append(value)


def _write_int(out: bytearray, value: Value) -> None:
    if not isinstance(value, int) or not -(1 << 63) <= value < 1 << 63:
        refuse(value, "int")
    write_int(out, value)


def _unsigned(shown: str, bits: int) -> Basic:
    def read(cursor: Cursor) -> Value:
        value = cursor.read_uint()
        if value >> bits:
            raise GobRangeError(f"{value} is out of range for {shown}")
        return value

    def write(out: bytearray, value: Value) -> None:
        if not isinstance(value, int) or value >> bits:  # negative ones stay negative
            refuse(value, shown)
        write_uint(out, value)

    return Basic(shown, 3, 0, read, write)


def _write_float(out: bytearray, value: Value) -> None:
    if not isinstance(value, float):
        refuse(value, "float")
    write_float(out, value)


def _write_bytes(out: bytearray, value: Value) -> None:
    if not isinstance(value, bytes):
        refuse(value, "[]byte")
    write_bytes(out, value)


def _read_string(cursor: Cursor) -> Value:
    return cursor.read_bytes().decode(errors=TEXT_ERRORS)


def _write_string(out: bytearray, value: Value) -> None:
    if not isinstance(value, str):
        refuse(value, "string")
    try:
        write_bytes(out, value.encode(errors=TEXT_ERRORS))
    except UnicodeEncodeError:
        refuse(value, "string")


BOOL: Final = Basic("bool", 1, nothing=False, read=_read_bool, write=_write_bool)
INT: Final = Basic("int", 2, 0, Cursor.read_int, _write_int)
UINT: Final = _unsigned("uint", 64)
UINT16: Final = _unsigned("uint16", 16)
FLOAT: Final = Basic("float", 4, 0.0, Cursor.read_float, _write_float)
BYTES: Final = Basic("[]byte", 5, b"", Cursor.read_bytes, _write_bytes)
STRING: Final = Basic("string", 6, "", _read_string, _write_string)


# ---- what a stream describes before it sends it ----


@dataclass(frozen=True, slots=True, eq=False)
class Marshaled:
    """A type that encodes itself (Go's BinaryMarshaler); to gob its values are opaque bytes."""

    name: str
    nothing: bytes = b""

    @property
    def shown(self) -> str:
        return self.name

    def zero(self) -> Value:
        return self.nothing

    def is_left_out(self, value: Value) -> bool:
        return value == self.nothing

    def write(self, out: bytearray, value: Value) -> None:
        if not isinstance(value, bytes):
            refuse(value, self.shown)
        write_bytes(out, value)


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A list; as the type of a field Go gives it a ``name``, and elsewhere none."""

    element: Type
    name: str = ""

    @property
    def shown(self) -> str:
        return f"[]{self.element.shown}"

    def zero(self) -> Value:
        return []

    def is_left_out(self, value: Value) -> bool:
        return not value

    def write(self, out: bytearray, value: Value) -> None:
        if not isinstance(value, list | tuple):
            refuse(value, self.shown)
        write_uint(out, len(value))
        for element in value:
            self.element.write(out, element)


@dataclass(frozen=True, slots=True, eq=False)
class ByteArray:
    """``[length]uint8`` with a name, such as a hash: bytes here, numbers one by one on the wire."""

    name: str
    length: int

    @property
    def shown(self) -> str:
        return f"{self.name} ([{self.length}]uint8)"

    def zero(self) -> Value:
        return bytes(self.length)

    def is_left_out(self, value: Value) -> bool:
        return False  # not even when it is all zero

    def write(self, out: bytearray, value: Value) -> None:
        if not isinstance(value, bytes) or len(value) != self.length:
            refuse(value, self.shown)
        write_uint(out, self.length)
        for byte in value:
            write_uint(out, byte)


@dataclass(frozen=True, slots=True)
class Field:
    """A name and a type; the name is what sender and receiver match by."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True, eq=False)
class Struct:
    """Fields in the order in which they are numbered, from 0."""

    name: str
    fields: tuple[Field, ...] = ()

    @property
    def shown(self) -> str:
        return self.name or "struct{}"

    def zero(self) -> Value:
        return {field.name: field.type.zero() for field in self.fields}

    def is_left_out(self, value: Value) -> bool:
        return False  # not even when all its fields are

    def write(self, out: bytearray, value: Value) -> None:
        """Append the fields that are not zero; those that ``value`` lacks are."""
        if not isinstance(value, Mapping):
            refuse(value, self.shown)
        known, sent = 0, -1
        for number, field in enumerate(self.fields):
            if field.name in value:
                known += 1
                content = value[field.name]
            else:
                content = field.type.zero()
            if not field.type.is_left_out(content):
                write_uint(out, number - sent)
                field.type.write(out, content)
                sent = number
        if known < len(value):
            unknown = value.keys() - {field.name for field in self.fields}
            raise LocalProtocolError(f"gob: {self.shown} has no {', '.join(sorted(unknown))}")
        out.append(0)


@dataclass(frozen=True, slots=True, eq=False)
class Optional:
    """A pointer to a struct: None and left out, or the struct itself."""

    target: Struct

    @property
    def shown(self) -> str:
        return f"*{self.target.shown}"

    def zero(self) -> Value:
        return None

    def is_left_out(self, value: Value) -> bool:
        return value is None

    def write(self, out: bytearray, value: Value) -> None:
        self.target.write(out, value)


Described: TypeAlias = Marshaled | Slice | ByteArray | Struct
Type: TypeAlias = Basic | Described | Optional

EMPTY: Final = Struct("")  # struct{}: an answer that says nothing
