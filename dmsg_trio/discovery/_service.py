"""The discovery itself: the rules applied to a store. HTTP and `MemoryDiscovery` call it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import trio

from dmsg_trio._keys import PublicKey
from dmsg_trio._wire.entries import VISOR, Entry

from . import _rules
from ._rules import Policy, Refusal
from ._status import DiscoveryStatus, status_of
from ._store import Record, Since, Store, StoreError, StoreFullError

logger = logging.getLogger(__name__)

CLEANUP_INTERVAL: Final = 10  # seconds


class DiscoveryService:
    """What the endpoints of a discovery do; each method answers or raises `Refusal`."""

    def __init__(
        self,
        store: Store,
        policy: Policy | None = None,
        *,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._policy = policy or Policy()
        self._wall_clock = wall_clock

    # ---- writing ----

    async def publish(
        self, body: bytes, *, short: bool = False, admit: Callable[[PublicKey], None] | None = None
    ) -> str:
        """Take in a posted entry; ``admit`` may still refuse its owner, who is proven by then."""
        now = self._wall_clock()
        entry = _rules.read_published(body, self._policy, now)
        if admit is not None:
            admit(entry.pk)
        expires_at = _rules.expires_at(entry, self._policy, now, short=short)
        words = ""

        def replace(old: Record | None) -> Record:
            nonlocal words
            words = _rules.check_iteration(old.entry if old else None, entry, self._policy)
            if old is None:
                return Record(entry, expires_at, Since.beginning(entry, now))
            return Record(entry, expires_at, old.since.carried_on(old.entry, entry, now))

        try:
            await self._store.update(entry.pk, replace)
        except StoreFullError as error:
            raise Refusal(503, _rules.TOO_FULL) from error
        return words

    async def withdraw(self, body: bytes) -> str:
        """Remove the entry of whoever signed this one."""
        withdrawn = _rules.read_withdrawn(body, self._policy, self._wall_clock())

        def remove(old: Record | None) -> None:
            _rules.check_withdrawal(old.entry if old else None, withdrawn, self._policy)

        await self._store.update(withdrawn.pk, remove)
        return _rules.DELETED

    def check_monitor(self, pk_text: str, signature_text: str) -> None:
        """Raise `Refusal` unless these headers are a network monitor's."""
        _rules.check_monitor(pk_text, signature_text, self._policy)

    async def deregister(self, pk_texts: Sequence[str]) -> None:
        """Remove the entries of keys for a network monitor; none of them if one is no key."""
        pks = [_rules.read_key(text) for text in pk_texts if text.strip("0")]
        for pk in pks:
            await self._store.update(pk, lambda old: None)

    # ---- reading ----

    async def entry(self, pk: PublicKey) -> Entry:
        """The entry of a key."""
        if (entry := await self._store.get(pk)) is None:
            raise Refusal(404, _rules.NOT_FOUND)
        return entry

    async def entries(self, pks: Sequence[PublicKey]) -> dict[PublicKey, Entry]:
        """The entries of those keys that have one."""
        found = [(pk, await self._store.get(pk)) for pk in pks]
        return {pk: entry for pk, entry in found if entry is not None}

    async def available_servers(self) -> list[Entry]:
        """The servers with free sessions, most of them first."""
        return _rules.choose_available(await self._store.servers())

    async def all_servers(self) -> list[Entry]:
        """All servers."""
        return await self._store.servers()

    async def client_keys(self) -> list[PublicKey]:
        """The keys of all clients."""
        return [entry.pk for entry in await self._store.clients()]

    async def visor_keys(self) -> list[PublicKey]:
        """The keys of the clients that call themselves visors."""
        return [entry.pk for entry in await self._store.clients() if entry.client_type == VISOR]

    async def clients_by_server(self) -> dict[PublicKey, list[PublicKey]]:
        """Which clients are reached through which server."""
        found: dict[PublicKey, list[PublicKey]] = {}
        for entry in await self._store.clients():
            for server in dict.fromkeys(entry.delegated_servers):
                found.setdefault(server, []).append(entry.pk)
        return found

    async def clients_of_server(self, pk: PublicKey) -> list[PublicKey]:
        """The clients that are reached through one server."""
        clients = await self._store.clients()
        return [entry.pk for entry in clients if pk in entry.delegated_servers]

    async def status(self, *, health: Sequence[str] = ()) -> DiscoveryStatus:
        """Since when all entries stand; ``health`` is added as it is."""
        return status_of(await self._store.records(), self._wall_clock(), health=health)

    # ---- keeping house ----

    async def keep_clean(self) -> None:
        """Forget expired entries every now and then; run until cancelled."""
        while True:
            await trio.sleep(CLEANUP_INTERVAL)
            try:
                count = await self._store.remove_expired()
            except StoreError as error:
                logger.warning("expired entries stay for now: %s", error)
                continue
            if count:
                logger.debug("forgot %d expired entries", count)
