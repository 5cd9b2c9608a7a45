"""Who may enter: the keys under ``wl`` in the host's file, read anew whenever the file changes.

An empty list is nobody. Each question looks whether the file is still the one that was read, which
costs a `stat`; `AllowList.watch` looks when the file changes and nobody asks, so that a key which
was taken out by hand loses its sessions at once. A file that cannot be understood changes nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shlex
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey

from ._changes import watching

MAX_FILE_SIZE: Final = 1024 * 1024  # bytes; about 15,000 keys
SETTLED: Final = 2 * 10**9  # nanoseconds after which a change shows in the time of a file
READABLE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

Listed = dict[PublicKey, None]  # a set that keeps its order

logger = logging.getLogger("dmsg_trio.pty")


class AlreadyAllowedError(ConfigError):
    """Keys should be added that are on the list; all others of the same call were added."""


class _File(msgspec.Struct):
    wl: list[str] | None = None


@dataclass(frozen=True, slots=True)
class _Look:
    """What can be told of a file without reading it."""

    file: tuple[int, int]
    size: int
    times: tuple[int, int]

    @classmethod
    def at(cls, status: os.stat_result) -> _Look:
        times = status.st_mtime_ns, status.st_ctime_ns
        return cls((status.st_dev, status.st_ino), status.st_size, times)

    def is_settled(self, now: int) -> bool:
        """Tell whether a later change would show: clocks of file systems are coarse."""
        return max(self.times) + SETTLED < now


class AllowList:
    """The keys that may enter: those of a file, and those given for as long as this host runs.

    Without a file it lives in memory. Raises `ConfigError` if the file is there and wrong.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        given: Iterable[PublicKey] = (),
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._path = path
        self._wall_clock = wall_clock
        self._given = dict.fromkeys(given)
        self._listed: Listed = {}
        self._scopes: dict[PublicKey, set[trio.CancelScope]] = {}
        self._look: _Look | None = None  # None: read the file, whatever it looks like
        self._digest = b""
        self._fault = ""
        if path is not None and path.exists():
            try:
                self._listed = self._read(path)
            except OSError as error:
                raise ConfigError(f"cannot read {path}: {error.strerror}") from error

    # ---- questions ----

    def __contains__(self, pk: PublicKey) -> bool:
        """Tell whether ``pk`` may enter now."""
        self.reload()
        return pk in self._listed or pk in self._given

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """All keys that may enter now, in the order of the file."""
        self.reload()
        return tuple(self._listed | self._given)

    @contextmanager
    def while_allowed(self, pk: PublicKey) -> Iterator[trio.CancelScope]:
        """Run the block for as long as ``pk`` may enter; the scope is cancelled when it may not.

        Afterwards ``scope.cancelled_caught`` tells whether that is why the block ended.
        """
        with trio.CancelScope() as scope:
            self._scopes.setdefault(pk, set()).add(scope)
            try:
                if pk not in self:
                    scope.cancel()
                yield scope
            finally:
                scopes = self._scopes[pk]
                scopes.discard(scope)
                if not scopes:
                    del self._scopes[pk]

    # ---- changes by hand ----

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Notice changes of the file until cancelled."""
        if self._path is None:
            task_status.started()
            await trio.sleep_forever()
        with watching(self._path) as changes:
            self.reload()
            task_status.started()
            while True:
                await changes.wait()
                self.reload()

    def reload(self) -> None:
        """Read the file if it has changed; who lost the right to enter loses the sessions.

        A file that is missing or wrong keeps what was last read, and the log says so once.
        """
        if self._path is None:
            return
        try:
            look = _Look.at(os.stat(self._path))
            if look == self._look:
                return
            listed = self._read(self._path)
        except OSError as error:
            self._look = None
            if self._digest:  # it was there
                self._complain(f"cannot read {self._path}: {error.strerror}")
            return
        except ConfigError as error:
            self._complain(str(error))
            return
        if self._fault:
            logger.info("%s is understood again, with %d keys", self._path, len(listed))
            self._fault = ""
        self._become(listed)

    def _complain(self, fault: str) -> None:
        if fault != self._fault:
            logger.error("%s; the %d keys read before still count", fault, len(self._listed))
        self._fault = fault

    def _become(self, listed: Listed) -> None:
        removed = self._listed.keys() - listed.keys()
        added = listed.keys() - self._listed.keys()
        self._listed = listed
        for pk in sorted(added):
            logger.info("%s may enter", pk)
        for pk in sorted(removed - self._given.keys()):
            self._shut_out(pk)

    def _shut_out(self, pk: PublicKey) -> None:
        scopes = self._scopes.get(pk, set())
        logger.info("%s may not enter any more; %d of its sessions end", pk, len(scopes))
        for scope in scopes:
            scope.cancel()

    # ---- changes by command ----

    async def add(self, keys: Iterable[PublicKey]) -> None:
        """Let ``keys`` enter; `AlreadyAllowedError` names those that could before."""
        wanted = dict.fromkeys(keys)
        known = [pk for pk in wanted if pk in self]
        new = [pk for pk in wanted if pk not in known]
        if self._path is None:
            self._given |= dict.fromkeys(new)
        elif new:
            await self._rewrite(self._path, lambda listed: listed | dict.fromkeys(new))
        if known:
            names = ",".join(map(str, known))
            raise AlreadyAllowedError(f"skipping append for {names}. Already exists")

    async def remove(self, keys: Iterable[PublicKey]) -> None:
        """Let ``keys`` enter no more and end their sessions; one that could not is no error."""
        unwanted = frozenset(keys)
        for pk in sorted(self._given.keys() & unwanted):
            del self._given[pk]
            if pk not in self._listed:
                self._shut_out(pk)
        if self._path is not None:
            await self._rewrite(
                self._path, lambda listed: dict.fromkeys(pk for pk in listed if pk not in unwanted)
            )

    async def _rewrite(self, path: Path, change: Callable[[Listed], Listed]) -> None:
        await trio.to_thread.run_sync(partial(_rewrite, path, change))
        self._look = None
        self.reload()

    def _read(self, path: Path) -> Listed:
        with _opened(path) as fd:
            look = _Look.at(os.fstat(fd))
            data = _content(fd, path)
        self._look = look if look.is_settled(self._wall_clock()) else None
        digest = hashlib.sha256(data).digest()
        if digest == self._digest and not self._fault:
            return self._listed
        listed = _listed_untrusted(data, path)
        self._digest = digest
        return listed


# ---- in ----


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open the file, which nobody else may write to: that would be as good as a key on the list."""
    fd = os.open(path, READABLE)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{path} is not a regular file")
        if mode & 0o022:
            mend = f"chmod go-w {shlex.quote(str(path))}"
            raise ConfigError(
                f"others can write to {path} ({stat.filemode(mode)}), mend it: {mend}"
            )
        yield fd
    finally:
        os.close(fd)


