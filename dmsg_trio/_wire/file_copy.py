"""What files/1 says: files and trees from one side of a stream to the other, as frames.

The client says once what it wants; from then on one side is the sender and the other the receiver,
and neither waits for the other but before a large file, of which the receiver may have a part.
Frames are ``type uint8 | length uint32 | payload``, all numbers big-endian; payloads are msgpack
maps, but for content and digests, which are bare. Names and paths are bytes, as the systems have
them. docs/copy-protocol.md has the rules.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

import msgspec

from dmsg_trio._errors import LocalProtocolError

FILES_URI: Final = "dmsgpty/files/1"
DIGEST_SIZE: Final = 32  # SHA-256
MAX_DATA: Final = 1024 * 1024  # bytes of content in one frame
MAX_PAYLOAD: Final = 64 * 1024  # bytes of any other frame
MAX_SOURCES: Final = 256  # that one request may name
MAX_PATH: Final = 4096
MAX_NAME: Final = 1024  # no system has names beyond 255 bytes
MAX_DEPTH: Final = 128  # folders within folders; each one costs both sides a descriptor or two
MAX_REASON: Final = 4096
RESUMABLE: Final = 4 * 1024 * 1024  # bytes from which on a file is worth a round trip

_HEADER: Final = struct.Struct(">BI")
HEADER_SIZE: Final = _HEADER.size
_MAX_NUMBER: Final = 2**63 - 1  # what every language can count, and what files can be

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


# ---- what a client asks for, and the answer ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """The client is the sender; ``target`` is where on the host."""

    target: bytes
    several: bool = False  # so the target must be a folder that is there
    preserve: bool = False  # permissions and times as they are at the source
    overwrite: bool = True
    resume: bool = True

    def __post_init__(self) -> None:
        _check_path("target", self.target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Get:
    """The client is the receiver of these files of the host."""

    sources: tuple[bytes, ...]
    recursive: bool = False  # trees too; and links as links
    resume: bool = True

    def __post_init__(self) -> None:
        if not 0 < len(self.sources) <= MAX_SOURCES:
            raise ValueError(f"{len(self.sources)} sources, not 1 to {MAX_SOURCES}")
        for source in self.sources:
            _check_path("source", source)


@dataclass(frozen=True, slots=True)
class Ready:
    """The host does what was asked for."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The host does not, and says why."""

    reason: str

    def __post_init__(self) -> None:
        _check_reason(self.reason)


# ---- what a sender says ----


@dataclass(frozen=True, slots=True)
class Folder:
    """What follows is in this folder, until `Up`; without a name, it is the target itself."""

    name: bytes
    mode: int
    mtime: int  # nanoseconds since 1970

    def __post_init__(self) -> None:
        if self.name:
            _check_name(self.name)
        _check_mode(self.mode)
        _check_number("mtime", abs(self.mtime))


@dataclass(frozen=True, slots=True)
class Up:
    """Nothing follows in this folder."""


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link, and what it says."""

    name: bytes
    target: bytes
    mtime: int

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_path("target", self.target)
        _check_number("mtime", abs(self.mtime))


@dataclass(frozen=True, slots=True)
class File:
    """A regular file; if it ``asks``, its content waits for `Have` and begins with `At`."""

    name: bytes
    size: int
    mode: int
    mtime: int
    asks: bool = False

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_mode(self.mode)
        _check_number("size", self.size)
        _check_number("mtime", abs(self.mtime))


@dataclass(frozen=True, slots=True)
class At:
    """Content goes on where the receiver's part ends, or begins at 0 as that part is another's."""

    offset: int

    def __post_init__(self) -> None:
        _check_number("offset", self.offset)


@dataclass(frozen=True, slots=True)
class Data:
    """The next bytes of the file; a reader may tell one frame in several pieces."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Complete:
    """That was the file, and its whole content has this digest."""

    digest: bytes

    def __post_init__(self) -> None:
        _check_digest(self.digest)


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The file that has begun does not go on; without a reason, because the receiver failed."""

    reason: str

    def __post_init__(self) -> None:
        _check_reason(self.reason)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that should have been sent, and why it is not."""

    path: bytes
    reason: str

    def __post_init__(self) -> None:
        _check_path("path", self.path)
        _check_reason(self.reason)


@dataclass(frozen=True, slots=True)
class Done:
    """That was everything."""


# ---- what a receiver says ----


@dataclass(frozen=True, slots=True)
class Have:
    """The beginning of the file that asks is here already; the digest is of these bytes."""

    item: int  # the file's number: folders, links and files count, from 0
    offset: int
    digest: bytes

    def __post_init__(self) -> None:
        _check_number("item", self.item)
        _check_number("offset", self.offset)
        _check_digest(self.digest)


