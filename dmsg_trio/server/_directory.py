"""Which other servers there are, and where: those configured, and those that the discovery knows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

import trio

from dmsg_trio._errors import DiscoveryError, UnreachableError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.backoff import Backoff
from dmsg_trio.discovery import Discovery

from ._peer_options import PeerOptions
from ._strangers import Strangers

logger = logging.getLogger("dmsg_trio.server")

FIRST_LOOK: Final = 1  # seconds after the start until the discovery is asked for other servers
LOOKS_LEFT_OUT: Final = 10  # where links are on demand, so many intervals are between two looks
LOOK_UP_TIME: Final = 2  # seconds to look up one server's address


class Directory:
    """The servers that there may be a link with."""

    def __init__(self, own: PublicKey, discovery: Discovery, options: PeerOptions) -> None:
        self.changed = trio.lowlevel.ParkingLot()  # where to wait for news
        self._own = own
        self._discovery = discovery
        self._options = options
        self._addresses: dict[PublicKey, str] = dict(options.configured)
        self._strangers = Strangers(self._learn)

    # ---- asking ----

    def __contains__(self, pk: object) -> bool:
        return pk in self._addresses

    def __iter__(self) -> Iterator[PublicKey]:
        return iter(self._addresses)

    def __getitem__(self, pk: PublicKey) -> str:
        """The address of a server that is known."""
        return self._addresses[pk]

    async def welcomes(self, pk: PublicKey) -> bool:
        """Whether ``pk`` is a server that there may be a link with; a stranger is looked up."""
        if pk in self._options.configured:
            return True
        if self._options.accepted:
            return pk in self._options.accepted
        is_stranger = pk not in self._addresses and pk != self._own
        if is_stranger and self._options.from_discovery:
            await self._strangers.wait_known(pk)
        return pk in self._addresses

    async def _learn(self, pk: PublicKey) -> bool:
        """Take a stranger for a server if its entry says so; say whether it does."""
        address = await self._look_up(pk)
        if address is None:
            return False
        self._addresses.setdefault(pk, address)
        self.changed.unpark_all()
        return True

    async def newest_address(self, pk: PublicKey) -> str | None:
        """Where a server is, asked anew; None if it is none that there may be a link with."""
        accepted = self._options.accepted
        if pk == self._own or (accepted and pk not in accepted):
            return None
        if self._options.from_discovery:
            try:
                return await self._look_up(pk)
            except DiscoveryError as error:
                logger.warning("server %s not looked up: %s", pk, error)
        return self._addresses.get(pk)

    async def _look_up(self, pk: PublicKey) -> str | None:
        """Where the entry of ``pk`` says that it is; None if it is no server."""
        try:
            with trio.fail_after(LOOK_UP_TIME):
                entry = await self._discovery.entry(pk)
        except UnreachableError:
            return None
        except trio.TooSlowError:
            raise DiscoveryError(f"no answer within {LOOK_UP_TIME} s") from None
        return entry.server.address if entry.server else None

    # ---- looking ----

    async def run(self) -> None:
        """Look at the list of all servers now and then, and strangers up, until cancelled."""
        if not self._options.from_discovery:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._strangers.run)
            await trio.sleep(FIRST_LOOK)
            backoff = Backoff()
            while True:
                found = await self._look()
                self.changed.unpark_all()
                if found:
                    backoff.reset()
                await trio.sleep(self._look_interval if found else backoff.next_delay())

    @property
    def _look_interval(self) -> float:
        return self._options.look_interval * (LOOKS_LEFT_OUT if self._options.on_demand else 1)

    async def _look(self) -> bool:
        """Learn from the discovery which servers there are; say whether it answered."""
        try:
            servers = await self._discovery.all_servers()
        except DiscoveryError as error:
            logger.warning("no list of other servers: %s", error)
            return False
        found = {entry.pk: entry.server.address for entry in servers if entry.server}
        found.pop(self._own, None)
        if accepted := self._options.accepted:
            found = {pk: address for pk, address in found.items() if pk in accepted}
        self._addresses = found | dict(self._options.configured)
        return True
