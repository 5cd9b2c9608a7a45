"""Who may enter: the keys under ``wl`` in the host's file, read anew whenever the file changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import trio

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey
from dmsg_trio.apps import access
from dmsg_trio.apps.access import Listed, WatchedFile

from ._allow_file import listed_untrusted, rewrite


class AlreadyAllowedError(ConfigError):
    """Keys should be added that are on the list; all others of the same call were added."""


class AllowList(access.AllowList):
    """The keys that may enter, which users of this machine change by command.

    Without a file it lives in memory; a file that is not there yet is nobody.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        given: Iterable[PublicKey] = (),
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        file: WatchedFile[Listed] | None = None
        if path is not None:
            parse = partial(listed_untrusted, path)
            file = WatchedFile(path, parse, things="keys", absent=Listed(), wall_clock=wall_clock)
        super().__init__(file, given=given)

    async def add(self, keys: Iterable[PublicKey]) -> None:
        """Let ``keys`` enter; `AlreadyAllowedError` names those that could before."""
        wanted = dict.fromkeys(keys)
        known = [pk for pk in wanted if pk in self]
        new = dict.fromkeys(pk for pk in wanted if pk not in known)
        if self._file is None:
            self.give(new)
        elif new:
            await self._rewrite(self._file, lambda listed: listed | new)
        if known:
            names = ",".join(map(str, known))
            raise AlreadyAllowedError(f"skipping append for {names}. Already exists")

    async def remove(self, keys: Iterable[PublicKey]) -> None:
        """Let ``keys`` enter no more and end their sessions; one that could not is no error."""
        unwanted = frozenset(keys)
        self.take_back(unwanted)
        if self._file is not None:
            await self._rewrite(
                self._file,
                lambda listed: dict.fromkeys(pk for pk in listed if pk not in unwanted),
            )

    async def _rewrite(self, file: WatchedFile[Listed], change: Callable[[Listed], Listed]) -> None:
        await trio.to_thread.run_sync(rewrite, file.path, change)
        file.forget()
        self.reload()
