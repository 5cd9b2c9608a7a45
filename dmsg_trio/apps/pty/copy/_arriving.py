"""One file that arrives: what of it is there already, its content, and when it is whole."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from dmsg_trio._wire.file_copy import File, Have

from ._partial import PartialFile, hash_file, open_partial, remove_stale
from ._policy import PERMISSIONS, Policy
from ._settling import WholeFile
from ._target import Place, look_at

NO_DIGEST: Final = hashlib.sha256().digest()


class WrongContentError(OSError):
    """What was written is not what was read."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "not what the sender read: the digests differ")


@dataclass(slots=True)
class ArrivingFile:
    """A file under way. `OSError` says why it cannot be written; then it has to be dropped."""

    item: int
    file: File
    place: Place
    policy: Policy
    checkpoint: Callable[[], None]
    _mode: int = 0
    _partial: PartialFile | None = None
    _same: int | None = None  # a descriptor of the file that has this name, if that may be the same
    _offered: int = 0  # bytes of either that the sender was told of

    @property
    def _goes_on(self) -> bool:
        """Whether a later run may go on with what this one leaves."""
        return self.policy.resume and self.file.asks

    # ---- what is there ----

    def open(self, umask: int, stale: Callable[[int], list[bytes]]) -> Have | None:
        """Find or make the part that is written, and say what the sender is to be told of it."""
        file, folder = self.file, self.place.folder
        if self.place.must_be_folder:
            raise NotADirectoryError(errno.ENOTDIR, "no such folder")
        found = look_at(self.place, overwrite=self.policy.overwrite)
        if self.policy.preserve or found is None or not stat.S_ISREG(found.st_mode):
            self._mode = file.mode & PERMISSIONS & ~(0 if self.policy.preserve else umask)
        else:
            self._mode = found.st_mode & PERMISSIONS  # as if its content were replaced
        named = replace(file, name=self.place.name)
        if self._goes_on:
            remove_stale(folder, named, stale(folder))
        self._partial = partial = open_partial(folder, named)
        if not self._goes_on:
            partial.empty()
        elif partial.size:
            partial.read_through(self.checkpoint)
            if partial.size > file.size:
                partial.empty()
            self._offered = partial.size
        elif found is not None and stat.S_ISREG(found.st_mode) and found.st_size == file.size:
            return self._offer_what_is_there()
        return Have(self.item, partial.size, partial.digest.digest()) if file.asks else None

    def _offer_what_is_there(self) -> Have:
        """A file of the same length has the name: perhaps an earlier run brought it."""
        digest = hashlib.sha256()
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._same = os.open(self.place.name, flags, dir_fd=self.place.folder)
            self._offered = hash_file(self._same, digest, self.checkpoint)
        except OSError:  # one may replace what one may not read
            return Have(self.item, 0, NO_DIGEST)
        if self._offered > self.file.size:  # it grows
            self._offered, digest = 0, hashlib.sha256()
        return Have(self.item, self._offered, digest.digest())

    # ---- content ----

    def go_on_at_untrusted(self, offset: int) -> bool:
        """Begin where the sender does; say whether there is anything to write."""
        if offset not in (0, self._offered):
            raise ValueError(f"content at {offset}, but {self._offered} bytes are here")
        if offset and self._same is not None:
            self._keep_what_is_there(self._same)
            return False
        if not offset and self._partial is not None:
            self._partial.empty()
        return True

    def _keep_what_is_there(self, same: int) -> None:
        """The sender has the same bytes: so only what is told about them may differ."""
        if self._offered != self.file.size:
            raise ValueError(f"content at {self._offered} of {self.file.size} bytes")
        if self.policy.preserve:
            os.fchmod(same, self._mode)
            os.utime(same, ns=(self.file.mtime, self.file.mtime))
        os.fsync(same)

    def write(self, content: list[bytes]) -> None:
        """Add to the end, and use up the list."""
        if self._partial is not None:
            self._partial.write(content)

    # ---- the end ----

    def complete(self, digest: bytes) -> WholeFile | None:
        """Give what is ready for its name; `WrongContentError` if the sender read something else."""
        partial = self._partial
        if partial is None:
            return None
        if partial.digest.digest() != digest:
            raise WrongContentError
        self._close_same()
        self._partial = None
        return WholeFile(
            item=self.item,
            path=self.place.path,
            partial=partial,
            name=self.place.name,
            mode=self._mode,
            mtime=self.file.mtime if self.policy.preserve else None,
            overwrite=self.policy.overwrite,
            keep=self._goes_on,
        )

    def drop(self, *, keep: bool) -> None:
        """Leave what came for a later run, if that may ``keep`` it, or nothing."""
        self._close_same()
        if self._partial is not None:
            with suppress(OSError):
                self._partial.close(keep=keep and self._goes_on and self._partial.size > 0)
            self._partial = None

    def _close_same(self) -> None:
        if self._same is not None:
            os.close(self._same)
            self._same = None
