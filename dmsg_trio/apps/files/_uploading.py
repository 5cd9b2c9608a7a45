"""Files on their way in: whole under their name, or not there at all.

What comes is written to a file that nobody gets, which takes the name when all of it is there.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

from ._answers import Answer, Exchange, text
from ._conditions import Verdict, Version
from ._target import Target
from ._tree import UPLOAD_PREFIX, Opened, Tree

MAX_UPLOADS: Final = 16  # at once
BATCH: Final = 1024 * 1024  # bytes that are written at once
PATIENCE: Final = 60  # seconds for the next bytes
LONGEST_LENGTH: Final = 19  # digits of a length that can be meant

_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """What clients may add to the folder."""

    max_size: int  # bytes of a file
    overwrite: bool = False


class _Refusal(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Uploads:
    """Takes files in."""

    def __init__(self, tree: Tree, options: UploadOptions, limiter: trio.CapacityLimiter) -> None:
        self._tree = tree
        self._options = options
        self._limiter = limiter
        self._count = 0

    async def take_untrusted(self, exchange: Exchange, target: Target) -> Answer | None:
        """Take in the body of a request as a file; None if the client went before its end."""
        if self._count == MAX_UPLOADS:
            return text(503, f"{MAX_UPLOADS} uploads are under way: try again", retry_after="5")
        self._count += 1
        try:
            self._check_head_untrusted(exchange, target)
            folder = await self._in_thread_open(target.names[:-1])
            try:
                return await self._take_into(folder, target, exchange)
            finally:
                folder.close()
        except _Refusal as refusal:
            return refusal.answer
        finally:
            self._count -= 1

    def _check_head_untrusted(self, exchange: Exchange, target: Target) -> None:
        if target.is_folder or not target.names:
            raise _Refusal(text(409, "a file needs a name: the path ends in a slash"))
        try:
            self._tree.check_name(target.names[-1])
        except FileNotFoundError:
            raise _Refusal(text(403, "Forbidden: names with a dot in front are hidden")) from None
        if "content-range" in exchange.headers:
            raise _Refusal(text(400, "parts of files are not taken, only whole ones"))
        if exchange.headers.get("content-encoding", "identity") != "identity":
            raise _Refusal(text(415, "files are taken as they are, without Content-Encoding"))
        length = exchange.headers.get("content-length", "0")
        if len(length) > LONGEST_LENGTH or int(length) > self._options.max_size:
            raise self._too_large()

    def _too_large(self) -> _Refusal:
        return _Refusal(text(413, f"more than {self._options.max_size} bytes are not taken"))

    async def _in_thread_open(self, names: Sequence[bytes]) -> Opened:
        folder = await trio.to_thread.run_sync(
            self._tree.open_untrusted, names, limiter=self._limiter
        )
        if not folder.is_folder:
            folder.close()
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return folder

    async def _take_into(self, folder: Opened, target: Target, exchange: Exchange) -> Answer | None:
        name = target.names[-1]
        was_there = self._check_place_untrusted(folder, name, exchange)
        upload = _Upload(folder.number)
        try:
            if not await self._write_untrusted(upload, exchange):
                return None
            await trio.to_thread.run_sync(os.fsync, upload.number, limiter=self._limiter)
            # Nothing is awaited from here on: what was checked is what is replaced, as far as we go.
            was_there = self._check_place_untrusted(folder, name, exchange)
            upload.take_name(name, overwrite=was_there)
            tag = Version.of(os.fstat(upload.number)).tag
        except FileExistsError:
            raise _Refusal(_taken(self._options)) from None
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise _Refusal(text(507, f"no room: {os.strerror(error.errno or 0)}")) from error
            raise
        finally:
            upload.close()
        if was_there:
            return Answer(204, headers={"etag": tag})
        return text(201, "Created", etag=tag, location=target.path)

    def _check_place_untrusted(self, folder: Opened, name: bytes, exchange: Exchange) -> bool:
        """Say whether a file is there that may be replaced; `_Refusal` if the place is taken."""
        try:
            status = os.stat(name, dir_fd=folder.number, follow_symlinks=False)
        except FileNotFoundError:
            if "if-match" in exchange.headers:
                raise _Refusal(text(412, "Precondition Failed: the file is not there")) from None
            return False
        verdict = Version.of(status).judge_untrusted(exchange.headers, is_read=False)
        if verdict is not Verdict.GO_ON:
            raise _Refusal(text(412, "Precondition Failed: the file is there, or another one"))
        # A link is replaced, and not what it leads to.
        if not self._options.overwrite or not (
            stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)
        ):
            raise _Refusal(_taken(self._options))
        return True

    async def _write_untrusted(self, upload: _Upload, exchange: Exchange) -> bool:
        """Write what comes; say whether all came that was announced."""
        batch, size, more = bytearray(), 0, True
        while more:
            try:
                with trio.fail_after(PATIENCE):
                    message = await exchange.receive()
            except trio.TooSlowError:
                raise _Refusal(text(408, f"nothing came for {PATIENCE} s")) from None
            if message["type"] != "http.request":
                return False
            batch += message.get("body", b"")
            more = message.get("more_body", False)
            if size + len(batch) > self._options.max_size:
                raise self._too_large()
            if len(batch) >= BATCH or (batch and not more):
                await trio.to_thread.run_sync(upload.write, bytes(batch), limiter=self._limiter)
                size += len(batch)
                batch.clear()
        return size == int(exchange.headers.get("content-length", size))


class _Upload:
    """A file that is not whole yet."""

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
        """Leave nothing but what took its name."""
        os.close(self.number)
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._folder)


def _taken(options: UploadOptions) -> Answer:
    if options.overwrite:
        return text(409, "Conflict: something is there that is no file")
    return text(409, "Conflict: the name is taken, and files are not replaced here")
