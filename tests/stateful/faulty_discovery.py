"""A discovery with the real rules, and what a script makes of its answers."""

from __future__ import annotations

import trio

from dmsg_trio import PublicKey, SecretKey
from dmsg_trio._errors import DiscoveryError
from dmsg_trio.discovery import ClientInfo, Entry, MemoryDiscovery, ServerInfo
from dmsg_trio.testing import Network

from .facts import Published
from .model import World
from .parties import NAMES, PKS
from .steps import Lie


class FaultyDiscovery(MemoryDiscovery):
    """Lies, is slow or is away, as the world of a script has it."""

    def __init__(self, network: Network, world: World) -> None:
        super().__init__(wall_clock=network.wall_clock)
        self._world = world
        self._published: dict[PublicKey, Entry] = {}

    async def entry(self, pk: PublicKey) -> Entry:
        await self._answer()
        match self._world.lies.get(NAMES[pk]):
            case None:
                return await super().entry(pk)
            case Lie.ABSENT:
                return await super().entry(SecretKey.generate().pk)
            case Lie.NOWHERE:
                return Entry(pk=pk, timestamp=0, client=ClientInfo(()))
            case Lie.A_SERVER:
                return Entry(pk=pk, timestamp=0, server=ServerInfo(address="nowhere.test:1"))
            case servers:
                info = ClientInfo(tuple(PKS[name] for name in servers))
                return Entry(pk=pk, timestamp=0, client=info)

    async def available_servers(self) -> list[Entry]:
        await self._answer()
        return await super().available_servers()

    async def all_servers(self) -> list[Entry]:
        await self._answer()
        return await super().all_servers()

    async def publish(self, entry: Entry) -> None:
        await self._answer()
        await super().publish(entry)
        self._published[entry.pk] = entry

    async def withdraw(self, entry: Entry) -> None:
        await self._answer()
        await super().withdraw(entry)
        self._published.pop(entry.pk, None)

    def said_of(self, name: str) -> Published:
        """What it says of a client now."""
        if not self._world.discovery_is_up:
            return None
        if lie := self._world.lies.get(name):
            return lie
        entry = self._published.get(PKS[name])
        if entry is None:
            return Lie.ABSENT
        return tuple(NAMES[pk] for pk in entry.delegated_servers) or Lie.NOWHERE

    async def _answer(self) -> None:
        await trio.sleep(self._world.discovery_delay)
        if not self._world.discovery_is_up:
            raise DiscoveryError("the discovery is away")
