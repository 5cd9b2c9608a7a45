"""A file on its way in: whole under its name, or not there at all.

What comes is written to a file that nobody gets, which takes the name when all of it is there.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

import trio

from ._answers import Answer, text
from ._conditions import Verdict, Version
from ._tree import UPLOAD_PREFIX, Opened

BATCH: Final = 1024 * 1024  # bytes that are written at once

_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """What clients may add to the folder."""

    max_size: int  # bytes of a file
    overwrite: bool = False


class Refusal(Exception):
    """A file is not taken; the answer says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Taken(NamedTuple):
    """A file that was taken."""

    tag: str
    was_there: bool


class Arriving:
    """A file that is not whole yet; `Refusal` if it cannot be, or not under this name."""

    def __init__(
        self,
        folder: Opened,
        name: bytes,
        headers: Mapping[str, str],
        options: UploadOptions,
        limiter: trio.CapacityLimiter,
    ) -> None:
        self._folder, self._name, self._headers = folder, name, headers
        self._options, self._limiter = options, limiter
        self._check_place_untrusted()
        self._batch = bytearray()
        self._written = 0
        self._file = _Unnamed(folder.number)

    @property
    def size(self) -> int:
        """How much of it is here."""
        return self._written + len(self._batch)

    async def write(self, data: bytes) -> None:
        """Take in what comes next."""
        self._batch += data
        if self.size > self._options.max_size:
            raise too_large(self._options)
        if len(self._batch) >= BATCH:
            await self._flush()

    async def finish(self) -> Taken:
        """Be the file of its name."""
        await self._flush()
        await trio.to_thread.run_sync(os.fsync, self._file.number, limiter=self._limiter)
        # Nothing is awaited from here on: what was checked is what is replaced, as far as we go.
        was_there = self._check_place_untrusted()
        try:
            self._file.take_name(self._name, overwrite=was_there)
        except FileExistsError:
            raise _taken(self._options) from None
        except OSError as error:
            raise _no_room_or(error) from error
        return Taken(Version.of(os.fstat(self._file.number)).tag, was_there)

    def close(self) -> None:
        """Leave nothing but what took its name."""
        self._file.close()

    async def _flush(self) -> None:
        if not self._batch:
            return
        data = bytes(self._batch)
        try:
            await trio.to_thread.run_sync(self._file.write, data, limiter=self._limiter)
        except OSError as error:
            raise _no_room_or(error) from error
        self._written += len(data)
        self._batch.clear()

    def _check_place_untrusted(self) -> bool:
        """Say whether a file is there that may be replaced; `Refusal` if the place is taken."""
        try:
            status = os.stat(self._name, dir_fd=self._folder.number, follow_symlinks=False)
        except FileNotFoundError:
            if "if-match" in self._headers:
                raise Refusal(text(412, "Precondition Failed: the file is not there")) from None
            return False
        verdict = Version.of(status).judge_untrusted(self._headers, is_read=False)
        if verdict is not Verdict.GO_ON:
            raise Refusal(text(412, "Precondition Failed: the file is there, or another one"))
        # A link is replaced, and not what it leads to.
        if not self._options.overwrite or not (
            stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)
        ):
            raise _taken(self._options)
        return True


class _Unnamed:
    """A file that nobody gets."""

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._name = UPLOAD_PREFIX + secrets.token_hex(8).encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.number = os.open(self._name, flags, 0o666, dir_fd=folder)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.number, rest) :]

    def take_name(self, name: bytes, *, overwrite: bool) -> None:
        """Be the file of this name; `FileExistsError` if one came to be meanwhile."""
        folder = self._folder
        if not overwrite:
            try:
                os.link(
                    self._name, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False
                )
                return
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
            # Where a file can have one name only, an empty one keeps the place.
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, dir_fd=folder))
        os.rename(self._name, name, src_dir_fd=folder, dst_dir_fd=folder)

    def close(self) -> None:
        os.close(self.number)
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._folder)


def too_large(options: UploadOptions) -> Refusal:
    """Say how large a file may be."""
    return Refusal(text(413, f"more than {options.max_size} bytes are not taken"))


def _no_room_or(error: OSError) -> Exception:
    if error.errno in _NO_ROOM:
        return Refusal(text(507, f"no room: {os.strerror(error.errno or 0)}"))
    return error


def _taken(options: UploadOptions) -> Refusal:
    if options.overwrite:
        return Refusal(text(409, "Conflict: something is there that is no file"))
    return Refusal(text(409, "Conflict: the name is taken, and files are not replaced here"))
