"""Through which other server a client is reached: whom to ask first, and whom next."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import trio

from dmsg_trio._errors import DiscoveryError, UnreachableError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.session import Session
from dmsg_trio.discovery import Discovery, EntryCache

from ._peers import Peers

MAX_ASKED: Final = 8  # servers that one request is sent to at the most
UNKNOWN_AGE: Final = 2  # seconds for which a key without an entry is not looked up again
MAX_UNKNOWN: Final = 1024
LOOK_UP_TIMEOUT: Final = 3  # seconds for the discovery, after which all links are as good


class Whereabouts:
    """What a server knows of clients that are not its own."""

    def __init__(self, discovery: Discovery, peers: Peers) -> None:
        self._entries = EntryCache(discovery)
        self._peers = peers
        self._unknown: OrderedDict[PublicKey, float] = OrderedDict()  # until when

    async def ways_to(self, pk: PublicKey) -> list[Session]:
        """Links by which ``pk`` may be reached, the likeliest first; none if nobody knows it."""
        servers = await self._servers_of(pk)
        if servers is None:
            return []
        links = sorted((link.session for link in self._peers), key=_distance)
        links = [session for session in links if session.connection.is_open]
        links.sort(key=lambda session: session.remote_pk not in servers)
        return links[:MAX_ASKED]

    def was_wrong(self, pk: PublicKey) -> None:
        """Note that ``pk`` was not where it was said to be."""
        self._entries.forget(pk)

    async def _servers_of(self, pk: PublicKey) -> frozenset[PublicKey] | None:
        """Where ``pk`` says it is; None if it has no entry, nothing if the discovery is away."""
        now = trio.current_time()
        if self._unknown.get(pk, 0) > now:
            return None
        try:
            with trio.fail_after(LOOK_UP_TIMEOUT):
                entry = await self._entries.client(pk)
        except UnreachableError:
            self._note_unknown(pk, now)
            return None
        except (DiscoveryError, trio.TooSlowError):
            return frozenset()
        return frozenset(entry.delegated_servers)

    def _note_unknown(self, pk: PublicKey, now: float) -> None:
        self._unknown[pk] = now + UNKNOWN_AGE
        self._unknown.move_to_end(pk)
        if len(self._unknown) > MAX_UNKNOWN:
            self._unknown.popitem(last=False)


def _distance(session: Session) -> float:
    return session.connection.round_trip or 0.0
