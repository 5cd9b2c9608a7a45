"""A file that is not complete yet: beside its target, locked, with a note of what it is a part of.

The target is touched once, by the rename at the end, so it is never wrong: it is what it was, or it
is complete. Bytes are written before the note says that they are there, and a note never outlives
the bytes that it speaks of: that holds wherever the program is killed.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from ._codes import ExitCode, TransferError
from ._versions import Version

SUFFIX: Final = ".dmsgpart"
NOTE_SUFFIX: Final = ".dmsgpart.json"
LONGEST_NOTE: Final = 64 * 1024
RIGHTS: Final = 0o777  # of the old file, and not that it runs in the name of its owner

Span = tuple[int, int]  # from here up to there


class Note(msgspec.Struct):
    """What is remembered of a part; without ``have`` it is there from its start to its size."""

    url: str
    version: Version
    have: list[Span] | None = None


class PartFile:
    """The incomplete file of one target; `TransferError` if another program is at it."""

    def __init__(self, target: Path, *, create_folders: bool = False) -> None:
        self.target = Path(os.path.realpath(target))  # a link stays, and leads to the new content
        self.path = _beside(self.target, SUFFIX)
        self._note_path = _beside(self.target, NOTE_SUFFIX)
        self.fd = -1
        with saying(f"creating {self.path}"):
            if create_folders:
                self.target.parent.mkdir(parents=True, exist_ok=True)
            self.fd = self._open_and_lock()

    def _open_and_lock(self) -> int:
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            fd = os.open(self.path, flags, 0o666)
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise TransferError(ExitCode.WRITE_ERROR, f"{self.path} is no file")
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever had the lock may have made it the target meanwhile.
                if os.path.samestat(os.fstat(fd), os.stat(self.path)):
                    return fd
            except FileNotFoundError:
                pass
            except BlockingIOError:
                os.close(fd)
                reason = f"{self.target}: another download writes to it"
                raise TransferError(ExitCode.WRITE_ERROR, reason) from None
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    # ---- what is there ----

    @property
    def size(self) -> int:
        """How long it is, gaps included."""
        return os.fstat(self.fd).st_size

    def note(self, url: str) -> Note | None:
        """Read what is remembered, if it is of this URL and can be gone on with."""
        try:
            with open(self._note_path, "rb", opener=_open_no_other) as file:
                note = msgspec.json.decode(file.read(LONGEST_NOTE), type=Note)
        except (OSError, msgspec.DecodeError):
            return None
        return note if note.url == url and note.version.validator and self.size else None

    def remember(self, note: Note) -> None:
        """Write down what this is a part of."""
        new = self._note_path.with_name(self._note_path.name + "~")
        with saying(f"writing {new}"):
            new.unlink(missing_ok=True)  # what a killed run left, or a link that somebody put there
            with open(new, "xb", opener=_open_no_other) as file:
                file.write(msgspec.json.encode(note))
            new.replace(self._note_path)

    def clear(self) -> None:
        """Begin anew."""
        with saying(f"writing {self.path}"):
            self._note_path.unlink(missing_ok=True)
            os.ftruncate(self.fd, 0)

    def cut_to(self, size: int) -> None:
        """Drop what is behind ``size`` bytes."""
        with saying(f"writing {self.path}"):
            os.ftruncate(self.fd, size)

    def take_from_target(self, size: int) -> None:
        """Begin with what the target begins with."""
        self.clear()
        with saying(f"reading {self.target}"), self.target.open("rb") as file:
            while (at := self.size) < size:
                data = file.read(min(1024 * 1024, size - at))
                if not data:
                    reason = f"{self.target} ends at {at}, before {size}"
                    raise TransferError(ExitCode.RANGE_ERROR, reason)
                self.write(data, at)

    def write(self, data: bytes | bytearray | memoryview, at: int) -> None:
        """Write all of ``data`` to its place."""
        with saying(f"writing {self.path}"):
            written = os.pwrite(self.fd, data, at)
            while written < len(data):
                written += os.pwrite(self.fd, memoryview(data)[written:], at + written)

    # ---- the end ----

    def become_target(self, *, changed_at: float | None = None) -> None:
        """Take the target's place, complete as this is now, with its permissions."""
        with saying(f"replacing {self.target}"):
            if self.target.exists():
                os.fchmod(self.fd, self.target.stat().st_mode & RIGHTS)
            if changed_at is not None:
                os.utime(self.fd, (changed_at, changed_at))
            self.path.replace(self.target)
            self._note_path.unlink(missing_ok=True)
        self.close()

    def leave(self) -> bool:
        """Keep what another run can go on with, and say if there is any; drop the rest."""
        keeps = self.size > 0 and self._note_path.exists()
        if not keeps:
            self._note_path.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)  # last, as who comes next may write a note then
        self.close()
        return keeps

    def close(self) -> None:
        """Let others have it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class saying:  # noqa: N801 - reads as a word in a with statement
    """Turn an error of the system into one that says what was being done."""

    def __init__(self, doing: str, code: ExitCode = ExitCode.WRITE_ERROR) -> None:
        self._doing = doing
        self._code = code

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise TransferError(self._code, f"{self._doing}: {reason}") from error


def _open_no_other(path: str, flags: int) -> int:
    """Open a file, but neither what a link leads to nor a pipe to wait at."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}{suffix}")


# ---- which bytes there are ----


def joined(spans: Iterable[Span]) -> list[Span]:
    """Sort spans, and make one of those that touch."""
    result: list[Span] = []
    for start, stop in sorted(each for each in spans if each[0] < each[1]):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(stop, result[-1][1])
        else:
            result.append((start, stop))
    return result


def gaps(have: Iterable[Span], total: int) -> list[Span]:
    """Say what is missing."""
    missing, at = [], 0
    for start, stop in joined(have):
        if at < start:
            missing.append((at, min(start, total)))
        at = max(at, stop)
    return [*missing, (at, total)] if at < total else missing
