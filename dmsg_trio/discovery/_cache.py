"""Entries that were looked up lately."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import trio

from dmsg_trio._errors import ErrorCode, UnreachableError
from dmsg_trio._keys import PublicKey
from dmsg_trio._wire.entries import Entry

from ._interface import Discovery

ENTRY_AGE: Final = 300  # seconds that an entry is good for
MAX_ENTRIES: Final = 4096


class EntryCache:
    """The discovery, asked once in a while for each key."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery
        self._entries: OrderedDict[PublicKey, tuple[float, Entry]] = OrderedDict()

    def knows(self, pk: PublicKey) -> bool:
        """Whether the entry of ``pk`` is remembered, and so may be out of date."""
        known = self._entries.get(pk)
        return known is not None and known[0] > trio.current_time()

    def forget(self, pk: PublicKey) -> None:
        """Look ``pk`` up anew next time."""
        self._entries.pop(pk, None)

    async def client(self, pk: PublicKey, *, anew: bool = False) -> Entry:
        """The entry of a client with delegated servers; `UnreachableError` 100, 102 or 103.

        What is remembered does not count with ``anew``, but stays if the discovery does not answer.
        """
        entry = await self._get(pk, anew=anew)
        if entry.client is None:
            raise self._of_no_use(pk, ErrorCode.NOT_A_CLIENT_ENTRY, "is no client")
        if not entry.delegated_servers:
            reason = "is known, but connected to no server"
            raise self._of_no_use(pk, ErrorCode.NO_DELEGATED_SERVERS, reason)
        return entry

    async def server(self, pk: PublicKey, *, anew: bool = False) -> Entry:
        """The entry of a server; `UnreachableError` 100 or 101. ``anew`` is as for `client`."""
        entry = await self._get(pk, anew=anew)
        if entry.server is None:
            raise self._of_no_use(pk, ErrorCode.NOT_A_SERVER_ENTRY, "is no server")
        return entry

    def _of_no_use(self, pk: PublicKey, code: ErrorCode, what: str) -> UnreachableError:
        """Say what is wrong with an entry, and look it up anew next time: it may be right then."""
        self.forget(pk)
        return UnreachableError(code, f"{pk} {what}")

    async def _get(self, pk: PublicKey, *, anew: bool = False) -> Entry:
        now = trio.current_time()
        if not anew and (known := self._entries.get(pk)) and known[0] > now:
            return known[1]
        entry = await self._discovery.entry(pk)
        self._entries[pk] = (now + ENTRY_AGE, entry)
        self._entries.move_to_end(pk)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)
        return entry
