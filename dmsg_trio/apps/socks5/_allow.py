"""Who may go out here: keys that were given, and keys in a file that is read again when it changes.

The file has a key on a line; what follows a ``#`` is a remark. A key that is taken out of it loses
its connections within a second. A file that is missing or wrong later on changes nothing.
"""

from __future__ import annotations

import logging
import os
import shlex
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey

MAX_FILE_SIZE: Final = 1024 * 1024  # bytes; about 15,000 keys
LOOK_EVERY: Final = 1.0  # seconds; a look costs a read, so that no change is too quick to be seen

logger = logging.getLogger("dmsg_trio.socks5")


class AllowList:
    """The keys that may go out; `ConfigError` if there is something wrong with the file."""

    def __init__(self, path: Path | None = None, *, given: Iterable[PublicKey] = ()) -> None:
        self._path = path
        self._given = frozenset(given)
        self._scopes: dict[PublicKey, set[trio.CancelScope]] = {}
        self._fault = ""
        self._data = b"" if path is None else _read(path)
        self._listed = frozenset[PublicKey]() if path is None else _keys(self._data, path)

    def __contains__(self, pk: PublicKey) -> bool:
        return pk in self._given or pk in self._listed

    def __len__(self) -> int:
        return len(self._given | self._listed)

    @contextmanager
    def while_allowed(self, pk: PublicKey) -> Iterator[trio.CancelScope]:
        """Run the block for as long as ``pk`` is on the list; the scope is cancelled when it is not."""
        with trio.CancelScope() as scope:
            scopes = self._scopes.setdefault(pk, set())
            scopes.add(scope)
            try:
                if pk not in self:
                    scope.cancel()
                yield scope
            finally:
                scopes.discard(scope)
                if not scopes:
                    self._scopes.pop(pk, None)

    async def watch(self) -> None:
        """Read the file again and again until cancelled."""
        while True:
            self.reload()
            await trio.sleep(LOOK_EVERY)

    def reload(self) -> None:
        """Read the file; who is not on the list any more loses the connections."""
        if self._path is None:
            return
        try:
            data = _read(self._path)
            if data == self._data and not self._fault:
                return
            listed = _keys(data, self._path)
        except ConfigError as error:
            if str(error) != self._fault:
                logger.error("%s; the %d keys read before still count", error, len(self._listed))
            self._fault = str(error)
            return
        self._fault = ""
        removed = self._listed - listed - self._given
        if listed != self._listed:
            logger.info("%s: %d keys may go out", self._path, len(listed))
        self._data, self._listed = data, listed
        for pk in removed:
            for scope in self._scopes.get(pk, ()):
                scope.cancel()


def _read(path: Path) -> bytes:
    """Read a file which nobody else may write to: that would be as good as a key in it."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"{path} is not a regular file")
            if mode & 0o022:
                mend = f"chmod go-w {shlex.quote(str(path))}"
                raise ConfigError(f"others can write to {path}, mend it: {mend}")
            data = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_FILE_SIZE:
        raise ConfigError(f"{path} is larger than {MAX_FILE_SIZE} bytes")
    return data


def _open_at_once(path: str, flags: int) -> int:
    """Open what may be a pipe, without waiting for somebody to write to it."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _keys(data: bytes, path: Path) -> frozenset[PublicKey]:
    keys = set()
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        try:
            keys.update([PublicKey.parse(text)] if text else [])
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
    return frozenset(keys)