@dataclass(frozen=True, slots=True)
class Failed:
    """An item could not be written; whatever is left of it need not be sent."""

    item: int
    path: bytes
    reason: str

    def __post_init__(self) -> None:
        _check_number("item", self.item)
        _check_path("path", self.path)
        _check_reason(self.reason)


@dataclass(frozen=True, slots=True)
class Finished:
    """Everything has its name and lies on the disk, but for what `Failed`."""


@dataclass(frozen=True, slots=True)
class Violated:
    """What followed is no frame; nothing more is read from this stream."""

    reason: str


FromSender: TypeAlias = (
    Folder | Up | Link | File | At | Data | Complete | Abandoned | Unreadable | Done
)
FromReceiver: TypeAlias = Have | Failed | Finished
Event: TypeAlias = Put | Get | Ready | Refused | FromSender | FromReceiver

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
_TYPES: Final[Mapping[type[object], FrameType]] = {
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
    kind = _TYPES[type(event)]
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


# ---- the order of things ----


class Order:
    """What a sender may say next: folders end, content belongs to a file, and is as long as it.

    ``item`` is the number of the last item that began.
    """

    __slots__ = ("_asked", "_file_left", "_is_done", "depth", "item")

    def __init__(self) -> None:
        self.depth = 0
        self.item = -1
        self._file_left: int | None = None  # bytes of the file that has begun
        self._asked: int | None = None  # its size, until `At` says where it begins
        self._is_done = False

    def check(self, event: Event) -> None:
        """Take notice of what a sender says; raise `ValueError` if it cannot follow."""
        if self._is_done:
            raise self._unexpected(event)
        match event:
            case Folder(name) if self._file_left is None:
                if not name and self.depth:
                    raise ValueError("a folder without a name within a folder")
                if self.depth == MAX_DEPTH:
                    raise ValueError(f"more than {MAX_DEPTH} folders within each other")
                self.depth += 1
                self.item += 1
            case Up() if self._file_left is None and self.depth:
                self.depth -= 1
            case Link() if self._file_left is None:
                self.item += 1
            case File() if self._file_left is None:
                self.item += 1
                self._file_left = event.size
                self._asked = event.size if event.asks else None
            case At(offset) if self._asked is not None:
                if offset > self._asked:
                    raise ValueError(f"content at {offset} of {self._asked} bytes")
                self._file_left, self._asked = self._asked - offset, None
            case Data(data) if self._file_left is not None and self._asked is None:
                if len(data) > self._file_left:
                    raise ValueError(f"{len(data)} bytes of content, {self._file_left} are left")
                self._file_left -= len(data)
            case Complete() if self._file_left is not None and self._asked is None:
                if self._file_left:
                    raise ValueError(f"{self._file_left} bytes of content are missing")
                self._file_left = None
            case Abandoned() if self._file_left is not None:
                self._file_left = self._asked = None
            case Unreadable() if self._file_left is None:
                pass
            case Done() if self._file_left is None and not self.depth:
                self._is_done = True
            case _:
                raise self._unexpected(event)

    def _unexpected(self, event: Event) -> ValueError:
        within = "" if self._file_left is None else " within a file"
        return ValueError(f"{_TYPES[type(event)].name}{within} at depth {self.depth}")


# ---- what is right ----


def _check_name(name: bytes) -> None:
    if not 0 < len(name) <= MAX_NAME:
        raise ValueError(f"a name of {len(name)} bytes, not 1 to {MAX_NAME}")
    if name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise ValueError(f"{name!r} is no name of a file")


def _check_path(what: str, path: bytes) -> None:
    if len(path) > MAX_PATH:
        raise ValueError(f"{what}: a path of {len(path)} bytes, the limit is {MAX_PATH}")
    if b"\0" in path:
        raise ValueError(f"{what}: a NUL within")


def _check_reason(reason: str) -> None:
    if len(reason) > MAX_REASON:
        raise ValueError(f"a reason of {len(reason)} characters, the limit is {MAX_REASON}")


def _check_mode(mode: int) -> None:
    if not 0 <= mode <= 0o7777:
        raise ValueError(f"a mode of {mode:#o}")


def _check_digest(digest: bytes) -> None:
    if len(digest) != DIGEST_SIZE:
        raise ValueError(f"a digest of {len(digest)} bytes, not {DIGEST_SIZE}")


def _check_number(name: str, value: int) -> None:
    if not 0 <= value <= _MAX_NUMBER:
        raise ValueError(f"{name}: {value} is not between 0 and {_MAX_NUMBER}")
