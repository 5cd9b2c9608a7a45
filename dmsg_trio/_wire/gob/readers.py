"""Functions that read one value each, put together from functions that read its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, assert_never

from .primitives import Cursor, GobError
from .types import Basic, ByteArray, Marshaled, Optional, Slice, Struct, Type, Value

Read: TypeAlias = Callable[[Cursor], Value]


def struct_reader(target: Struct, slots: Sequence[tuple[str | None, Read]]) -> Read:
    """Read a struct whose sender numbers its fields as in ``slots``; drop those without a name."""
    fields = target.fields

    def read(cursor: Cursor) -> Value:
        values: dict[str, Value] = {}
        number = -1
        while delta := cursor.read_uint():
            number += delta
            if number >= len(slots):
                raise GobError(f"field {number} of a struct that has {len(slots)}")
            name, read_field = slots[number]
            try:
                value = read_field(cursor)
            except GobError as error:
                error.inside(name or "an unknown field")
                raise
            if name is not None:
                values[name] = value
        if len(values) < len(fields):
            for field in fields:
                if field.name not in values:
                    values[field.name] = field.type.zero()
        return values

    return read


def slice_reader(read_element: Read) -> Read:
    def read(cursor: Cursor) -> Value:
        return [read_element(cursor) for _ in range(cursor.read_count())]

    return read


def byte_array_reader(length: int) -> Read:
    def read(cursor: Cursor) -> Value:
        count = cursor.read_count()
        if count != length:
            raise GobError(f"{count} elements of an array of {length}")
        numbers = [cursor.read_uint() for _ in range(length)]
        try:
            return bytes(numbers)
        except ValueError:
            raise GobError(f"{max(numbers)} is out of range for uint8") from None

    return read


def own_reader(known: Type) -> Read:
    """Read a type that the sender declares exactly as we do, such as the type of types."""
    match known:
        case Basic():
            return known.read
        case Marshaled():
            return Cursor.read_bytes
        case ByteArray(_, length):
            return byte_array_reader(length)
        case Slice(element):
            return slice_reader(own_reader(element))
        case Struct(_, fields):
            return struct_reader(known, [(field.name, own_reader(field.type)) for field in fields])
        case Optional(target):
            return own_reader(target)
        case _:
            assert_never(known)
