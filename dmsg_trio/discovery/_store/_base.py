"""What a store of entries has to do; small, so that another kind is easily added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from dmsg_trio._errors import DiscoveryError
from dmsg_trio._keys import PublicKey
from dmsg_trio._wire.entries import Entry

from ._since import Since


class StoreError(DiscoveryError):
    """The store failed: its file, its disk, its size."""


class StoreFullError(StoreError):
    """The store keeps as much as it may."""


@dataclass(frozen=True, slots=True)
class Record:
    """An entry, when it is forgotten, and since when it says what it says.

    Times are nanoseconds since 1970; ``expires_at`` may be None for never.
    """

    entry: Entry
    expires_at: int | None
    since: Since

    def is_expired(self, now: int) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now


Change = Callable[[Record | None], Record | None]
"""Decides what takes the place of a record; ``None`` for nothing. It may refuse by raising."""


class Store(Protocol):
    """Entries by key. An expired entry is not there."""

    async def get(self, pk: PublicKey) -> Entry | None:
        """The entry of a key, if there is one."""
        ...

    async def update(self, pk: PublicKey, change: Change) -> None:
        """Put what ``change`` makes of a key's record in its place, with nobody in between.

        A store may call ``change`` again if somebody was. What it raises leaves all as it is.
        """
        ...

    async def servers(self) -> list[Entry]:
        """All entries of servers."""
        ...

    async def clients(self) -> list[Entry]:
        """All entries of clients."""
        ...

    async def records(self) -> list[Record]:
        """All records, those of servers first."""
        ...

    async def remove_expired(self) -> int:
        """Forget expired entries, and say how many."""
        ...
