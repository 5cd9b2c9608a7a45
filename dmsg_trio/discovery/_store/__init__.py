"""Where a discovery keeps its entries: in memory, or in an SQLite file."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from dmsg_trio._errors import ConfigError

from ._base import Change, Record, Store, StoreError, StoreFullError
from ._memory import MemoryStore
from ._since import Since
from ._sqlite import SqliteStore, open_sqlite_store

__all__ = [
    "Change",
    "MemoryStore",
    "Record",
    "Since",
    "SqliteStore",
    "Store",
    "StoreError",
    "StoreFullError",
    "default_store_path",
    "open_sqlite_store",
    "open_store",
]

_FILE: Final = Path("dmsg-trio", "discovery.sqlite")


@asynccontextmanager
async def open_store(url: str, wall_clock: Callable[[], int]) -> AsyncGenerator[Store, None]:
    """Open ``memory:``, ``sqlite:PATH``, or ``sqlite:`` for a file in the user's data directory."""
    kind, colon, path = url.partition(":")
    if kind == "memory" and colon and not path:
        yield MemoryStore(wall_clock)
    elif kind == "sqlite" and colon:
        async with open_sqlite_store(_where(path), wall_clock) as store:
            yield store
    else:
        raise ConfigError(f"a store is 'memory:' or 'sqlite:PATH', not {url!r}")


def default_store_path() -> Path:
    """The file that ``sqlite:`` means: in XDG_DATA_HOME, or where that usually is."""
    data_home = os.environ.get("XDG_DATA_HOME", "")
    # The XDG rules say to pass over a path that is not absolute.
    base = Path(data_home) if Path(data_home).is_absolute() else Path.home() / ".local" / "share"
    return base / _FILE


def _where(path: str) -> Path:
    return Path(path).expanduser() if path else default_store_path()
