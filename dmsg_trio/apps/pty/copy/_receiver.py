"""The receiving end without its stream: what a sender says becomes files, in blocking calls.

Nothing has its name before it is whole and its digest is the sender's. What cannot be written is
told, and the rest goes on; what breaks a rule of the protocol ends everything (`ValueError`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Final

from dmsg_trio._wire.file_copy import (
    MAX_PATH,
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
    FromReceiver,
    Have,
    Link,
    Order,
    Up,
)

from ._partial import PartialFile, hash_file, open_partial, remove_stale, stale_names
from ._settling import LeftFolder, Settling, WholeFile
from ._target import Target, enter, umask

PERMISSIONS: Final = 0o777  # what a sender may set; never setuid, setgid or the sticky bit
NO_DIGEST: Final = hashlib.sha256().digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a receiver does with what is there, and with what a sender says of permissions."""

    preserve: bool = False
    overwrite: bool = True
    resume: bool = True
    recursive: bool = True


@dataclass(slots=True)
class _Inside:
    """A folder that things go into; without a number, it could not be entered."""

    item: int
    path: bytes
    number: int | None
    mode: int | None = None
    mtime: int | None = None
    stale: list[bytes] | None = None  # parts of files from earlier runs, once somebody asked


@dataclass(slots=True)
class _Arriving:
    """The file under way, or what of it is there already; with neither, it is not written."""

    file: File
    name: bytes
    path: bytes
    mode: int = 0
    partial: PartialFile | None = None
    same: int | None = None  # a descriptor of the file that has this name, if that may be the same
    offered: int = 0  # bytes of either that the sender was told of


