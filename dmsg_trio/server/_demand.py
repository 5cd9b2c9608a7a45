"""Links on demand: dialed when a request needs a server, let go when nothing used them for long.

For networks of so many servers that a link with each of them is too much. A server that works like
this and one that keeps all links get on with each other: whoever wants a link dials it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Final

import trio

from dmsg_trio._keys import PublicKey
from dmsg_trio._net.backoff import Backoff

from ._links import Link, Links

logger = logging.getLogger("dmsg_trio.server")

DIAL_TIME: Final = 4  # seconds that a request waits for a link
MAX_DIALED: Final = 4  # servers of one destination that are dialed at the most
MAX_UNDER_WAY: Final = 64  # dials at once
MAX_REMEMBERED: Final = 512  # servers that were dialed
IDLE_LOOK: Final = 15  # seconds between two looks for links that nothing uses

Dial = Callable[[PublicKey, Backoff], Awaitable[float]]  # until the link ends, and a pause


@dataclass(slots=True)
class _Past:
    """What dials to one server have taught."""

    backoff: Backoff = field(default_factory=Backoff)
    not_before: float = float("-inf")


class Demand:
    """Which links are wanted now."""

    def __init__(self, links: Links, dial: Dial, *, idle_time: float) -> None:
        self._links = links
        self._dial = dial
        self._idle_time = idle_time
        self._pasts: OrderedDict[PublicKey, _Past] = OrderedDict()  # the latest one last
        self._held: set[PublicKey] = set()  # dialed or linked to, by a task of `run`
        self._orders, self._orders_in = trio.open_memory_channel[PublicKey](MAX_UNDER_WAY)

    async def run(self) -> None:
        """Dial whom requests need, and own these links, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._let_go_of_idle)
            async for pk in self._orders_in:
                nursery.start_soon(self._hold, pk)

    async def link_with_any(self, servers: Collection[PublicKey]) -> None:
        """Wait until there is a link with one of ``servers``, or no more hope of one."""
        for pk in sorted(servers)[:MAX_DIALED]:
            self._order(pk)
        with trio.move_on_after(DIAL_TIME):
            while not any(pk in self._links for pk in servers) and self._is_dialing(servers):
                await self._links.changed.park()

    # ---- dialing ----

    def _order(self, pk: PublicKey) -> None:
        past = self._pasts.get(pk)
        is_left_alone = past is not None and past.not_before > trio.current_time()
        under_way = sum(each not in self._links for each in self._held)
        if pk in self._links or pk in self._held or is_left_alone or under_way >= MAX_UNDER_WAY:
            return
        if not self._links.has_room_for(pk) and not self._let_go_of_one():
            return
        self._held.add(pk)
        self._orders.send_nowait(pk)

    def _is_dialing(self, servers: Collection[PublicKey]) -> bool:
        return any(pk in self._held for pk in servers)

    async def _hold(self, pk: PublicKey) -> None:
        """Dial a server, and have a link with it until that ends."""
        past = self._past_of(pk)
        try:
            past.not_before = trio.current_time() + await self._dial(pk, past.backoff)
        finally:
            self._held.discard(pk)
            self._links.changed.unpark_all()

    def _past_of(self, pk: PublicKey) -> _Past:
        past = self._pasts.setdefault(pk, _Past())
        self._pasts.move_to_end(pk)
        if len(self._pasts) > MAX_REMEMBERED:
            self._pasts.popitem(last=False)
        return past

    # ---- letting go ----

    async def _let_go_of_idle(self) -> None:
        """Close links that we dialed and that nothing uses; the others are for the others to close."""
        while True:
            await trio.sleep(IDLE_LOOK)
            now = trio.current_time()
            for link in self._links.all:
                if link.session.connection.stream_count:
                    link.used_at = now
                elif self._may_close(link) and link.used_at + self._idle_time <= now:
                    link.session.connection.close("nothing used this link")

    def _may_close(self, link: Link) -> bool:
        """Whether a link is one that we dialed on demand, and without streams."""
        is_ours = link.dialed_here and link.pk in self._held
        return is_ours and not link.session.connection.stream_count

    def _let_go_of_one(self) -> bool:
        """Close the link that was not used for the longest, so that there is room for another."""
        unused = [link for link in self._links.all if self._may_close(link)]
        if not unused:
            return False
        oldest = min(unused, key=lambda link: link.used_at)
        oldest.session.connection.close("another link needs the room")
        self._links.remove(oldest.session)
        return True
