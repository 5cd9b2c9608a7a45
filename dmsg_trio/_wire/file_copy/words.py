"""What the two sides of files/1 say, as values that exist only if they are right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

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

_MAX_NUMBER: Final = 2**63 - 1  # what every language can count, and what files can be


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
