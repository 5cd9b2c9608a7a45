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
SILENT_AGE: Final = 60  # seconds for which a server that left a request waiting is asked last
LOOK_UP_TIMEOUT: Final = 3  # seconds for the discovery, after which all links are as good


class Whereabouts:
    """What a server knows of clients that are not its own."""

    def __init__(self, discovery: Discovery, peers: Peers) -> None:
        self._entries = EntryCache(discovery)
        self._peers = peers
        self._silent: dict[PublicKey, float] = {}  # until when; servers with a link, no others
        self._unknown: OrderedDict[PublicKey, float] = OrderedDict()  # until when

    async def ways_to(self, pk: PublicKey) -> list[Session]:
        """Links by which ``pk`` may be reached, the likeliest first; none if nobody knows it."""
        servers = await self._servers_of(pk)
        if servers is None:
            return []
        await self._peers.link_with_any(servers)
        now = trio.current_time()

        def rank(session: Session) -> tuple[bool, bool, float]:
            pk = session.remote_pk
            is_silent = self._silent.get(pk, 0) > now
            return pk not in servers, is_silent, session.connection.round_trip or 0.0

        return sorted((link.session for link in self._peers if link.is_open), key=rank)[:MAX_ASKED]

    def was_silent(self, server: PublicKey) -> None:
        """Note that a server let a request wait: for a while others are asked first."""
        now = trio.current_time()
        self._silent = {pk: until for pk, until in self._silent.items() if until > now}
        self._silent[server] = now + SILENT_AGE

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
