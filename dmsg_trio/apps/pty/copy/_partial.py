"""The file under way: hidden, locked, private, and never mistaken for another one.

Its name tells for which file it is and of which state of the source (size and time), so that the
next run finds it again. What it holds is trusted by nobody before its digest was compared.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from dmsg_trio._wire.file_copy import File

MAX_PIECES: Final = 512  # that one call of the system writes; all systems take 1024
PIECE: Final = 1024 * 1024  # bytes that are read or hashed at once
MAX_STALE: Final = 1024  # parts of files in one folder that are looked at
_PARTIAL: Final = re.compile(rb"\.dmsg-[0-9a-f]{16}-[0-9a-f]{16}\.part")
_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PartialFile:
    """A file that has no name of its own yet; ``digest`` is of all that was written."""

    def __init__(self, folder: int, name: bytes, number: int) -> None:
        self._folder = folder
        self._name = name
        self.number = number
        self.size = os.fstat(number).st_size
        self.digest = hashlib.sha256()

    # ---- filling ----

    def read_through(self, checkpoint: Callable[[], None]) -> None:
        """Take what is there from an earlier run into the digest."""
        self.size = hash_file(self.number, self.digest, checkpoint)
        os.lseek(self.number, self.size, os.SEEK_SET)

    def empty(self) -> None:
        """Begin anew."""
        os.lseek(self.number, 0, os.SEEK_SET)
        os.ftruncate(self.number, 0)
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, pieces: list[bytes]) -> None:
        """Add to the end, and use up the list; to join the pieces would cost as much as to write."""
        at = 0
        while at < len(pieces):
            count = os.writev(self.number, pieces[at : at + MAX_PIECES])
            self.size += count
            while count:
                written = pieces[at][:count]
                self.digest.update(written)
                count -= len(written)
                pieces[at] = pieces[at][len(written) :]
                at += not pieces[at]

    # ---- ending ----

    def give_name(self, name: bytes, *, overwrite: bool) -> None:
        """Be the file of that name from now on: in one step, and not through a link."""
        folder = self._folder
        if overwrite:
            os.rename(self._name, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            options = {"src_dir_fd": folder, "dst_dir_fd": folder}
            os.link(self._name, name, **options, follow_symlinks=False)
            os.unlink(self._name, dir_fd=folder)

    def close(self, *, keep: bool) -> None:
        """Leave it for the next run, or remove it."""
        try:
            if not keep and _is_named(self.number, self._name, self._folder):
                os.unlink(self._name, dir_fd=self._folder)
        finally:
            os.close(self.number)  # which unlocks it


def open_partial(folder: int, file: File) -> PartialFile:
    """Find the part of ``file`` that is in ``folder`` from an earlier run, or begin an empty one."""
    name = partial_name(file)
    for each in (name, name, None):  # None: it is somebody else's, or another copy is at it
        unused = each or b".dmsg-%s.part" % secrets.token_hex(16).encode()
        number = _claim(folder, unused)
        if number is None:
            number = _create(folder, unused)
        if number is not None:
            return PartialFile(folder, unused, number)
    raise FileExistsError(errno.EEXIST, "another copy is at this file")


def partial_name(file: File) -> bytes:
    """Name the part of a file after it and after the state of its source."""
    state = f"{file.size} {file.mtime}".encode()
    target, source = (hashlib.sha256(each).hexdigest()[:16] for each in (file.name, state))
    return f".dmsg-{target}-{source}.part".encode()


def stale_names(folder: int) -> list[bytes]:
    """List the parts of files, whichever, that earlier runs left in a folder."""
    with os.scandir(folder) as entries:
        names = (os.fsencode(entry.name) for entry in entries)
        return list(islice((name for name in names if _PARTIAL.fullmatch(name)), MAX_STALE))


def remove_stale(folder: int, file: File, candidates: Iterable[bytes]) -> None:
    """Remove what is left of ``file`` in another state; whoever is at work on it keeps it."""
    wanted = partial_name(file)
    same_target = wanted[: len(b".dmsg-") + 16]
    for name in candidates:
        if name.startswith(same_target) and name != wanted:
            number = _claim(folder, name)
            if number is not None:
                PartialFile(folder, name, number).close(keep=False)


def hash_file(number: int, digest: hashlib._Hash, checkpoint: Callable[[], None]) -> int:
    """Read a file from its beginning into ``digest``, and say how long it is."""
    at = 0
    while piece := os.pread(number, PIECE, at):
        checkpoint()
        digest.update(piece)
        at += len(piece)
    return at


def _create(folder: int, name: bytes) -> int | None:
    try:
        number = os.open(name, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
    except FileExistsError:
        return None
    return _locked(folder, name, number)


def _claim(folder: int, name: bytes) -> int | None:
    try:
        number = os.open(name, _FLAGS, dir_fd=folder)
    except OSError:  # it is not there, or a link, or not for us
        return None
    facts = os.fstat(number)
    is_private = facts.st_uid == os.geteuid() and facts.st_nlink == 1 and not facts.st_mode & 0o077
    if stat.S_ISREG(facts.st_mode) and is_private:
        return _locked(folder, name, number)
    os.close(number)
    return None


def _locked(folder: int, name: bytes, number: int) -> int | None:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        return None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # a file system without locks
            os.close(number)
            raise
    # Who had the lock before may have given the file its name: then it is not ours to write.
    if _is_named(number, name, folder):
        return number
    os.close(number)
    return None


def _is_named(number: int, name: bytes, folder: int) -> bool:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(number))
