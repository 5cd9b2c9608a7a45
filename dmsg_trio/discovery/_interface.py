"""What everybody may expect of a discovery, wherever it keeps its entries."""

from __future__ import annotations

from typing import Protocol

from dmsg_trio._errors import DiscoveryError
from dmsg_trio._keys import PublicKey
from dmsg_trio._wire.entries import Entry


class SequenceError(DiscoveryError):
    """The discovery has an entry of this key that is as new, or newer."""


class Discovery(Protocol):
    """Where entries are published and looked up.

    Every method raises `DiscoveryError` if the discovery does not do its part.
    """

    async def entry(self, pk: PublicKey) -> Entry:
        """Look up the entry of a key; `UnreachableError` with code 100 if there is none."""
        ...

    async def available_servers(self) -> list[Entry]:
        """The servers with free sessions, most of them first; an empty list if none."""
        ...

    async def all_servers(self) -> list[Entry]:
        """All servers; an empty list if none."""
        ...

    async def publish(self, entry: Entry) -> None:
        """Make a signed entry known; `SequenceError` if it is not newer than the known one."""
        ...

    async def withdraw(self, entry: Entry) -> None:
        """Take back the entry of a key, proven by a signed entry at least as new."""
        ...
