"""Frames of shell/1: from what is said to bytes, and back."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final, TypeAlias

import msgspec

from dmsg_trio._errors import LocalProtocolError
from dmsg_trio._wire.pty import WindowSize

from .words import (
    MAX_PAYLOAD,
    Attach,
    Detach,
    Detached,
    Done,
    EndOfInput,
    Errors,
    Event,
    Exited,
    HangUp,
    Input,
    List,
    Output,
    Received,
    Refused,
    Resize,
    Sessions,
    Signal,
    Start,
    Started,
    Taken,
    TakenOver,
    Violated,
    check_number,
)

_HEADER: Final = struct.Struct(">BI")
_OFFSET: Final = struct.Struct(">Q")
_SIZE: Final = struct.Struct(">4H")
Buffer: TypeAlias = bytes | bytearray | memoryview


class FrameType(IntEnum):
    """The first byte of a frame."""

    START = 0x01
    ATTACH = 0x02
    INPUT = 0x03
    END_OF_INPUT = 0x04
    RESIZE = 0x05
    SIGNAL = 0x06
    RECEIVED = 0x07
    DETACH = 0x08
    HANG_UP = 0x09
    LIST = 0x0A
    DONE = 0x0B
    STARTED = 0x81
    OUTPUT = 0x82
    ERRORS = 0x83
    TAKEN = 0x84
    EXITED = 0x85
    REFUSED = 0x86
    TAKEN_OVER = 0x87
    SESSIONS = 0x88
    DETACHED = 0x89


_Json: TypeAlias = Start | Attach | Started | Exited | Refused | Sessions | Detached
_Bare: TypeAlias = EndOfInput | Detach | HangUp | List | Done | TakenOver

_JSON: Final[Mapping[FrameType, type[_Json]]] = {
    FrameType.START: Start,
    FrameType.ATTACH: Attach,
    FrameType.STARTED: Started,
    FrameType.EXITED: Exited,
    FrameType.REFUSED: Refused,
    FrameType.SESSIONS: Sessions,
    FrameType.DETACHED: Detached,
}
_BYTES: Final[Mapping[FrameType, type[Input | Output | Errors]]] = {
    FrameType.INPUT: Input,
    FrameType.OUTPUT: Output,
    FrameType.ERRORS: Errors,
}
_COUNTS: Final[Mapping[FrameType, type[Received | Taken]]] = {
    FrameType.RECEIVED: Received,
    FrameType.TAKEN: Taken,
}
_BARE: Final[Mapping[FrameType, type[_Bare]]] = {
    FrameType.END_OF_INPUT: EndOfInput,
    FrameType.DETACH: Detach,
    FrameType.HANG_UP: HangUp,
    FrameType.LIST: List,
    FrameType.DONE: Done,
    FrameType.TAKEN_OVER: TakenOver,
}
_TYPES: Final[Mapping[type, FrameType]] = {
    Resize: FrameType.RESIZE,
    Signal: FrameType.SIGNAL,
} | {event: kind for table in (_JSON, _BYTES, _COUNTS, _BARE) for kind, event in table.items()}

_LENGTHS: Final[Mapping[FrameType, range]] = (
    {kind: range(1, MAX_PAYLOAD + 1) for kind in FrameType}  # of bytes, of JSON, of a name
    | dict.fromkeys(_COUNTS, range(_OFFSET.size, _OFFSET.size + 1))
    | dict.fromkeys(_BARE, range(1))
    | {FrameType.RESIZE: range(_SIZE.size, _SIZE.size + 1)}
)


# ---- out ----


def encode(event: Event) -> bytes:
    """Write one frame; `LocalProtocolError` if it would be too long, or a text is no Unicode."""
    kind = _TYPES[type(event)]
    payload = _payload(event)
    if len(payload) not in _LENGTHS[kind]:
        raise LocalProtocolError(
            f"{kind.name} of {len(payload)} bytes, the limit is {_LENGTHS[kind][-1]}"
        )
    return _HEADER.pack(kind, len(payload)) + payload


def _payload(event: Event) -> bytes:
    match event:
        case Input() | Output() | Errors():
            return event.data
        case Received() | Taken():
            return _OFFSET.pack(event.count)
        case Resize(size):
            return _SIZE.pack(size.rows, size.columns, size.width, size.height)
        case Signal(name):
            return name.encode()
        case EndOfInput() | Detach() | HangUp() | List() | Done() | TakenOver():
            return b""
        case _:
            try:
                return msgspec.json.encode(event)
            except UnicodeEncodeError as error:
                raise LocalProtocolError(f"text that is not Unicode: {error.object!r}") from error


# ---- in ----


class ShellReader:
    """Finds frames in what the other side sends."""

    __slots__ = ("_incoming", "_is_client", "_violated")

    def __init__(self, *, client: bool) -> None:
        self._is_client = client  # and so reads what a host says
        self._incoming = bytearray()
        self._violated = False

    def receive_data(self, data: Buffer) -> list[Event | Violated]:
        """Take in what was read; answer with what it means. Nothing follows a `Violated`."""
        events: list[Event | Violated] = []
        if self._violated:
            return events
        self._incoming += data
        start = 0
        try:
            while (found := self._next_untrusted(start)) is not None:
                event, start = found
                events.append(event)
        except ValueError as error:
            self._violated = True
            self._incoming.clear()
            events.append(Violated(str(error)))
        else:
            del self._incoming[:start]
        return events

    def _next_untrusted(self, start: int) -> tuple[Event, int] | None:
        """Read the frame at ``start``, and say where it ends; None if it is not all there."""
        begin = start + _HEADER.size
        if len(self._incoming) < begin:
            return None
        number, length = _HEADER.unpack_from(self._incoming, start)
        if (number >= 0x80) != self._is_client:
            raise ValueError(f"a frame of type {number:#04x} from the wrong side")
        kind = FrameType(number)
        if length not in _LENGTHS[kind]:
            raise ValueError(f"{kind.name} of {length} bytes, the limit is {_LENGTHS[kind][-1]}")
        end = begin + length
        if len(self._incoming) < end:
            return None
        with memoryview(self._incoming) as view:
            return _event_untrusted(kind, bytes(view[begin:end])), end

    def __repr__(self) -> str:
        state = "after a violation" if self._violated else f"with {len(self._incoming)} bytes"
        return f"<ShellReader {state}>"


def _event_untrusted(kind: FrameType, payload: bytes) -> Event:
    if holds_bytes := _BYTES.get(kind):
        return holds_bytes(payload)
    if counts := _COUNTS.get(kind):
        (count,) = _OFFSET.unpack(payload)
        check_number(kind.name, count)
        return counts(count)
    if bare := _BARE.get(kind):
        return bare()
    if kind is FrameType.RESIZE:
        return Resize(WindowSize(*_SIZE.unpack(payload)))
    if kind is FrameType.SIGNAL:
        return Signal(payload.decode())
    try:
        return _decoder(_JSON[kind])(payload)
    except RecursionError:
        raise ValueError(f"{kind.name} is nested too deeply") from None


def _decoder(event: type[_Json]) -> Callable[[bytes], _Json]:
    return msgspec.json.Decoder(event).decode
