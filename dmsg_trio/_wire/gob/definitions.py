"""How gob describes types: in gob, as values of a type that needs no description.

A definition refers to other types by number; the numbers below `FIRST_USER_ID` have a meaning
of their own, the others have the one that the stream gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final, NamedTuple, TypeAlias, TypedDict, assert_never, cast

from .primitives import Cursor, GobError, write_int
from .readers import own_reader
from .types import (
    INT,
    STRING,
    UINT,
    ByteArray,
    Described,
    Field,
    Marshaled,
    Optional,
    Slice,
    Struct,
    Type,
    Value,
)

COMPLEX_ID: Final = 7
INTERFACE_ID: Final = 8
FIRST_USER_ID: Final = 64
LAST_USER_ID: Final = 2**31 - 1

# Definitions are constants of a program and come with each signed object, so what they say is
# remembered: at most 256 of at most 256 bytes.
_REMEMBERED: Final = 256
_REMEMBERED_SIZE: Final = 256


# ---- what a definition says ----


class FieldDefinition(NamedTuple):
    name: str
    type_id: int


@dataclass(frozen=True, slots=True)
class StructDefinition:
    kind: ClassVar = "struct"
    name: str
    fields: tuple[FieldDefinition, ...]


@dataclass(frozen=True, slots=True)
class ArrayDefinition:
    kind: ClassVar = "array"
    name: str
    element: int
    length: int


@dataclass(frozen=True, slots=True)
class SliceDefinition:
    kind: ClassVar = "slice"
    name: str
    element: int


@dataclass(frozen=True, slots=True)
class MapDefinition:
    kind: ClassVar = "map"
    name: str
    key: int
    element: int


@dataclass(frozen=True, slots=True)
class OpaqueDefinition:
    """Bytes that only the type itself understands; ``kind`` is the Go interface that makes them."""

    kind: str
    name: str


Definition: TypeAlias = (
    StructDefinition | ArrayDefinition | SliceDefinition | MapDefinition | OpaqueDefinition
)


# ---- the type of types ----

_COMMON: Final = Struct("CommonType", (Field("Name", STRING), Field("Id", INT)))
_FIELD: Final = Struct("fieldType", (Field("Name", STRING), Field("Id", INT)))


def _kind(name: str, *fields: Field) -> Optional:
    return Optional(Struct(name, (Field("CommonType", _COMMON), *fields)))


WIRE_TYPE: Final = Struct(
    "wireType",
    (
        Field("ArrayT", _kind("arrayType", Field("Elem", INT), Field("Len", INT))),
        Field("SliceT", _kind("sliceType", Field("Elem", INT))),
        Field("StructT", _kind("structType", Field("Field", Slice(_FIELD)))),
        Field("MapT", _kind("mapType", Field("Key", INT), Field("Elem", INT))),
        Field("GobEncoderT", _kind("gobEncoderType")),
        Field("BinaryMarshalerT", _kind("gobEncoderType")),
        Field("TextMarshalerT", _kind("gobEncoderType")),
    ),
)


# ---- in: from bytes to what they say ----


class _Common(TypedDict):
    Name: str
    Id: int


class _Wire(TypedDict):
    """A value of any of the kinds of `WIRE_TYPE`."""

    CommonType: _Common
    Elem: int
    Len: int
    Key: int
    Field: list[_Common]


def parse_definition_untrusted(body: bytes) -> Definition:
    """Read the body of a message that defines a type."""
    parse = _remembered if len(body) <= _REMEMBERED_SIZE else _parse
    return parse(body)


def _parse(body: bytes) -> Definition:
    cursor = Cursor(body)
    try:
        kinds = cast("dict[str, _Wire | None]", _read_wire_type(cursor))
    except GobError as error:
        error.inside("a definition")
        raise
    if cursor.left:
        raise GobError(f"{cursor.left} bytes after a definition")
    said = [(kind, wire) for kind, wire in kinds.items() if wire is not None]
    if len(said) != 1:
        raise GobError(f"a definition of {len(said)} kinds at once")
    [(kind, wire)] = said
    name = wire["CommonType"]["Name"]
    match kind:
        case "ArrayT":
            return ArrayDefinition(name, wire["Elem"], wire["Len"])
        case "SliceT":
            return SliceDefinition(name, wire["Elem"])
        case "StructT":
            fields = (FieldDefinition(field["Name"], field["Id"]) for field in wire["Field"])
            return StructDefinition(name, tuple(fields))
        case "MapT":
            return MapDefinition(name, wire["Key"], wire["Elem"])
        case _:
            return OpaqueDefinition(kind.removesuffix("T"), name)


_remembered = lru_cache(_REMEMBERED)(_parse)


_read_wire_type: Final = own_reader(WIRE_TYPE)


# ---- out: from a declaration to bytes ----


def write_definition(out: bytearray, declared: Described, number: Callable[[Type], int]) -> None:
    """Append the body of a message that defines ``declared`` by the numbers of its parts."""
    write_int(out, -number(declared))
    WIRE_TYPE.write(out, _described(declared, number))


def _described(declared: Described, number: Callable[[Type], int]) -> Value:
    def common(name: str) -> Value:
        return {"Name": name, "Id": number(declared)}

    match declared:
        case Struct(name, fields):
            listed: list[Value] = [
                {"Name": field.name, "Id": number(field.type)} for field in fields
            ]
            return {"StructT": {"CommonType": common(name), "Field": listed}}
        case Slice(element, name):
            return {"SliceT": {"CommonType": common(name), "Elem": number(element)}}
        case ByteArray(name, length):
            array = {"CommonType": common(name), "Elem": number(UINT), "Len": length}
            return {"ArrayT": array}
        case Marshaled(name):
            return {"BinaryMarshalerT": {"CommonType": common(name)}}
        case _:
            assert_never(declared)
