"""Entries in memory: a store for tests, for short lives, and what the SQLite store answers from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import trio

from dmsg_trio._keys import PublicKey
from dmsg_trio._wire.entries import Entry

from ._base import Change, Record, StoreFullError

MAX_ENTRIES: Final = 250_000
MAX_BYTES: Final = 256 * 1024 * 1024  # of JSON; entries of a usual size reach the other bound first


class MemoryStore:
    """A dict of entries, and which of them are of servers and of clients."""

    def __init__(
        self,
        wall_clock: Callable[[], int],
        *,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._wall_clock = wall_clock
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._records: dict[PublicKey, Record] = {}
        self._servers: dict[PublicKey, None] = {}  # dicts, since they keep their order
        self._clients: dict[PublicKey, None] = {}
        self._size = 0

    # ---- the store ----

    async def get(self, pk: PublicKey) -> Entry | None:
        """The entry of a key, if there is one."""
        await trio.lowlevel.checkpoint()
        record = self.look_up(pk)
        return record.entry if record else None

    async def update(self, pk: PublicKey, change: Change) -> None:
        """Put what ``change`` makes of a key's record in its place."""
        await trio.lowlevel.checkpoint()
        record = change(self.look_up(pk))
        self.check_room(pk, record)
        self.put(pk, record)

    async def servers(self) -> list[Entry]:
        """All entries of servers."""
        await trio.lowlevel.checkpoint()
        return [record.entry for record in self._living(self._servers)]

    async def clients(self) -> list[Entry]:
        """All entries of clients."""
        await trio.lowlevel.checkpoint()
        return [record.entry for record in self._living(self._clients)]

    async def records(self) -> list[Record]:
        """All records, those of servers first."""
        await trio.lowlevel.checkpoint()
        return self._living(self._servers | self._clients)

    async def remove_expired(self) -> int:
        """Forget expired entries, and say how many."""
        await trio.lowlevel.checkpoint()
        now = self._wall_clock()
        expired = [pk for pk, record in self._records.items() if record.is_expired(now)]
        for pk in expired:
            self.put(pk, None)
        return len(expired)

    # ---- its parts, without waiting ----

    def look_up(self, pk: PublicKey) -> Record | None:
        """The record of a key that has not expired."""
        record = self._records.get(pk)
        return None if record is None or record.is_expired(self._wall_clock()) else record

    def check_room(self, pk: PublicKey, record: Record | None) -> None:
        """Raise `StoreFullError` if there is no room for what would be put."""
        if record is None:
            return
        old = self._records.get(pk)
        if old is None and len(self._records) >= self._max_entries:
            raise StoreFullError(f"the store has {len(self._records)} entries")
        size = self._size + _size(record) - (_size(old) if old is not None else 0)
        if size > self._max_bytes:
            raise StoreFullError(f"the store would have {size} bytes of {self._max_bytes}")

    def put(self, pk: PublicKey, record: Record | None) -> None:
        """Put a record in a key's place, or nothing."""
        if (old := self._records.pop(pk, None)) is not None:
            self._size -= _size(old)
            self._servers.pop(pk, None)
            self._clients.pop(pk, None)
        if record is None:
            return
        self._records[pk] = record
        self._size += _size(record)
        if record.entry.server is not None:
            self._servers[pk] = None
        if record.entry.client is not None:
            self._clients[pk] = None

    def _living(self, pks: Iterable[PublicKey]) -> list[Record]:
        now = self._wall_clock()
        records = [self._records[pk] for pk in pks]
        return [record for record in records if not record.is_expired(now)]


def _size(record: Record) -> int:
    return len(record.entry.to_json())
