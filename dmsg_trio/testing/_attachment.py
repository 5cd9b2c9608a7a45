"""What joins one party to a network in memory, until it dies."""

from __future__ import annotations

import trio

from dmsg_trio._errors import DiscoveryError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.carriers import Carrier
from dmsg_trio._net.dialing import Connect
from dmsg_trio._wire.entries import Entry
from dmsg_trio.discovery import Discovery

from ._pipe import MemoryStream


class Attachment:
    """One party's connections and its way to the discovery: itself a `Discovery`.

    A party that dies says nothing any more: so its entry stays where it is, until it expires.
    """

    def __init__(self, discovery: Discovery, connect: Connect) -> None:
        self._discovery = discovery
        self._connect = connect
        self._connections: list[MemoryStream] = []
        self._is_dead = False

    def die(self) -> None:
        """Let nothing come from this party any more."""
        self._is_dead = True

    def fall_silent(self) -> None:
        """Die, and make black holes of all connections."""
        self.die()
        for stream in self._connections:
            stream.stall()

    # ---- connections ----

    async def connect(self, address: str) -> Carrier:
        """Connect to ``host:port``; the dead wait for ever."""
        if self._is_dead:
            await trio.sleep_forever()
        return await self._connect(address)

    def add(self, stream: MemoryStream) -> None:
        """Count a connection among those of this party."""
        self._connections = [each for each in self._connections if not each.is_over]
        self._connections.append(stream)

    # ---- the discovery ----

    async def entry(self, pk: PublicKey) -> Entry:
        return await self._alive().entry(pk)

    async def available_servers(self) -> list[Entry]:
        return await self._alive().available_servers()

    async def all_servers(self) -> list[Entry]:
        return await self._alive().all_servers()

    async def publish(self, entry: Entry) -> None:
        await self._alive().publish(entry)

    async def withdraw(self, entry: Entry) -> None:
        if not self._is_dead:  # whose entry stays, and nobody is told so
            await self._discovery.withdraw(entry)

    def _alive(self) -> Discovery:
        if self._is_dead:
            raise DiscoveryError("this party is dead")
        return self._discovery
