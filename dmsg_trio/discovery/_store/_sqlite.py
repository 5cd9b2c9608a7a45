"""Entries in an SQLite file, so that they are still there after a crash.

All answers come from memory; the file is read once, at the start, and written before an update is
acknowledged. It belongs to one process at a time, which SQLite's exclusive lock sees to.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey
from dmsg_trio._wire.entries import Entry, EntryError

from ._base import Change, Record, StoreError
from ._memory import MemoryStore
from ._since import Since

logger = logging.getLogger(__name__)

_VERSION: Final = 2  # of the tables below, kept as SQLite's user_version
_PATIENCE: Final = 2.0  # seconds to wait for a predecessor that is just ending

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (
    pk BLOB PRIMARY KEY, json BLOB NOT NULL, expires_at INTEGER, since BLOB
) WITHOUT ROWID
"""
_UPGRADE: Final = "ALTER TABLE entries ADD COLUMN since BLOB"  # from version 1, which did not know
_PUT: Final = "INSERT OR REPLACE INTO entries (pk, json, expires_at, since) VALUES (?, ?, ?, ?)"
_REMOVE: Final = "DELETE FROM entries WHERE pk = ?"
_REMOVE_EXPIRED: Final = "DELETE FROM entries WHERE expires_at <= ?"
_READ: Final = "SELECT pk, json, expires_at, since FROM entries"

T = TypeVar("T")


@asynccontextmanager
async def open_sqlite_store(
    path: Path, wall_clock: Callable[[], int]
) -> AsyncGenerator[SqliteStore, None]:
    """Open the file, making it and its folder if need be, and read what is in it."""
    try:
        database = await trio.to_thread.run_sync(_open, path)
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(f"store {path}: {error}") from error
    try:
        store = SqliteStore(database, wall_clock)
        await store.load()
        yield store
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(database.close)


class SqliteStore:
    """A `MemoryStore` with a file behind it."""

    def __init__(self, database: sqlite3.Connection, wall_clock: Callable[[], int]) -> None:
        self._database = database
        self._wall_clock = wall_clock
        self._memory = MemoryStore(wall_clock)
        # One thread at a time uses the connection, and updates come in the order of the file's.
        self._writing = trio.Lock()

    async def load(self) -> None:
        """Read the file into memory, without what has expired or is no entry."""
        rows = await self._in_thread(lambda: self._database.execute(_READ).fetchall())
        now = self._wall_clock()
        for pk, text, expires_at, since in rows:
            try:
                entry = Entry.parse_untrusted(text)
            except EntryError as error:
                logger.warning("left out an entry of the store: %s", error)
                continue
            record = Record(entry, expires_at, _since(since, entry, now))
            if entry.pk.raw == pk and not record.is_expired(now):
                self._memory.put(entry.pk, record)

    async def get(self, pk: PublicKey) -> Entry | None:
        """The entry of a key, if there is one."""
        return await self._memory.get(pk)

    async def update(self, pk: PublicKey, change: Change) -> None:
        """Put what ``change`` makes of a key's record in its place, on the disk first."""
        async with self._writing:
            record = change(self._memory.look_up(pk))
            self._memory.check_room(pk, record)
            if record is None:
                await self._execute(_REMOVE, (pk.raw,))
            else:
                since = msgspec.json.encode(record.since)
                row = (pk.raw, record.entry.to_json(), record.expires_at, since)
                await self._execute(_PUT, row)
            self._memory.put(pk, record)

    async def servers(self) -> list[Entry]:
        """All entries of servers."""
        return await self._memory.servers()

    async def clients(self) -> list[Entry]:
        """All entries of clients."""
        return await self._memory.clients()

    async def records(self) -> list[Record]:
        """All records, those of servers first."""
        return await self._memory.records()

    async def remove_expired(self) -> int:
        """Forget expired entries, and say how many."""
        async with self._writing:
            await self._execute(_REMOVE_EXPIRED, (self._wall_clock(),))
            return await self._memory.remove_expired()

    async def _execute(self, statement: str, values: tuple[bytes | int | None, ...]) -> None:
        await self._in_thread(partial(self._database.execute, statement, values))

    async def _in_thread(self, use: Callable[[], T]) -> T:
        try:
            # A thread that has begun is waited for, so memory never falls behind the file.
            return await trio.to_thread.run_sync(use)
        except sqlite3.Error as error:
            raise StoreError(f"the store's file: {error}") from error


def _since(text: bytes | None, entry: Entry, now: int) -> Since:
    """Read since when; what a file of version 1 leaves to know is when its owner last wrote."""
    try:
        since = msgspec.json.decode(text, type=Since) if text else None
    except ValueError:
        since = None
    if since is not None and since.fits(entry):
        return since
    return Since.beginning(entry, min(entry.timestamp, now))


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Statements commit at once; only the lock of the store decides which thread is next.
    database = sqlite3.connect(
        path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
    )
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        # What is committed survives the end of this process at any point; a power failure
        # may cost the last few updates, which their owners send again.
        database.execute("PRAGMA synchronous = NORMAL")
        _bring_up_to_date(database)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _bring_up_to_date(database: sqlite3.Connection) -> None:
    """Make the tables, or make those of an older version this one's; all of it or nothing."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if not 0 <= version <= _VERSION:
        raise sqlite3.DatabaseError(f"tables of version {version}, not {_VERSION}")
    with database:
        database.execute("BEGIN IMMEDIATE")
        if version == 1:
            database.execute(_UPGRADE)
        database.execute(_SCHEMA)
        database.execute(f"PRAGMA user_version = {_VERSION}")
