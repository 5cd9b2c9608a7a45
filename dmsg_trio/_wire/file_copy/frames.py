"""Frames of files/1: from what is said to bytes, and back."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final, TypeAlias

import msgspec

from dmsg_trio._errors import LocalProtocolError

from .words import (
    DIGEST_SIZE,
    MAX_DATA,
    MAX_PAYLOAD,
    Abandoned,
    At,
    Complete,
    Data,
    Done,
    Event,
    Failed,
    File,
    Finished,
    Folder,
    Get,
    Have,
    Link,
    Put,
    Ready,
    Refused,
    Unreadable,
    Up,
    Violated,
)

_HEADER: Final = struct.Struct(">BI")
HEADER_SIZE: Final = _HEADER.size
Buffer: TypeAlias = bytes | bytearray | memoryview


class FrameType(IntEnum):
    """The first byte of a frame."""

    PUT = 0x01
    GET = 0x02
    FOLDER = 0x10
    UP = 0x11
    LINK = 0x12
    FILE = 0x13
    AT = 0x14
    DATA = 0x15
    COMPLETE = 0x16
    ABANDONED = 0x17
    UNREADABLE = 0x18
    DONE = 0x19
    HAVE = 0x20
    FAILED = 0x21
    FINISHED = 0x22
    READY = 0x81
    REFUSED = 0x82


_Packed: TypeAlias = (
    Put | Get | Refused | Folder | Link | File | At | Abandoned | Unreadable | Have | Failed
)
_Bare: TypeAlias = Ready | Up | Done | Finished

_PACKED: Final[Mapping[FrameType, type[_Packed]]] = {
    FrameType.PUT: Put,
    FrameType.GET: Get,
    FrameType.REFUSED: Refused,
    FrameType.FOLDER: Folder,
    FrameType.LINK: Link,
    FrameType.FILE: File,
    FrameType.AT: At,
    FrameType.ABANDONED: Abandoned,
    FrameType.UNREADABLE: Unreadable,
    FrameType.HAVE: Have,
    FrameType.FAILED: Failed,
}
_BARE: Final[Mapping[FrameType, type[_Bare]]] = {
    FrameType.READY: Ready,
    FrameType.UP: Up,
    FrameType.DONE: Done,
    FrameType.FINISHED: Finished,
}
TYPES: Final[Mapping[type[object], FrameType]] = {
    Data: FrameType.DATA,
    Complete: FrameType.COMPLETE,
} | {event: kind for table in (_PACKED, _BARE) for kind, event in table.items()}

_LENGTHS: Final[Mapping[FrameType, range]] = (
    dict.fromkeys(_PACKED, range(1, MAX_PAYLOAD + 1))
    | dict.fromkeys(_BARE, range(1))
    | {
        FrameType.DATA: range(1, MAX_DATA + 1),
        FrameType.COMPLETE: range(DIGEST_SIZE, DIGEST_SIZE + 1),
    }
)


# ---- out ----


def encode(event: Event) -> bytes:
    """Write one frame; `LocalProtocolError` if it would be too long."""
    kind = TYPES[type(event)]
    payload = _payload(event)
    if len(payload) not in _LENGTHS[kind]:
        raise LocalProtocolError(
            f"{kind.name} of {len(payload)} bytes, the limit is {_LENGTHS[kind][-1]}"
        )
    return _HEADER.pack(kind, len(payload)) + payload


def data_header(length: int) -> bytes:
    """Write what goes before so many bytes of content, for those who would rather not copy them."""
    if length not in _LENGTHS[FrameType.DATA]:
        raise LocalProtocolError(f"DATA of {length} bytes, the limit is {MAX_DATA}")
    return _HEADER.pack(FrameType.DATA, length)


def _payload(event: Event) -> bytes:
    match event:
        case Data(data):
            return data
        case Complete(digest):
            return digest
        case Ready() | Up() | Done() | Finished():
            return b""
        case _:
            return msgspec.msgpack.encode(event)


# ---- in ----


class CopyReader:
    """Finds frames in what the other side sends; content is passed on as it comes."""

    __slots__ = ("_data_left", "_incoming", "_violated")

    def __init__(self) -> None:
        self._incoming = bytearray()
        self._data_left = 0  # bytes of the DATA frame that has begun
        self._violated = False

    def receive_data(self, data: Buffer) -> list[Event | Violated]:
        """Take in what was read; answer with what it means. Nothing follows a `Violated`."""
        events: list[Event | Violated] = []
        if self._violated:
            return events
        if 0 < len(data) <= self._data_left:  # nothing but content, and nothing to copy
            self._data_left -= len(data)
            return [Data(bytes(data))]
        self._incoming += data
        try:
            with memoryview(self._incoming) as view:
                end = self._read_untrusted(view, events)
        except ValueError as error:
            self._violated = True
            self._incoming = bytearray()
            events.append(Violated(str(error)))
        else:
            del self._incoming[:end]
        return events

    def _read_untrusted(self, view: memoryview, events: list[Event | Violated]) -> int:
        """Read what is all there, and say where that ends."""
        at = 0
        while True:
            if self._data_left:
                if at == len(view):
                    return at
                piece = bytes(view[at : at + self._data_left])
                events.append(Data(piece))
                self._data_left -= len(piece)
                at += len(piece)
                continue
            begin = at + _HEADER.size
            if len(view) < begin:
                return at
            number, length = _HEADER.unpack_from(view, at)
            kind = FrameType(number)
            if length not in _LENGTHS[kind]:
                raise ValueError(f"{kind.name} of {length} bytes, limit {_LENGTHS[kind][-1]}")
            if kind is FrameType.DATA:
                self._data_left, at = length, begin
                continue
            if len(view) < begin + length:
                return at
            at = begin + length
            events.append(_event_untrusted(kind, bytes(view[begin:at])))

    def __repr__(self) -> str:
        if self._violated:
            return "<CopyReader after a violation>"
        return f"<CopyReader with {len(self._incoming)} bytes, {self._data_left} of content due>"


def _event_untrusted(kind: FrameType, payload: bytes) -> Event:
    if bare := _BARE.get(kind):
        return bare()
    if kind is FrameType.COMPLETE:
        return Complete(payload)
    try:
        return _DECODERS[kind](payload)
    except RecursionError:
        raise ValueError(f"{kind.name} is nested too deeply") from None


def _decoder(event: type[_Packed]) -> Callable[[bytes], _Packed]:
    return msgspec.msgpack.Decoder(event).decode


_DECODERS: Final = {kind: _decoder(event) for kind, event in _PACKED.items()}
