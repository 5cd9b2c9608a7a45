"""The sending end without its stream: files and trees as what a sender says, in blocking calls.

A tree is walked as it is sent, from open folder to open folder and never through a link, so it may
be as large as it likes and change meanwhile. What cannot be read is told, and the rest goes on.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from dmsg_trio._wire.file_copy import (
    HEADER_SIZE,
    MAX_DEPTH,
    MAX_PATH,
    RESUMABLE,
    Abandoned,
    At,
    Complete,
    Data,
    Done,
    File,
    Folder,
    FromSender,
    Have,
    Link,
    Unreadable,
    Up,
    data_header,
    encode,
)

from ._partial import PIECE

BATCH: Final = 1024 * 1024  # bytes that are read before the network has its turn
SMALL: Final = 64 * 1024  # bytes that are better copied than sent by themselves
FRAME_SIZE: Final = HEADER_SIZE + PIECE
BUFFERS: Final = 3  # one is read into, one waits, one is sent
_NOTHING: Final = memoryview(b"")
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LATEST: Final = 2**63 - 1  # nanoseconds


@dataclass(frozen=True, slots=True)
class _Content:
    """A DATA frame in a buffer that will be used again; ``size`` is without its header."""

    frame: memoryview
    size: int


_Events: TypeAlias = Generator[FromSender | _Content, None, None]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of what a sender says, and as bytes; if it ``asks``, an answer comes next.

    Its last frame may be ``content`` that is in a buffer, which the third one after it uses again.
    """

    events: tuple[FromSender, ...]
    wire: bytes
    content: memoryview
    content_size: int
    asks: bool


def name_of(path: bytes) -> bytes:
    """Say what a source is called at the target: nothing, if it is the content of a folder."""
    name = os.path.basename(path.rstrip(b"/"))
    return b"" if name in (b".", b"..", b"~") else name


