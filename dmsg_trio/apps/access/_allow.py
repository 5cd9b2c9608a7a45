"""Lists of keys that count for as long as their connections live.

The file has a key on a line, or several with commas between them; what follows a ``#`` is a remark.
An empty list is nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey

from ._watched import WatchedFile

Listed = dict[PublicKey, None]  # a set that keeps its order

logger = logging.getLogger("dmsg_trio.access")


class AllowList:
    """Keys that may come: those of a file, and those given for as long as the program runs.

    ``file`` is one with a key on each line, or one that is read in another way. Raises
    `ConfigError` if it is missing or wrong.
    """

    def __init__(
        self, file: Path | WatchedFile[Listed] | None = None, *, given: Iterable[PublicKey] = ()
    ) -> None:
        if isinstance(file, Path):
            file = WatchedFile(file, partial(_keys_untrusted, file), things="keys")
        self._file = file
        self._listed: Listed = {} if file is None else file.value
        self._given = dict.fromkeys(given)
        self._scopes: dict[PublicKey, set[trio.CancelScope]] = {}

    # ---- questions ----

    def __contains__(self, pk: PublicKey) -> bool:
        """Tell whether ``pk`` may come now."""
        self.reload()
        return pk in self._listed or pk in self._given

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """All keys that may come now, in the order of the file."""
        self.reload()
        return tuple(self._listed | self._given)

    @contextmanager
    def while_allowed(self, pk: PublicKey) -> Iterator[trio.CancelScope]:
        """Run the block for as long as ``pk`` may come; the scope is cancelled when it may not.

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

    # ---- changes ----

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Notice changes of the file until cancelled."""
        if self._file is None:
            task_status.started()
            await trio.sleep_forever()
        else:
            await self._file.watch(self.reload, task_status=task_status)

    def reload(self) -> None:
        """Read the file if it has changed; who is not on the list any more is cut off."""
        if self._file is None:
            return
        self._file.reload()
        before, self._listed = self._listed, self._file.value
        if self._listed is before:
            return
        for pk in sorted(self._listed.keys() - before.keys()):
            logger.info("%s may come", pk)
        for pk in sorted(before.keys() - self._listed.keys() - self._given.keys()):
            self._cut_off(pk)

    def give(self, keys: Iterable[PublicKey]) -> None:
        """Let ``keys`` come for as long as the program runs."""
        self._given |= dict.fromkeys(keys)

    def take_back(self, keys: Iterable[PublicKey]) -> None:
        """Let ``keys`` come no more that were given; those of the file still may."""
        for pk in sorted(self._given.keys() & frozenset(keys)):
            del self._given[pk]
            if pk not in self._listed:
                self._cut_off(pk)

    def _cut_off(self, pk: PublicKey) -> None:
        scopes = self._scopes.get(pk, set())
        logger.info("%s may not come any more; what it has under way ends: %d", pk, len(scopes))
        for scope in scopes:
            scope.cancel()


def _keys_untrusted(path: Path, data: bytes) -> Listed:
    keys: Listed = {}
    for number, line in enumerate(data.decode(errors="replace").splitlines(), start=1):
        words = [word.strip() for word in line.partition("#")[0].split(",")]
        try:
            keys |= {PublicKey.parse(word): None for word in words if word}
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
    return keys
