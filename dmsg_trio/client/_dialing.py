"""The order in which a client dials (PROTOCOL: the order in which a client dials).

1. Sessions that are open with servers of the destination: these relay directly.
2. Sessions that are open with any other server that can relay to a second one.
3. A new session with a server of the destination.

Where the discovery does not say who the destination's servers are, the second tier is what is left.
A tier is used up before the next one is tried. Within one the way that worked last comes first, then
the shortest round trip. No way may use up the time that the caller gave for all of them, and all of
them leave enough of it to say what was tried.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import (
    Attempt,
    DiscoveryError,
    ErrorCode,
    RefusedError,
    UnreachableError,
)
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.backoff import Backoff
from dmsg_trio._net.opening import open_stream
from dmsg_trio._net.session import Session
from dmsg_trio._net.stream import DmsgStream
from dmsg_trio._wire.entries import ClientInfo, Entry
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio.discovery import EntryCache

from ._ports import Ports
from ._sessions import SessionKeeper

LONGEST_ATTEMPT: Final = 15  # seconds for one way, a new session included
LAST_WORD: Final = 0.05  # of the caller's time: until it runs out there is an error that says why
FIRST_PAUSE: Final = 2  # seconds in which who was not reached is worth no new session, growing to
LONGEST_PAUSE: Final = 60
MOVE_TIME: Final = 2  # seconds to wait for another session if a server leaves that had the only one
MAX_REMEMBERED: Final = 1024  # destinations


class Tier(IntEnum):
    """How a way leads to the destination; the smallest is tried first."""

    DELEGATED = 1
    ACROSS = 2
    NEW_SESSION = 3


@dataclass(frozen=True, slots=True)
class Dialed:
    """A ``stream``, and what it took to open it: the ``attempts`` in order, the last one with success."""

    stream: DmsgStream
    attempts: tuple[Attempt, ...]


@dataclass(slots=True)
class _Memory:
    """What dials to one destination have taught."""

    good_server: PublicKey | None = None
    failures: Backoff = field(default_factory=lambda: Backoff(FIRST_PAUSE, LONGEST_PAUSE))
    not_before: float = -math.inf  # no new session for its sake until then


class Dialer:
    """Opens streams for one client."""

    def __init__(
        self,
        sk: SecretKey,
        *,
        entries: EntryCache,
        keeper: SessionKeeper,
        ports: Ports,
        post_quantum: PostQuantum,
        wall_clock: Callable[[], int],
    ) -> None:
        self._sk = sk
        self._entries = entries
        self._keeper = keeper
        self._ports = ports
        self._post_quantum = post_quantum
        self._wall_clock = wall_clock
        self._last_timestamp = 0
        self._memories: OrderedDict[PublicKey, _Memory] = OrderedDict()

    async def dial(self, remote: Address) -> Dialed:
        """Open a stream, trying all ways in order; errors as `Client.open_stream` has them."""
        attempts: list[Attempt] = []
        until = _before_time_is_up()
        memory = self._memory_of(remote.pk)
        was_known = self._entries.knows(remote.pk)
        fault: DiscoveryError | None = None
        try:
            entry = await self._look_up(remote.pk, until)
        except DiscoveryError as error:
            entry, fault = _of_nowhere(remote.pk), error
        newest: Entry | None = entry
        stream = await self._try_all(remote, entry, memory, attempts, until)
        if fault and not attempts:
            raise fault
        if stream is None and was_known and not fault:  # by an entry that may be old
            newest = await self._look_up_anew(remote.pk, attempts, until)
            if newest and set(newest.delegated_servers) != set(entry.delegated_servers):
                stream = await self._try_all(remote, newest, memory, attempts, until)
        if stream is None and await self._moved(until):  # and so may the destination have
            newest = await self._look_up_anew(remote.pk, attempts, until)
            stream = await self._try_all(remote, newest or entry, memory, attempts, until)
        if stream is None:
            if newest:
                self._entries.forget(remote.pk)
            reason = f"{remote} was not reached"
            # Who asks in vain meanwhile does not make the pause longer, or it might never end.
            if any(each.tier == Tier.NEW_SESSION for each in attempts):
                memory.not_before = trio.current_time() + memory.failures.next_delay()
            elif (pause := memory.not_before - trio.current_time()) > 0:
                reason += f"; a new session for it is worth a try in {pause:.1f} s"
            if fault:
                reason += f", and where it is was not to be learned: {fault}"
            raise UnreachableError(ErrorCode.CANNOT_CONNECT_TO_DELEGATED, reason, attempts)
        memory.good_server = stream.server_pk
        memory.failures.reset()
        memory.not_before = -math.inf
        return Dialed(stream, tuple(attempts))

    def timestamp(self) -> int:
        """Nanoseconds, and never the same twice."""
        self._last_timestamp = max(self._wall_clock(), self._last_timestamp + 1)
        return self._last_timestamp

    async def _look_up(self, pk: PublicKey, until: float, *, anew: bool = False) -> Entry:
        limit = max(0.0, until - trio.current_time()) / 2  # the rest is for the ways
        try:
            with trio.fail_after(limit):
                return await self._entries.client(pk, anew=anew)
        except trio.TooSlowError:
            raise DiscoveryError(f"no answer about {pk} within {limit:.1f} s") from None

    async def _look_up_anew(
        self, pk: PublicKey, attempts: list[Attempt], until: float
    ) -> Entry | None:
        """Ask the discovery although an entry is known; that stays if there is no answer."""
        try:
            return await self._look_up(pk, until, anew=True)
        except DiscoveryError:
            return None
        except UnreachableError as error:
            self._entries.forget(pk)
            raise UnreachableError(error.code, error.reason, attempts) from error

    async def _moved(self, until: float) -> bool:
        """Wait for another session where the only one does not take streams; say if that helps."""
        if not self._keeper.is_moving:
            return False
        with trio.move_on_at(min(until, trio.current_time() + MOVE_TIME)):
            await self._keeper.wait_moved()
        return self._keeper.takes_streams

    async def _try_all(
        self, remote: Address, entry: Entry, memory: _Memory, attempts: list[Attempt], until: float
    ) -> DmsgStream | None:
        tried: set[tuple[Tier, PublicKey]] = set()
        # Anew after each attempt: sessions come and go meanwhile.
        while ways := [way for way in self._ways_to(entry, memory) if way not in tried]:
            tier, server_pk = ways[0]
            # A new session may live on where the dial fails: that is no other way.
            tried |= {ways[0], (Tier.DELEGATED, server_pk)}
            began = trio.current_time()
            limit = min(LONGEST_ATTEMPT, max(0.0, until - began) / len(ways))
            stream, refusal, reason = None, None, ""
            try:
                with trio.fail_after(limit):
                    stream = await self._try(remote, server_pk)
            except RefusedError as error:
                refusal = error  # the way is not to blame
            except (UnreachableError, DiscoveryError) as error:
                reason = str(error)
            except trio.TooSlowError:
                reason = f"no answer within its share of the time, {limit:.1f} s"
            seconds = trio.current_time() - began
            attempts.append(Attempt(str(server_pk), reason, tier, seconds))
            if refusal:
                told = f"{refusal.reason}, through server {server_pk.short}"
                raise RefusedError(refusal.code, told, attempts) from refusal
            if stream:
                return stream
        return None

    def _ways_to(self, entry: Entry, memory: _Memory) -> list[tuple[Tier, PublicKey]]:
        """All ways that there are now, in the order in which they are to be tried."""
        delegated = entry.delegated_servers
        usable = {
            pk: session for pk, session in self._keeper.open.items() if session.connection.is_open
        }
        ways = [(Tier.DELEGATED, pk) for pk in delegated if pk in usable]
        ways += [
            (Tier.ACROSS, pk)
            for pk, session in usable.items()
            if pk not in delegated and session.relays_across
        ]
        if trio.current_time() >= memory.not_before:
            ways += [(Tier.NEW_SESSION, pk) for pk in delegated if pk not in usable]

        def rank(way: tuple[Tier, PublicKey]) -> tuple[Tier, bool, float]:
            tier, pk = way
            session = usable.get(pk)
            round_trip = session.connection.round_trip if session else None
            return tier, pk != memory.good_server, round_trip or 0.0

        return sorted(ways, key=rank)

    async def _try(self, remote: Address, server_pk: PublicKey) -> DmsgStream:
        return await open_stream(
            await self.session_with(server_pk),
            self._sk,
            self._ports.next_ephemeral(),
            remote,
            timestamp=self.timestamp(),
            post_quantum=self._post_quantum,
        )

    async def session_with(self, server_pk: PublicKey) -> Session:
        """Give the session with a server, a new one if there is none."""
        session = self._keeper.open.get(server_pk)
        if session and session.connection.is_open:
            return session
        was_known = self._entries.knows(server_pk)
        entry = await self._entries.server(server_pk)
        try:
            return await self._keeper.session_with(entry)
        except UnreachableError:
            newer = await self._entries.server(server_pk, anew=True) if was_known else entry
            if newer.server == entry.server:
                raise
        return await self._keeper.session_with(newer)  # it moved

    def _memory_of(self, pk: PublicKey) -> _Memory:
        memory = self._memories.setdefault(pk, _Memory())
        self._memories.move_to_end(pk)
        if len(self._memories) > MAX_REMEMBERED:
            self._memories.popitem(last=False)
        return memory


def _of_nowhere(pk: PublicKey) -> Entry:
    """What is known of a client if the discovery says nothing: it may be anywhere."""
    return Entry(pk=pk, timestamp=0, client=ClientInfo(()))


def _before_time_is_up() -> float:
    now = trio.current_time()
    return now + (1 - LAST_WORD) * max(0.0, trio.current_effective_deadline() - now)