@dataclass(slots=True)
class Receiver:
    """Writes what a sender says into ``target``; ``checkpoint`` may raise to end a long step."""

    target: Target
    policy: Policy
    checkpoint: Callable[[], None]
    _order: Order = field(default_factory=Order)
    _inside: list[_Inside] = field(default_factory=list)
    _arriving: _Arriving | None = None
    _replies: list[FromReceiver] = field(default_factory=list)
    _is_closed: bool = False
    _umask: int = field(default_factory=umask)
    _settling: Settling = field(init=False)

    def __post_init__(self) -> None:
        self._settling = Settling(self._fail)

    def take_untrusted(self, events: Iterable[Event]) -> list[FromReceiver]:
        """Do what a sender says, and give what is to be answered."""
        content: list[bytes] = []
        for event in events:
            self._order.check(event)
            if isinstance(event, Data):
                content.append(event.data)
                continue
            self._write(content)
            self._take(event)
        self._write(content)
        replies, self._replies = self._replies, []
        return replies

    def _take(self, event: Event) -> None:
        match event:
            case Folder():
                self._enter(event)
            case Up():
                self._leave()
            case Link():
                self._make_link(event)
            case File():
                self._begin(event)
            case At(offset):
                self._go_on_at(offset)
            case Complete(digest):
                self._complete(digest)
            case Abandoned():
                self._drop(keep=False)
            case Done():
                self._settling.settle()
                with suppress(OSError):  # there are systems on which folders know no such thing
                    os.fsync(self.target.number)
                self._replies.append(Finished())
            case _:  # Unreadable: for whoever watches
                pass

    # ---- folders and links ----

    def _enter(self, folder: Folder) -> None:
        place = self._place(folder.name)
        if place is None:
            self._inside.append(_Inside(self._order.item, b"", None))
            return
        inside, name, path = place
        here = _Inside(self._order.item, path, None)
        self._inside.append(here)
        if not self.policy.recursive:
            raise ValueError(f"{folder.name!r} is a folder, which was not asked for")
        mode = folder.mode & PERMISSIONS
        try:
            is_new = bool(name) and not _exists(inside, name)
            number = enter(inside, name, mode | stat.S_IRWXU) if name else os.dup(inside)
        except OSError as error:
            self._fail(here.item, path, error)
            return
        here.number = number
        others = os.fstat(number).st_mode & 0o7000  # of the folder here, not the sender's
        if self.policy.preserve:
            here.mode, here.mtime = others | mode, folder.mtime
        elif is_new and ~mode & stat.S_IRWXU:
            here.mode = others | mode & ~self._umask

    def _leave(self) -> None:
        here = self._inside.pop()
        if here.number is not None:
            left = LeftFolder(
                item=here.item,
                path=here.path,
                number=here.number,
                mode=here.mode,
                mtime=here.mtime,
            )
            self._settling.add(left)

    def _make_link(self, link: Link) -> None:
        place = self._place(link.name)
        if not self.policy.recursive:
            raise ValueError(f"{link.name!r} is a link, which was not asked for")
        if place is None:
            return
        folder, name, path = place
        try:
            self._check_free(folder, name)
            with ExitStack() as undo:
                hidden = name
                if self.policy.overwrite:
                    hidden = f".dmsg-{secrets.token_hex(16)}.part".encode()
                os.symlink(link.target, hidden, dir_fd=folder)
                undo.callback(os.unlink, hidden, dir_fd=folder)
                if self.policy.preserve:
                    times = (link.mtime, link.mtime)
                    os.utime(hidden, ns=times, dir_fd=folder, follow_symlinks=False)
                if hidden != name:
                    os.rename(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)
                undo.pop_all()
        except OSError as error:
            self._fail(self._order.item, path, error)

    # ---- files ----

    def _begin(self, file: File) -> None:
        self._arriving = _Arriving(file, b"", b"")
        place = self._place(file.name)
        if place is None:
            return
        folder, name, path = place
        self._arriving = arriving = _Arriving(file, name, path)
        try:
            self._open(arriving, folder)
        except OSError as error:
            self._give_up(arriving, error)

    def _open(self, arriving: _Arriving, folder: int) -> None:
        file = arriving.file
        if not self._inside and self.target.must_be_folder and self.target.name:
            raise NotADirectoryError(errno.ENOTDIR, "no such folder")
        found = self._check_free(folder, arriving.name)
        if self.policy.preserve or found is None or not stat.S_ISREG(found.st_mode):
            arriving.mode = file.mode & PERMISSIONS & ~(0 if self.policy.preserve else self._umask)
        else:
            arriving.mode = found.st_mode & PERMISSIONS  # as if its content were replaced
        if self.policy.resume and file.asks:
            remove_stale(folder, self._named(file, arriving.name), self._stale(folder))
        arriving.partial = partial = open_partial(folder, self._named(file, arriving.name))
        if not (self.policy.resume and file.asks):
            partial.empty()
        elif partial.size:
            partial.read_through(self.checkpoint)
            if partial.size > file.size:
                partial.empty()
            arriving.offered = partial.size
        elif found is not None and stat.S_ISREG(found.st_mode) and found.st_size == file.size:
            self._offer_what_is_there(arriving, folder)
            return
        if file.asks:
            digest = partial.digest.digest()
            self._replies.append(Have(self._order.item, partial.size, digest))

    def _offer_what_is_there(self, arriving: _Arriving, folder: int) -> None:
        """A file of the same length has the name: perhaps an earlier run brought it."""
        digest = hashlib.sha256()
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            arriving.same = os.open(arriving.name, flags, dir_fd=folder)
            arriving.offered = hash_file(arriving.same, digest, self.checkpoint)
        except OSError:  # one may replace what one may not read
            self._replies.append(Have(self._order.item, 0, NO_DIGEST))
            return
        if arriving.offered > arriving.file.size:  # it grows
            arriving.offered, digest = 0, hashlib.sha256()
        self._replies.append(Have(self._order.item, arriving.offered, digest.digest()))

    def _go_on_at(self, offset: int) -> None:
        arriving = self._arriving
        if arriving is None or arriving.partial is None:
            return
        if offset not in (0, arriving.offered):
            raise ValueError(f"content at {offset}, but {arriving.offered} bytes are here")
        if offset and arriving.same is not None:
            self._keep_what_is_there(arriving)
        elif not offset:
            try:
                arriving.partial.empty()
            except OSError as error:
                self._give_up(arriving, error)

    def _keep_what_is_there(self, arriving: _Arriving) -> None:
        """The sender has the same bytes: so only what is told about them may differ."""
        if arriving.offered != arriving.file.size:
            raise ValueError(f"content at {arriving.offered} of {arriving.file.size} bytes")
        assert arriving.same is not None  # noqa: S101 - the caller looked
        try:
            if self.policy.preserve:
                times = (arriving.file.mtime, arriving.file.mtime)
                os.fchmod(arriving.same, arriving.mode)
                os.utime(arriving.same, ns=times)
            os.fsync(arriving.same)
        except OSError as error:
            self._fail(self._order.item, arriving.path, error)
        self._drop(keep=False)
        self._arriving = _Arriving(arriving.file, arriving.name, arriving.path)

    def _write(self, content: list[bytes]) -> None:
        arriving = self._arriving
        if content and arriving is not None and arriving.partial is not None:
            try:
                arriving.partial.write(content)
            except OSError as error:
                self._give_up(arriving, error)
        content.clear()

    def _complete(self, digest: bytes) -> None:
        arriving = self._arriving
        if arriving is None or arriving.partial is None:
            self._arriving = None
            return
        partial = arriving.partial
        if partial.digest.digest() != digest:
            self._fail(self._order.item, arriving.path, _WrongContentError())
            self._drop(keep=False)
            return
        self._close_same(arriving)
        self._arriving = None
        whole = WholeFile(
            item=self._order.item,
            path=arriving.path,
            partial=partial,
            name=arriving.name,
            mode=arriving.mode,
            mtime=arriving.file.mtime if self.policy.preserve else None,
            overwrite=self.policy.overwrite,
            keep=self.policy.resume and arriving.file.asks,
        )
        self._settling.add(whole)

    def _give_up(self, arriving: _Arriving, error: OSError) -> None:
        """What came of the file stays for the next run, when there may be room for the rest."""
        self._fail(self._order.item, arriving.path, error)
        self._drop(keep=True)
        self._arriving = _Arriving(arriving.file, arriving.name, arriving.path)

    def _drop(self, *, keep: bool) -> None:
        arriving, self._arriving = self._arriving, None
        if arriving is None:
            return
        self._close_same(arriving)
        if arriving.partial is not None:
            kept = keep and self.policy.resume and arriving.file.asks and arriving.partial.size > 0
            with suppress(OSError):
                arriving.partial.close(keep=kept)

    @staticmethod
    def _close_same(arriving: _Arriving) -> None:
        if arriving.same is not None:
            os.close(arriving.same)
            arriving.same = None

    # ---- places ----

    def _place(self, name: bytes) -> tuple[int, bytes, bytes] | None:
        """Say in which folder a thing lies, by which name, and its path for people."""
        if not self._inside:
            shown = self.target.path if self.target.name else os.path.join(self.target.path, name)
            return self.target.number, self.target.admit_untrusted(name), shown
        here = self._inside[-1]
        if here.number is None:
            return None
        return here.number, name, os.path.join(here.path, name)

    def _check_free(self, folder: int, name: bytes) -> os.stat_result | None:
        """Look at what has that name already; `OSError` if it is nothing to be replaced."""
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a folder has this name")
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
            raise OSError(errno.EEXIST, "what has this name is no regular file")
        if not self.policy.overwrite:
            raise FileExistsError(errno.EEXIST, "it is there already")
        return found

    def _stale(self, folder: int) -> list[bytes]:
        if not self._inside:
            return stale_names(folder)
        here = self._inside[-1]
        if here.stale is None:
            here.stale = stale_names(folder)
        return here.stale

    @staticmethod
    def _named(file: File, name: bytes) -> File:
        return File(name, file.size, file.mode, file.mtime, file.asks)

    # ---- failing and ending ----

    def _fail(self, item: int, path: bytes, error: OSError) -> None:
        self._replies.append(Failed(item, path[-MAX_PATH:], error.strerror or str(error)))

    def close(self) -> None:
        """End, wherever it was: what can be resumed stays, hidden; twice is as once."""
        if self._is_closed:
            return
        self._is_closed = True
        with ExitStack() as closing:
            closing.callback(self.target.close)
            for here in self._inside:
                if here.number is not None:
                    closing.callback(os.close, here.number)
            closing.callback(self._settling.close)
            closing.callback(self._drop, keep=True)


class _WrongContentError(OSError):
    def __init__(self) -> None:
        super().__init__(errno.EIO, "not what the sender read: the digests differ")


def _exists(folder: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
