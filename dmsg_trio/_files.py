"""Small files that say how a program runs: opened without waiting, read whole, and bounded.

What they decide is decided by everybody who can write to them, and a secret in them is known to
everybody who can read them: so modes are looked at, and faults say how to mend them.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dmsg_trio._errors import ConfigError

MAX_SETTINGS: Final = 1024 * 1024  # bytes; about 15,000 keys


class NotAFileError(OSError):
    """Something is there that is neither a file nor a folder."""


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Have a regular file open for reading; `OSError` if there is none."""
    # Non-blocking, since opening a pipe that nobody writes to would wait for ever.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise NotAFileError(errno.EINVAL, "not a regular file")
        yield fd
    finally:
        os.close(fd)


@contextmanager
def opened_safely(path: Path) -> Iterator[int]:
    """Have a file open that nobody but its owner can write to: it says who may do what."""
    with opened(path) as fd:
        if fault := fault_of_writers(path, os.fstat(fd).st_mode):
            raise ConfigError(fault)
        yield fd


def read_at_most(fd: int, size: int) -> bytes:
    """Read to the end, but no more than one byte beyond ``size``, which tells that it is larger."""
    data = b""
    try:
        while piece := os.read(fd, size + 1 - len(data)):
            data += piece
    except OSError:
        del data  # it may be part of a secret, and a traceback may show it
        raise
    return data


def read_settings(fd: int, where: object) -> bytes:
    """Read all of an open file, unless it is larger than any that a person writes."""
    data = read_at_most(fd, MAX_SETTINGS)
    if len(data) > MAX_SETTINGS:
        del data
        raise ConfigError(f"{where} is larger than {MAX_SETTINGS} bytes")
    return data


def read_settings_file(path: Path, *, pipe_option: str) -> tuple[bytes, int]:
    """Read a file; give its content and its mode. ``pipe_option`` is how to have a pipe read."""
    try:
        with opened(path) as fd:
            return read_settings(fd, path), os.fstat(fd).st_mode
    except NotAFileError:
        raise ConfigError(f"{path} is not a regular file; {pipe_option} reads a pipe") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def fault_of_writers(path: Path, mode: int) -> str:
    """Say that others than its owner can write to a file, or nothing if they cannot."""
    if not mode & 0o022:
        return ""
    mend = f"chmod go-w {shlex.quote(str(path))}"
    return f"others can write to {path} ({stat.filemode(mode)}), mend it: {mend}"


def fault_of_readers(path: Path, mode: int) -> str:
    """Say that others than its owner can read a file, or nothing if they cannot."""
    if not mode & 0o077:
        return ""
    mend = f"chmod 600 {shlex.quote(str(path))}"
    return f"others can read {path} ({stat.filemode(mode)}), mend it: {mend}"
