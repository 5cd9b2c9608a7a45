"""What a peer has described in one stream, and how to read values by it.

Types are matched before a single field is read, as Go does: a field of a wrong kind is an error
even when it is zero and was left out. Fields that we do not know are read and dropped.
"""

from __future__ import annotations

from functools import partial
from typing import Final, assert_never

from .definitions import (
    COMPLEX_ID,
    FIRST_USER_ID,
    INTERFACE_ID,
    LAST_USER_ID,
    ArrayDefinition,
    Definition,
    MapDefinition,
    OpaqueDefinition,
    SliceDefinition,
    StructDefinition,
    parse_definition_untrusted,
)
from .primitives import Cursor, GobError, GobMismatchError, Misfit
from .readers import Read, byte_array_reader, slice_reader, struct_reader
from .types import (
    BOOL,
    BYTES,
    FLOAT,
    INT,
    STRING,
    UINT,
    Basic,
    ByteArray,
    Marshaled,
    Optional,
    Slice,
    Struct,
    Type,
    Value,
)

MAX_TYPES: Final = 32  # definitions in one stream; a whole terminal session needs six
MAX_DEPTH: Final = 8  # containers within containers in fields that we do not know

_BASICS: Final = {basic.wire_id: basic for basic in (BOOL, INT, UINT, FLOAT, BYTES, STRING)}
_SHOWN_NAME: Final = 40  # characters of a name from the peer that an error repeats


class TypeTable:
    """The definitions of one stream by their numbers."""

    def __init__(self) -> None:
        self._definitions: dict[int, Definition] = {}

    def define_untrusted(self, type_id: int, body: bytes) -> None:
        """Take in a definition, once per number."""
        if not FIRST_USER_ID <= type_id <= LAST_USER_ID:
            raise GobError(f"a definition of type {type_id}, which is reserved")
        if type_id in self._definitions:
            raise GobError(f"type {type_id} is defined twice")
        if len(self._definitions) == MAX_TYPES:
            raise GobError(f"more than {MAX_TYPES} types in one stream")
        self._definitions[type_id] = parse_definition_untrusted(body)

    def is_struct(self, type_id: int) -> bool:
        return isinstance(self._definitions.get(type_id), StructDefinition)

    def _look_up(self, type_id: int) -> Definition:
        try:
            return self._definitions[type_id]
        except KeyError:
            pass
        if type_id == INTERFACE_ID:
            raise GobError("interface values are refused")
        raise GobError(f"type {type_id} is not defined")

    # ---- by what we expect ----

    def reader_of_value(self, expected: Type, type_id: int) -> Read:
        """Match the type of a whole value, which must have a field in common with ours."""
        read = self.reader(expected, type_id)
        match expected, self._definitions.get(type_id):
            case Struct(_, [_, *_] as ours), StructDefinition(_, [_, *_] as theirs):
                if not {field.name for field in ours} & {field.name for field in theirs}:
                    raise self._mismatch(expected, type_id, "they have no field in common")
        return read

    def reader(self, expected: Type, type_id: int) -> Read:
        """Match a type of ours with one of the peer's."""
        if isinstance(expected, Basic):  # most are
            if type_id == expected.wire_id:
                return expected.read
            raise self._mismatch(expected, type_id)
        match expected, self._definitions.get(type_id):
            case Optional(target), _:
                return self.reader(target, type_id)
            case Struct(), StructDefinition() as definition:
                return self._struct_reader(expected, definition)
            case Marshaled(), OpaqueDefinition("BinaryMarshaler"):
                return Cursor.read_bytes
            case Slice(element), SliceDefinition(_, element_id):
                return slice_reader(self.reader(element, element_id))
            case ByteArray(_, length), ArrayDefinition(_, UINT.wire_id, their_length):
                if length == their_length:
                    return byte_array_reader(length)
        raise self._mismatch(expected, type_id)

    def _struct_reader(self, expected: Struct, definition: StructDefinition) -> Read:
        ours = {field.name: field.type for field in expected.fields}
        slots: list[tuple[str | None, Read]] = []
        for name, type_id in definition.fields:
            if name not in ours:
                slots.append((None, partial(self.read_as_described, type_id=type_id)))
                continue
            try:
                slots.append((name, self.reader(ours[name], type_id)))
            except GobMismatchError as error:
                error.inside(name)
                error.misfit = error.misfit or Misfit(definition.name, name, ours[name].shown)
                raise
            except GobError as error:
                error.inside(name)
                raise
        return struct_reader(expected, slots)

    def _mismatch(self, expected: Type, type_id: int, reason: str = "") -> GobMismatchError:
        if type_id in _BASICS:
            theirs = _BASICS[type_id].shown
        else:
            definition = self._look_up(type_id)
            theirs = f"{definition.kind} {definition.name[:_SHOWN_NAME]!r}"
        reason = reason and f" ({reason})"
        return GobMismatchError(f"expected {expected.shown}, received {theirs}{reason}")

    # ---- by what the peer described ----

    def read_as_described(self, cursor: Cursor, type_id: int, depth: int = 0) -> Value:
        """Read a value of whatever type; a map becomes a list of pairs."""
        if type_id in _BASICS:
            return _BASICS[type_id].read(cursor)
        if type_id == COMPLEX_ID:
            return [cursor.read_float(), cursor.read_float()]
        if depth == MAX_DEPTH:
            raise GobError(f"values nested more than {MAX_DEPTH} deep")
        depth += 1
        match self._look_up(type_id):
            case OpaqueDefinition():
                return cursor.read_bytes()
            case StructDefinition() as definition:
                return self._read_struct(cursor, definition, depth)
            case SliceDefinition(_, element):
                count = cursor.read_count()
                return [self.read_as_described(cursor, element, depth) for _ in range(count)]
            case ArrayDefinition(_, element, length):
                if (count := cursor.read_count()) != length:
                    raise GobError(f"{count} elements of an array of {length}")
                return [self.read_as_described(cursor, element, depth) for _ in range(count)]
            case MapDefinition(_, key, element):
                return [
                    [
                        self.read_as_described(cursor, key, depth),
                        self.read_as_described(cursor, element, depth),
                    ]
                    for _ in range(cursor.read_count())
                ]
            case _ as unreachable:
                assert_never(unreachable)

    def _read_struct(self, cursor: Cursor, definition: StructDefinition, depth: int) -> Value:
        values: dict[str, Value] = {}
        number = -1
        while delta := cursor.read_uint():
            number += delta
            if number >= len(definition.fields):
                raise GobError(f"field {number} of a struct that has {len(definition.fields)}")
            name, type_id = definition.fields[number]
            values[name] = self.read_as_described(cursor, type_id, depth)
        return values
