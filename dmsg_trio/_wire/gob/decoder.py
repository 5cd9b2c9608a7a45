"""Reading gob from a peer: bytes go in as they arrive, values come out when they are whole."""

from __future__ import annotations

from functools import partial
from typing import Final

from .primitives import MAX_MESSAGE, Cursor, GobError
from .readers import Read
from .table import TypeTable
from .types import Type, Value

_LONGEST_LENGTH: Final = 9  # bytes that the length of a message can take


class Decoder:
    """One stream of gob: what the peer described in it is remembered for as long as it lasts."""

    def __init__(self) -> None:
        self._incoming = bytearray()
        self._table = TypeTable()
        self._readers: dict[tuple[Type, int], Read] = {}

    def receive_data(self, data: bytes) -> None:
        """Take in what was read from the peer; ask for all values before giving it more."""
        self._incoming += data

    def next_value_untrusted(self, expected: Type | None = None) -> Value:
        """Read the next value, or None as long as it is not whole.

        Without ``expected`` it is read as the peer describes it. After a `GobMismatchError` the
        value is dropped and the stream goes on; any other `GobError` is the end of it.
        """
        while (message := self._next_message()) is not None:
            cursor = Cursor(message)
            type_id = cursor.read_int()
            if type_id >= 0:
                return self._read_value(cursor, type_id, expected)
            self._table.define_untrusted(-type_id, cursor.take(cursor.left))
        return None

    def _next_message(self) -> bytes | None:
        """Cut the next message off what came in, if it is there as a whole."""
        head = Cursor(bytes(self._incoming[:_LONGEST_LENGTH]))
        if not head.has_uint:
            return None
        size = head.read_uint()
        if size > MAX_MESSAGE:
            raise GobError(f"a message of {size} bytes, over {MAX_MESSAGE}")
        if len(self._incoming) < head.at + size:
            return None
        message = bytes(self._incoming[head.at : head.at + size])
        del self._incoming[: head.at + size]
        return message

    def _read_value(self, cursor: Cursor, type_id: int, expected: Type | None) -> Value:
        try:
            read = self._reader(expected, type_id)
            if not self._table.is_struct(type_id) and cursor.read_uint() != 0:
                raise GobError("a value that is no struct does not begin with zero")
            value = read(cursor)
        except GobError as error:
            error.inside("the value" if expected is None else expected.shown)
            raise
        if cursor.left:
            raise GobError(f"{cursor.left} bytes after a value")
        return value

    def _reader(self, expected: Type | None, type_id: int) -> Read:
        if expected is None:
            return partial(self._table.read_as_described, type_id=type_id)
        key = expected, type_id
        if key not in self._readers:
            self._readers[key] = self._table.reader_of_value(expected, type_id)
        return self._readers[key]


def decode_alone_untrusted(expected: Type, data: bytes) -> Value:
    """Decode a value that is a stream of its own; what follows it is dropped, as Go does."""
    decoder = Decoder()
    decoder.receive_data(data)
    value = decoder.next_value_untrusted(expected)
    if value is None:
        raise GobError(f"{expected.shown}: {len(data)} bytes end before the value does")
    return value
