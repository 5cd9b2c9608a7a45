"""The allow list in the host's file: the keys under ``wl``, of which nothing else is ever lost.

The reference's programs read and write the same file. It is changed under a lock and replaced in
one step, so that whoever reads it, and whoever else writes to it, finds it whole.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from dmsg_trio._errors import ConfigError
from dmsg_trio._files import opened_safely, read_settings
from dmsg_trio._keys import PublicKey
from dmsg_trio.apps.access import Listed


class _File(msgspec.Struct):
    wl: list[str] | None = None


# ---- in ----


def listed_untrusted(path: Path, data: bytes) -> Listed:
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


def rewrite(path: Path, change: Callable[[Listed], Listed]) -> None:
    """Change the list in the file in one step, whoever else does so too."""
    path = path.resolve()  # a symbolic link stays, what it points at is replaced
    try:
        with _locked(path) as fd:
            data = read_settings(fd, path)
            listed = listed_untrusted(path, data)
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
        with opened_safely(path) as fd:
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
