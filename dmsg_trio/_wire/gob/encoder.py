"""Writing gob as Go writes it: the same bytes, down to the numbers of types."""

from __future__ import annotations

from functools import lru_cache

from dmsg_trio._errors import LocalProtocolError

from .definitions import FIRST_USER_ID, write_definition
from .primitives import MAX_MESSAGE, write_bytes, write_int
from .types import Basic, Optional, Slice, Struct, Type, Value


class TypeIds:
    """The numbers that a program gives to types, in the order in which it first uses them.

    Streams may share one, as all streams of a Go process do; ``first`` is the next free number.
    """

    def __init__(self, first: int = FIRST_USER_ID) -> None:
        self._next = first
        self._ids: dict[Type, int] = {}

    def number(self, declared: Type) -> int:
        """Look up the number of a type; number it, and what it is made of, at its first use."""
        match declared:
            case Basic():
                return declared.wire_id
            case Optional(target):
                return self.number(target)
            case _ if declared in self._ids:
                return self._ids[declared]
            case Struct(_, fields):
                # A struct comes before its fields, as it could contain itself, ...
                type_id = self._take(declared)
                for field in fields:
                    self.number(field.type)
                return type_id
            case Slice(element):
                # ... a list after its elements.
                self.number(element)
        return self._take(declared)

    def _take(self, declared: Type) -> int:
        type_id = self._ids[declared] = self._next
        self._next += 1
        return type_id


class Encoder:
    """One stream of gob: what a type looks like is said once, before its first value."""

    def __init__(self, ids: TypeIds | None = None) -> None:
        self._ids = ids or TypeIds()
        self._described: set[Type] = set()

    def encode(self, declared: Type, value: Value) -> bytes:
        """Encode the next value of the stream; `LocalProtocolError` if it is not of the type."""
        # The value comes first: one that is refused must not leave its type half described.
        message = _value_message(declared, self._ids.number(declared), value)
        return self.describe(declared) + message

    def describe(self, declared: Type) -> bytes:
        """Encode the definitions that the next value of this type needs and the peer lacks."""
        out = bytearray()
        self._describe(declared, out)
        return bytes(out)

    def _describe(self, declared: Type, out: bytearray) -> None:
        # Outer types come before inner ones.
        if isinstance(declared, Optional):
            declared = declared.target
        if isinstance(declared, Basic) or declared in self._described:
            return
        self._described.add(declared)
        body = bytearray()
        write_definition(body, declared, self._ids.number)
        write_bytes(out, body)
        if isinstance(declared, Struct):
            for field in declared.fields:
                self._describe(field.type, out)
        elif isinstance(declared, Slice):
            self._describe(declared.element, out)


def encode_alone(declared: Type, value: Value) -> bytes:
    """Encode a value as a stream of its own, as a fresh program would."""
    definitions, type_id = _beginning(declared)
    return definitions + _value_message(declared, type_id, value)


@lru_cache(64)
def _beginning(declared: Type) -> tuple[bytes, int]:
    ids = TypeIds()
    return Encoder(ids).describe(declared), ids.number(declared)


def _value_message(declared: Type, type_id: int, value: Value) -> bytes:
    body = bytearray()
    write_int(body, type_id)
    if not isinstance(declared, Struct | Optional):
        body.append(0)  # where a struct would have the number of a field
    declared.write(body, value)
    if len(body) > MAX_MESSAGE:
        raise LocalProtocolError(f"gob: a message of {len(body)} bytes, over {MAX_MESSAGE}")
    message = bytearray()
    write_bytes(message, body)
    return bytes(message)
