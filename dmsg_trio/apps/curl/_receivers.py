"""Where the body of an answer goes: a stream, or a file that is whole or not there at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
import trio

from ._codes import ExitCode, TransferError, place
from ._names import name_in_header, name_in_url
from ._parts import Note, PartFile, Span, gaps, joined, saying
from ._unpacking import Piece
from ._versions import Version, moment

Write = Callable[[Piece], Awaitable[None]]


class Receiver(Protocol):
    """What takes a body; ``have`` says which bytes of which ``version`` it has got so far."""

    version: Version
    have: list[Span]

    def begin(self, url: httpx.URL, version: Version) -> None:
        """Begin anew, with this version."""
        ...

    async def write(self, data: Piece, at: int) -> None:
        """Take bytes and their place."""
        ...

    def finish(self, response: httpx.Response) -> None:
        """All is there."""
        ...

    def leave(self) -> str:
        """No more will come; say what is kept for another run, if anything."""
        ...


class StreamReceiver:
    """A stream takes bytes in their order and never gives them back."""

    def __init__(self, write: Write) -> None:
        self.version = Version()
        self.have: list[Span] = []
        self._write = write

    def begin(self, url: httpx.URL, version: Version) -> None:
        """Begin, which works once."""
        if self.have:
            reason = f"receiving from {place(url)}: what broke off cannot be gone on with safely,"
            reason += " and its beginning is written already"
            raise TransferError(ExitCode.PARTIAL, reason, may_pass=False)
        self.version = version

    async def write(self, data: Piece, at: int) -> None:
        """Write what comes next."""
        await self._write(data)
        self.have = [(self.have[0][0] if self.have else at, at + len(data))]

    def finish(self, response: httpx.Response) -> None:
        """Nothing is left to do."""

    def leave(self) -> str:
        """Nothing can be taken back."""
        return ""


class FileReceiver:
    """The file of a target that is made when it is complete."""

    def __init__(self, part: PartFile, *, name: str = "", keeps_time: bool = False) -> None:
        self.part = part
        self.name = name or str(part.target)  # as it was said
        self.version = Version()
        self.have: list[Span] = []
        self._keeps_time = keeps_time
        self._url = ""
        self.is_scattered = False  # its size does not say what is there

    def recall(self, url: httpx.URL) -> bool:
        """Go on with what another run has left, if that can be done safely."""
        note = self.part.note(str(url))
        if note is None:
            return False
        size = self.part.size
        spans = [(0, size)] if note.have is None else note.have
        self.have = joined((start, min(stop, size)) for start, stop in spans if start < size)
        self.version, self._url = note.version, note.url
        if not self.have:
            return False
        # Behind it may be bytes that no note speaks of: a size must not speak of them either.
        self.part.cut_to(self.have[-1][1])
        self.remember()
        return True

    def take_from_target(self, size: int) -> None:
        """Go on behind so many bytes of the target, whatever they are."""
        self.part.take_from_target(size)
        self.have = [(0, size)] if size else []

    def begin(self, url: httpx.URL, version: Version) -> None:
        """Begin anew; what can be told from other versions is remembered."""
        self.part.clear()
        self.version, self.have, self._url = version, [], str(url)
        self.is_scattered = False
        self.remember()

    def scatter(self) -> None:
        """Prepare for bytes that do not come in their order: from now on notes say which are there."""
        self.is_scattered = True
        self.remember()

    def remember(self) -> None:
        """Write down what is there, if it is of use to another run."""
        if self.version.validator:
            in_order = self.have in ([], [(0, self.part.size)]) and not self.is_scattered
            self.part.remember(Note(self._url, self.version, None if in_order else self.have))

    async def write(self, data: Piece, at: int) -> None:
        """Write to the page cache, which takes less time than a thread to do it in."""
        self.part.write(data, at)
        stop = at + len(data)
        if self.have and self.have[-1][1] == at:
            self.have[-1] = self.have[-1][0], stop
        else:
            self.have = joined([*self.have, (at, stop)])

    def missing(self) -> list[Span]:
        """Which spans are still to come, where the length is known."""
        return gaps(self.have, self.version.total or 0)

    def finish(self, response: httpx.Response) -> None:
        """Make it the target."""
        changed = moment(response.headers.get("last-modified", "")) if self._keeps_time else None
        self.part.become_target(changed_at=changed.timestamp() if changed else None)

    def leave(self) -> str:
        """Keep what is good for `recall`."""
        if self.part.fd < 0:
            return ""
        if self.is_scattered:
            self.remember()
        count = sum(stop - start for start, stop in self.have)
        return f"{count} bytes are kept in {self.part.path}" if self.part.leave() else ""


# ---- what the user said ----


@dataclass(frozen=True, slots=True)
class ToStream:
    """The body goes to a stream."""

    write: Write


@dataclass(frozen=True, slots=True, kw_only=True)
class ToFile:
    """The body becomes a file: of this path, or of a name that the answer or the URL gives."""

    path: Path | None = None
    folder: Path = Path()
    asks_header: bool = False
    create_folders: bool = False
    goes_on: bool = False  # with what another run left
    from_byte: int = 0  # goes on behind so many bytes of the target
    keeps_time: bool = False

    def path_for(self, url: httpx.URL, response: httpx.Response | None = None) -> Path:
        """Say where the body goes."""
        if self.path is not None:
            return self.folder / self.path
        if response is not None and self.asks_header:
            name = name_in_header(response.headers.get("content-disposition", ""))
            if name:
                path = self.folder / name
                if os.path.lexists(path):  # the name is the server's choice, not the user's
                    raise TransferError(
                        ExitCode.WRITE_ERROR, f"{path} exists, refusing to replace it"
                    )
                return path
        return self.folder / name_in_url(url)

    def open(self, url: httpx.URL, response: httpx.Response | None = None) -> Receiver:
        """Make the file that is not complete yet; a device or pipe is written to as it is."""
        path = self.path_for(url, response)
        with saying(f"opening {path}"):
            if path.is_dir():
                raise TransferError(ExitCode.WRITE_ERROR, f"{path} is a folder")
            if path.exists() and not path.is_file():
                return SpecialFile(path)
        if self.from_byte and not path.exists():
            reason = f"{path} is not there to go on with; -r {self.from_byte}- has the rest alone"
            raise TransferError(ExitCode.RANGE_ERROR, reason)
        part = PartFile(path, create_folders=self.create_folders)
        receiver = FileReceiver(part, name=str(path), keeps_time=self.keeps_time)
        if self.from_byte:
            receiver.take_from_target(self.from_byte)
        elif self.goes_on:
            receiver.recall(url)
        return receiver


class SpecialFile(StreamReceiver):
    """A device or a named pipe, which is what it is."""

    def __init__(self, path: Path) -> None:
        super().__init__(self._write_to_it)
        self.name = str(path)
        self._path = path
        self._fd = -1

    async def _write_to_it(self, data: Piece) -> None:
        with saying(f"writing {self._path}"):
            if self._fd < 0:
                self._fd = await trio.to_thread.run_sync(
                    os.open, self._path, os.O_WRONLY | os.O_CLOEXEC, abandon_on_cancel=True
                )
            if stat.S_ISCHR(os.fstat(self._fd).st_mode):
                os.write(self._fd, data)
                return
            rest = memoryview(data)
            while rest:
                written = await trio.to_thread.run_sync(
                    os.write, self._fd, rest, abandon_on_cancel=True
                )
                rest = rest[written:]

    def finish(self, response: httpx.Response) -> None:
        """Close it."""
        self.leave()

    def leave(self) -> str:
        """Close it; nothing can be taken back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        return ""
