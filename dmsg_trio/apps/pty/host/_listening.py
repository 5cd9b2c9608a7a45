"""Making the local socket of a host, which is a shell for whoever can connect to it.

It has a name that everybody can guess, often in a folder where everybody can write. So it is there
only with mode 0600 from its first moment on; what others have put there is neither used nor taken
away; and a folder in which others could put another socket into its place is refused.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import trio

from dmsg_trio._errors import ConfigError
from dmsg_trio._net.tcp import listen_tcp

from ._config import HostOptions

BACKLOG: Final = 128  # connections that wait to be accepted
ANSWER_TIME: Final = 2.0  # seconds for another host to accept a connection


@asynccontextmanager
async def open_local_listeners(options: HostOptions) -> AsyncIterator[list[trio.SocketListener]]:
    """Listen where the options say, for the block; `ConfigError` says why that cannot be."""
    if options.network == "tcp":
        try:
            listeners = await listen_tcp(options.address, backlog=BACKLOG)
        except OSError as error:
            raise ConfigError(f"cliaddr: {options.address}: {error}") from error
        try:
            yield listeners
        finally:
            for listener in listeners:
                listener.socket.close()
        return
    path = Path(options.address)
    await _make_room(path)
    with _bound(path) as bound:
        yield [trio.SocketListener(trio.socket.from_stdlib_socket(bound))]


async def _make_room(path: Path) -> None:
    """Take away the socket of a host of ours that is gone; leave everything else alone."""
    _check_folder(path.parent)
    if (before := _own_socket(path)) is None:
        return
    if await _answers(path):
        raise ConfigError(f"cliaddr: another host runs, it answers at {path}")
    _remove(path, before)


def _own_socket(path: Path) -> os.stat_result | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISSOCK(status.st_mode):
        raise ConfigError(f"cliaddr: {path} is there and is not a socket")
    if status.st_uid != os.geteuid():
        raise ConfigError(
            f"cliaddr: {path} is a socket of another user ({status.st_uid}); choose another path"
        )
    return status


def _remove(path: Path, status: os.stat_result) -> None:
    """Remove the socket, unless another one is there by now."""
    with suppress(FileNotFoundError):
        if os.path.samestat(status, path.lstat()):
            path.unlink()


async def _answers(path: Path) -> bool:
    """Tell whether somebody listens; one who is too busy to accept does."""
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        with trio.move_on_after(ANSWER_TIME):
            try:
                await probe.connect(str(path))
            except (ConnectionRefusedError, FileNotFoundError):
                return False
            except BlockingIOError:
                return True  # Linux says so when the queue is full
    return True


def _check_folder(folder: Path) -> None:
    try:
        status = folder.stat()
    except OSError as error:
        raise ConfigError(f"cliaddr: {folder}: {error.strerror}") from error
    others_write = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
    if others_write or status.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"cliaddr: others could replace the socket in {folder} "
            f"({stat.filemode(status.st_mode)} of user {status.st_uid}); choose another folder"
        )


@contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        # The mask is of the whole process, so nothing may be waited for in here.
        mask = os.umask(0o177)
        try:
            bound.bind(str(path))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "another host was faster" if taken else error.strerror
            raise ConfigError(f"cliaddr: {path}: {why}") from error
        finally:
            os.umask(mask)
        ours = path.lstat()
        try:
            bound.listen(BACKLOG)
            bound.setblocking(False)  # noqa: FBT003 - socket takes no keyword
            yield bound
        finally:
            _remove(path, ours)
