"""Finding out who it is that announces itself and is not known: one question to the discovery for each.

Anybody can make up keys. So strangers who share a key share a question, few are asked at a time and not
many in a minute, and a key that turned out to be no server's is not asked about again at once. A list
of all servers would be one question too, but in a large network it is as long as hundreds of entries.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from dmsg_trio._errors import DiscoveryError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.borders import Border

logger = logging.getLogger("dmsg_trio.server")

WELCOME_TIME: Final = 3  # seconds in which it is known whether a stranger is a server, or given up
MAX_UNDER_WAY: Final = 8  # questions at once
QUESTIONS_AT_ONCE: Final = 256  # in a row: many servers may start together
QUESTIONS_PER_SECOND: Final = 2  # for long
UNKNOWN_AGE: Final = 10  # seconds for which a key that is no server's is not asked about again
MAX_UNKNOWN: Final = 1024

LookUp = Callable[[PublicKey], Awaitable[bool]]  # whether it is a server


class Strangers:
    """The keys that are being looked up, or were lately and in vain."""

    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up
        self._asked: dict[PublicKey, trio.Event] = {}  # set when the answer is there
        self._unknown: OrderedDict[PublicKey, float] = OrderedDict()  # until when
        self._allowed: float = QUESTIONS_AT_ONCE
        self._since = float("inf")  # as of which time so many are allowed
        self._orders, self._orders_in = trio.open_memory_channel[PublicKey](QUESTIONS_AT_ONCE)

    async def run(self) -> None:
        """Ask what there is to ask, until cancelled."""
        slots = trio.Semaphore(MAX_UNDER_WAY)
        async with trio.open_nursery() as nursery:
            async for pk in self._orders_in:
                await slots.acquire()
                nursery.start_soon(self._ask, pk, slots)

    async def wait_known(self, pk: PublicKey) -> None:
        """Wait until it was looked up whether ``pk`` is a server; not at all if it is not worth it."""
        if self._unknown.get(pk, 0) > trio.current_time():
            return
        if pk not in self._asked and not self._order(pk):
            logger.debug("too many strangers: %s is not looked up", pk)
            return
        with trio.move_on_after(WELCOME_TIME):
            await self._asked[pk].wait()

    def _order(self, pk: PublicKey) -> bool:
        """Have a question asked soon; False if it is one too many."""
        now = trio.current_time()
        refilled = self._allowed + max(0.0, now - self._since) * QUESTIONS_PER_SECOND
        self._allowed, self._since = min(refilled, QUESTIONS_AT_ONCE), now
        if self._allowed < 1 or len(self._asked) >= QUESTIONS_AT_ONCE:
            return False
        self._allowed -= 1
        self._asked[pk] = trio.Event()
        self._orders.send_nowait(pk)
        return True

    async def _ask(self, pk: PublicKey, slots: trio.Semaphore) -> None:
        try:
            with Border(logger, "the look-up of server %s", pk):
                await self._learn(pk)
        finally:
            slots.release()
            self._asked.pop(pk).set()

    async def _learn(self, pk: PublicKey) -> None:
        try:
            if not await self._look_up(pk):
                self._note_unknown(pk)
        except DiscoveryError as error:
            logger.warning("server %s not looked up: %s", pk, error)

    def _note_unknown(self, pk: PublicKey) -> None:
        self._unknown[pk] = trio.current_time() + UNKNOWN_AGE
        self._unknown.move_to_end(pk)
        if len(self._unknown) > MAX_UNKNOWN:
            self._unknown.popitem(last=False)
