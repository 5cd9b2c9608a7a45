"""Discoveries without a network: a fixed set of entries, and the real rules in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import trio

from dmsg_trio._errors import ErrorCode, UnreachableError
from dmsg_trio._keys import PublicKey
from dmsg_trio._wire.entries import ClientInfo, Entry

from ._answers import refused
from ._rules import Policy, Refusal
from ._service import DiscoveryService
from ._store import MemoryStore


class StaticDiscovery:
    """A discovery of given entries, for who knows the servers; nothing is checked or sent."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = {entry.pk: entry for entry in entries}

    @classmethod
    def with_clients(
        cls, servers: Iterable[Entry], clients: Iterable[PublicKey]
    ) -> StaticDiscovery:
        """Know these servers, and of these clients that they are at one or other of them."""
        servers = list(servers)
        everywhere = ClientInfo(tuple(server.pk for server in servers))
        reached = [Entry(pk=pk, timestamp=0, client=everywhere) for pk in clients]
        return cls([*reached, *servers])

    async def entry(self, pk: PublicKey) -> Entry:
        """Look up the entry of a key; `UnreachableError` with code 100 if there is none."""
        await trio.lowlevel.checkpoint()
        try:
            return self._entries[pk]
        except KeyError:
            raise UnreachableError(
                ErrorCode.ENTRY_NOT_FOUND, f"{pk} is not among the {len(self._entries)} entries"
            ) from None

    async def available_servers(self) -> list[Entry]:
        """All servers: how many sessions are free is not known."""
        return await self.all_servers()

    async def all_servers(self) -> list[Entry]:
        """All servers; an empty list if none."""
        await trio.lowlevel.checkpoint()
        return [entry for entry in self._entries.values() if entry.server is not None]

    async def publish(self, entry: Entry) -> None:
        """Put an entry among the others."""
        await trio.lowlevel.checkpoint()
        self._entries[entry.pk] = entry

    async def withdraw(self, entry: Entry) -> None:
        """Remove the entry of this key, if there is one."""
        await trio.lowlevel.checkpoint()
        self._entries.pop(entry.pk, None)


class MemoryDiscovery:
    """A whole discovery in memory: the service's rules and store, without HTTP."""

    def __init__(
        self, *, test_mode: bool = True, wall_clock: Callable[[], int] = time.time_ns
    ) -> None:
        policy = Policy(test_mode=test_mode)
        self.service = DiscoveryService(MemoryStore(wall_clock), policy, wall_clock=wall_clock)

    async def entry(self, pk: PublicKey) -> Entry:
        """Look up the entry of a key; `UnreachableError` with code 100 if there is none."""
        try:
            return await self.service.entry(pk)
        except Refusal as refusal:
            raise _in_words(refusal) from None

    async def available_servers(self) -> list[Entry]:
        """The servers with free sessions, most of them first; an empty list if none."""
        return await self.service.available_servers()

    async def all_servers(self) -> list[Entry]:
        """All servers; an empty list if none."""
        return await self.service.all_servers()

    async def publish(self, entry: Entry) -> None:
        """Make a signed entry known; `SequenceError` if it is not newer than the known one."""
        try:
            await self.service.publish(entry.to_json())
        except Refusal as refusal:
            raise _in_words(refusal) from None

    async def withdraw(self, entry: Entry) -> None:
        """Take back the entry of a key, proven by a signed entry at least as new."""
        try:
            await self.service.withdraw(entry.to_json())
        except Refusal as refusal:
            raise _in_words(refusal) from None


def _in_words(refusal: Refusal) -> Exception:
    return refused("the discovery in memory", refusal.status, refusal.text)