class Sender:
    """Reads ``sources``, each a path and its name; ``checkpoint`` may raise to end a long step."""

    def __init__(
        self,
        sources: Sequence[tuple[bytes, bytes]],
        *,
        recursive: bool,
        resume: bool,
        checkpoint: Callable[[], None],
    ) -> None:
        self._recursive = recursive
        self._resume = resume
        self._checkpoint = checkpoint
        self._events = self._everything(sources)
        self._items = 0  # that have begun
        self._failures = 0
        self._under_way: list[int] = []  # folders and at last a file
        self._unwanted: set[int] = set()  # of those
        self._have: Have | None = None
        self._buffers: deque[memoryview] = deque()

    # ---- what the receiver says ----

    def receiver_has_untrusted(self, have: Have) -> None:
        """Go on with the file that asked; `ValueError` if it was another one."""
        if not self._under_way or have.item != self._under_way[-1]:
            raise ValueError(f"an answer for item {have.item}, which did not ask")
        self._have = have

    def receiver_failed_untrusted(self, item: int) -> None:
        """Send no more of an item; `ValueError` if it is none."""
        self._failures += 1
        if item >= self._items or self._failures > self._items:
            raise ValueError(f"failure {self._failures}, of item {item} of {self._items}")
        if item in self._under_way:
            self._unwanted.add(item)

    @property
    def is_unwanted(self) -> bool:
        """Tell whether what is under way need not be sent."""
        return not self._unwanted.isdisjoint(self._under_way)

    # ---- what it says ----

    def next_batch(self) -> Batch | None:
        """Read what comes next; None at the end."""
        events: list[FromSender] = []
        wire: list[bytes] = []
        size = 0
        for event in self._events:
            if isinstance(event, _Content):
                return Batch(tuple(events), b"".join(wire), event.frame, event.size, asks=False)
            events.append(event)
            wire.append(encode(event))
            size += len(wire[-1])
            asks = isinstance(event, File) and event.asks
            if asks or size >= BATCH:
                return Batch(tuple(events), b"".join(wire), _NOTHING, 0, asks)
        return Batch(tuple(events), b"".join(wire), _NOTHING, 0, asks=False) if events else None

    def close(self) -> None:
        """Close all that is open."""
        self._events.close()

    # ---- trees ----

    def _everything(self, sources: Sequence[tuple[bytes, bytes]]) -> _Events:
        for path, name in sources:
            yield from self._source(path, name)
        yield Done()

    def _source(self, path: bytes, name: bytes) -> _Events:
        try:
            facts = os.stat(path, follow_symlinks=not (self._recursive and name))
            if stat.S_ISDIR(facts.st_mode) and not self._recursive:
                yield _unreadable(path, "a folder, and only -r copies those")
            elif self._recursive and name:
                folder = os.open(os.path.dirname(path.rstrip(b"/")) or b"/", os.O_DIRECTORY)
                with _closing(folder):
                    yield from self._thing(folder, name, path)
            elif stat.S_ISDIR(facts.st_mode):
                with _closing(os.open(path, _OPEN & ~os.O_NOFOLLOW | os.O_DIRECTORY)) as number:
                    yield from self._folder(number, name, path)
            elif not stat.S_ISREG(facts.st_mode):
                yield _unreadable(path, "no regular file")
            else:
                with _closing(os.open(path, _OPEN & ~os.O_NOFOLLOW)) as number:
                    yield from self._file(number, name, path)
        except OSError as error:
            yield _unreadable(path, error)

    def _thing(self, folder: int, name: bytes, path: bytes) -> _Events:
        """Send whatever has that name in an open folder."""
        try:
            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(facts.st_mode):
                target = os.readlink(name, dir_fd=folder)
                self._items += 1
                yield Link(name, target, _mtime(facts))
            elif stat.S_ISDIR(facts.st_mode):
                if len(self._under_way) == MAX_DEPTH:
                    yield _unreadable(path, f"more than {MAX_DEPTH} folders within each other")
                    return
                with _closing(os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=folder)) as number:
                    yield from self._folder(number, name, path)
            elif stat.S_ISREG(facts.st_mode):
                with _closing(os.open(name, _OPEN, dir_fd=folder)) as number:
                    yield from self._file(number, name, path)
            else:
                yield _unreadable(path, "neither a file nor a folder nor a link")
        except OSError as error:
            yield _unreadable(path, error)

    def _folder(self, number: int, name: bytes, path: bytes) -> _Events:
        facts = os.fstat(number)
        with self._item():
            yield Folder(name, stat.S_IMODE(facts.st_mode), _mtime(facts))
            try:
                with os.scandir(number) as entries:
                    for entry in entries:
                        if self.is_unwanted:
                            break
                        within = os.fsencode(entry.name)
                        yield from self._thing(number, within, os.path.join(path, within))
            except OSError as error:
                yield _unreadable(path, error)
            yield Up()

    # ---- files ----

    def _file(self, number: int, name: bytes, path: bytes) -> _Events:
        facts = os.fstat(number)
        if not stat.S_ISREG(facts.st_mode):
            yield _unreadable(path, "no regular file any more")
            return
        asks = self._resume and facts.st_size >= RESUMABLE
        with self._item():
            mode = stat.S_IMODE(facts.st_mode)
            yield File(name, facts.st_size, mode, _mtime(facts), asks)
            try:
                yield from self._content(number, facts, asks=asks)
            except OSError as error:
                yield Abandoned(error.strerror or str(error))

    def _content(self, number: int, before: os.stat_result, *, asks: bool) -> _Events:
        digest, at = hashlib.sha256(), 0
        if asks and not self.is_unwanted:
            digest, at = self._common_beginning(number, before.st_size)
            yield At(at)
        while not self.is_unwanted:
            # One byte more than there should be: so a file that grows is noticed.
            wanted = min(PIECE, before.st_size - at + 1)
            data, said = self._read(number, wanted, at)
            at += len(data)
            if not data or at > before.st_size:
                break
            digest.update(data)
            yield said
        after = os.fstat(number)
        if self.is_unwanted:
            yield Abandoned("")
        elif at != before.st_size or _state(before) != _state(after):
            yield Abandoned("it changed while it was read")
        else:
            yield Complete(digest.digest())

    def _read(
        self, number: int, wanted: int, at: int
    ) -> tuple[bytes | memoryview, Data | _Content]:
        """Read into a buffer of our own if it is much: new memory costs more than to read."""
        if wanted <= SMALL:
            piece = os.pread(number, wanted, at)
            return piece, Data(piece)
        if not self._buffers:
            self._buffers += (memoryview(bytearray(FRAME_SIZE)) for _ in range(BUFFERS))
        self._buffers.rotate()
        frame = self._buffers[0]
        count = os.preadv(number, [frame[HEADER_SIZE : HEADER_SIZE + wanted]], at)
        data = frame[HEADER_SIZE : HEADER_SIZE + count]
        if count:
            frame[:HEADER_SIZE] = data_header(count)
        return data, _Content(frame[: HEADER_SIZE + count], count)

    def _common_beginning(self, number: int, size: int) -> tuple[hashlib._Hash, int]:
        """See how much of what the receiver has is in this file; and its digest."""
        have, self._have = self._have, None
        digest, at = hashlib.sha256(), 0
        if have is None or have.offset > size:
            return digest, 0
        while at < have.offset:
            self._checkpoint()
            data = os.pread(number, min(PIECE, have.offset - at), at)
            if not data:
                break
            digest.update(data)
            at += len(data)
        return (digest, at) if digest.digest() == have.digest else (hashlib.sha256(), 0)

    @contextmanager
    def _item(self) -> Iterator[None]:
        number = self._items
        self._items += 1
        self._under_way.append(number)
        try:
            yield
        finally:
            self._under_way.pop()
            self._unwanted.discard(number)


@contextmanager
def _closing(number: int) -> Iterator[int]:
    try:
        yield number
    finally:
        os.close(number)


def _unreadable(path: bytes, reason: OSError | str) -> Unreadable:
    text = reason.strerror or str(reason) if isinstance(reason, OSError) else reason
    return Unreadable(path[-MAX_PATH:], text)


def _mtime(facts: os.stat_result) -> int:
    return max(-_LATEST, min(facts.st_mtime_ns, _LATEST))


def _state(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_size, facts.st_mtime_ns