def _content(fd: int, path: Path) -> bytes:
    data = b""
    while piece := os.read(fd, MAX_FILE_SIZE + 1 - len(data)):
        data += piece
    if len(data) > MAX_FILE_SIZE:
        raise ConfigError(f"{path} is larger than {MAX_FILE_SIZE} bytes")
    return data


def _listed_untrusted(data: bytes, path: Path) -> Listed:
    """Read the keys out of a file that may hold a secret one: errors repeat nothing of it."""
    fault, texts = "", []
    try:
        texts = msgspec.json.decode(data, type=_File).wl or []
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        fault = f"{place.rstrip('`')}: {message}" if place else message
    except msgspec.DecodeError as error:
        fault = str(error)
    except (RecursionError, UnicodeDecodeError):
        fault = "not a JSON object with settings"
    if fault:
        del data
        raise ConfigError(f"{path}: {fault}")
    listed: Listed = {}
    for index, text in enumerate(texts):
        try:
            listed[PublicKey.parse(text)] = None
        except ValueError as error:
            raise ConfigError(f"{path}: wl[{index}]: {error}") from None
    return listed


# ---- out ----


def _rewrite(path: Path, change: Callable[[Listed], Listed]) -> None:
    """Change the list in the file in one step, whoever else does so too."""
    path = path.resolve()  # a symbolic link stays, what it points at is replaced
    try:
        with _locked(path) as fd:
            data = _content(fd, path)
            listed = _listed_untrusted(data, path)
            if (changed := change(listed)) != listed:
                _replace(path, _form(data, changed), like=os.fstat(fd))
    except OSError as error:
        raise ConfigError(f"cannot change {path}: {error.strerror}") from error


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open the file that is there once nobody else is about to replace it; make one if need be."""
    while True:
        if not path.exists():
            _create(path)
        with _opened(path) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_still_at(path, fd):
                yield fd
                return


def _is_still_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _form(data: bytes, listed: Listed) -> bytes:
    """Put another list into the file's text; all else in it stays as it is."""
    members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    members["wl"] = msgspec.Raw(msgspec.json.encode([str(pk) for pk in listed]))
    return msgspec.json.format(msgspec.json.encode(members), indent=2)


def _create(path: Path) -> None:
    with _written_beside(path, b"{}") as temporary, suppress(FileExistsError):
        os.link(temporary, path)


def _replace(path: Path, data: bytes, *, like: os.stat_result) -> None:
    with _written_beside(path, data, like=like) as temporary:
        os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _written_beside(
    path: Path, data: bytes, *, like: os.stat_result | None = None
) -> Iterator[str]:
    """Have a file with ``data`` in the same folder, gone after the block unless it was renamed."""
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if like is not None:
                made = os.fstat(fd)
                if (made.st_uid, made.st_gid) != (like.st_uid, like.st_gid):
                    os.fchown(fd, like.st_uid, like.st_gid)
                os.fchmod(fd, stat.S_IMODE(like.st_mode))
            os.fsync(fd)
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
