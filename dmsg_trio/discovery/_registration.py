"""How a client or server keeps its entry in a discovery, as long as that is there or comes back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from dmsg_trio._errors import DiscoveryError
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.backoff import Backoff
from dmsg_trio._wire.entries import Entry

from ._interface import Discovery
from ._publish import Publisher
from ._several import members_of

logger = logging.getLogger("dmsg_trio.discovery")

LEAVE_TIME: Final = 3  # seconds to take the entry back in
RIVAL_PAUSE: Final = 600  # seconds between two words on another process with our key
INTERVAL_OF_TWO: Final = 60  # seconds: an entry of a client and a server expires as a server's
SHORTEST_INTERVAL: Final = 1  # seconds between two entries, however often there is news


class Registration:
    """One entry at each discovery, published when it changes and at each interval, and taken back
    at the end.

    ``draft`` gives the entry as it should be now (its sequence and timestamp do not matter), or None
    while there is nothing to publish yet.
    """

    def __init__(
        self,
        sk: SecretKey,
        discovery: Discovery,
        *,
        draft: Callable[[], Entry | None],
        interval: float,
        wall_clock: Callable[[], int],
    ) -> None:
        self.done = trio.Event()  # set when the entry was published anywhere for the first time
        self._parts = [
            _Part(sk, member, draft, interval, wall_clock, self.done)
            for member in members_of(discovery)
        ]

    def touch(self) -> None:
        """Publish soon: the entry is not what it was."""
        for part in self._parts:
            part.touch()

    def leave(self) -> None:
        """Take the entry back, and end `run`."""
        for part in self._parts:
            part.leave()

    async def run(self) -> None:
        """Keep the entry published until cancelled or told to `leave`; then take it back."""
        async with trio.open_nursery() as nursery:
            for part in self._parts:
                nursery.start_soon(part.run)


class _Part:
    """The entry at one discovery, whose sequence is its own."""

    def __init__(
        self,
        sk: SecretKey,
        discovery: Discovery,
        draft: Callable[[], Entry | None],
        interval: float,
        wall_clock: Callable[[], int],
        done: trio.Event,
    ) -> None:
        self._sk = sk
        self._publisher = Publisher(discovery, sk, wall_clock=wall_clock)
        self._draft = draft
        self._interval = interval
        self._wall_clock = wall_clock
        self._done = done
        self._news = trio.Event()
        self._leaving = False
        self._rival_named_at = float("-inf")

    def touch(self) -> None:
        """Publish soon: the entry is not what it was."""
        self._news.set()

    def leave(self) -> None:
        """Take the entry back, and end `run`."""
        self._leaving = True
        self._news.set()

    async def run(self) -> None:
        """Keep the entry published until cancelled or told to `leave`; then take it back."""
        backoff = Backoff()
        try:
            while not self._leaving:
                self._news = trio.Event()
                delay = await self._publish(backoff)
                with trio.move_on_after(delay):
                    await self._news.wait()
        finally:
            with trio.move_on_after(LEAVE_TIME, shield=True):
                await self._withdraw()

    async def _publish(self, backoff: Backoff) -> float:
        """Publish what there is to publish; say in how many seconds to do so again."""
        draft = self._draft()
        if draft is None:
            return self._interval
        try:
            rival = await self._publisher.publish(draft)
        except DiscoveryError as error:
            delay = backoff.next_delay()
            logger.warning("not registered, next try in %.1f s: %s", delay, error)
            return delay
        if backoff.failures or not self._done.is_set():
            logger.info("registered as %s", self._sk.pk)
        backoff.reset()
        self._done.set()
        if rival:
            self._name(rival)
        # What changes often is told in one entry, not in many.
        await trio.sleep(SHORTEST_INTERVAL)
        published = self._publisher.published
        is_of_two = published and published.client and published.server
        return min(self._interval, INTERVAL_OF_TWO) if is_of_two else self._interval

    def _name(self, rival: Entry) -> None:
        """Tell, once in a while, that somebody else is who we are."""
        now = trio.current_time()
        if now < self._rival_named_at + RIVAL_PAUSE:
            return
        self._rival_named_at = now
        if rival.client:
            where = ", ".join(str(pk) for pk in rival.delegated_servers) or "no server"
        else:
            where = rival.server.address if rival.server else ""
        logger.warning(
            "another process uses our key %s: it published that it is at %s, %.0f s ago;"
            " each process needs a key of its own",
            self._sk.pk, where, (self._wall_clock() - rival.timestamp) / 1e9,
        )  # fmt: skip

    async def _withdraw(self) -> None:
        try:
            await self._publisher.take_back()
        except DiscoveryError as error:
            logger.warning("the entry stays until it expires: %s", error)
