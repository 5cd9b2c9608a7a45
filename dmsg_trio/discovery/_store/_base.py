"""What a store of entries has to do; small, so that another kind is easily added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from dmsg_trio._errors import DiscoveryError
from dmsg_trio._keys import PublicKey
from dmsg_trio._wire.entries import Entry


class StoreError(DiscoveryError):
    """The store failed: its file, its disk, its size."""


class StoreFullError(StoreError):
    """The store keeps as much as it may."""


@dataclass(frozen=True, slots=True)
class Record:
    """An entry and when it is forgotten, in nanoseconds since 1970; ``None`` is never."""

    entry: Entry
    expires_at: int | None

    def is_expired(self, now: int) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now


Change = Callable[[Entry | None], Record | None]
"""Decides what takes the place of an entry; ``None`` for nothing. It may refuse by raising."""


class Store(Protocol):
    """Entries by key. An expired entry is not there."""

    async def get(self, pk: PublicKey) -> Entry | None:
        """The entry of a key, if there is one."""
        ...

    async def update(self, pk: PublicKey, change: Change) -> None:
        """Put what ``change`` makes of a key's entry in its place, with nobody in between.

        A store may call ``change`` again if somebody was. What it raises leaves all as it is.
        """
        ...

    async def servers(self) -> list[Entry]:
        """All entries of servers."""
        ...

    async def clients(self) -> list[Entry]:
        """All entries of clients."""
        ...

    async def remove_expired(self) -> int:
        """Forget expired entries, and say how many."""
        ...
