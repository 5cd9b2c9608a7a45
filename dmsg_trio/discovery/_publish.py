"""How an owner publishes: each entry is one sequence on from what the discovery has.

An entry has two parts, a client's and a server's. One key may be both, in two programs: each writes
its own part and keeps the other's. So a program finds entries under its key that it did not write,
and can tell by them whether there is a rival: a second program that is the same as itself.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import trio

from dmsg_trio._errors import UnreachableError
from dmsg_trio._keys import SecretKey, Signature
from dmsg_trio._wire.entries import ClientInfo, Entry, ServerInfo

from ._interface import Discovery, SequenceError

PUBLISH_ATTEMPTS: Final = 3
MAX_TRIED: Final = 16  # entries remembered that may have arrived without our hearing of it
CLIENT_PART_AGE: Final = 660  # seconds for which a client's part is kept: it comes every 5 minutes
SERVER_PART_AGE: Final = 130  # and a server's, which comes every minute


class Publisher:
    """Publishes the entries of one program with one key at one discovery."""

    def __init__(
        self, discovery: Discovery, sk: SecretKey, *, wall_clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.published: Entry | None = None
        self._discovery = discovery
        self._sk = sk
        self._wall_clock = wall_clock
        self._draft: Entry | None = None  # of what is published: our part alone
        self._other: ClientInfo | ServerInfo | None = None  # the part of another program
        self._other_until = 0.0
        self._tried: deque[Signature | None] = deque(maxlen=MAX_TRIED)  # of our entries

    async def publish(self, draft: Entry) -> Entry | None:
        """Publish ``draft`` as of now; answer with the entry of a rival, if one stood there.

        The sequence is that of the draft at first, then one more each time; and if the discovery has
        an entry that is as new (of an earlier run, or of another program) the one after that.
        """
        rival: Entry | None = None
        sequence = self.published.sequence + 1 if self.published else draft.sequence
        timestamp = self._wall_clock()
        for attempts_left in reversed(range(PUBLISH_ATTEMPTS)):
            entry = replace(self._completed(draft), sequence=sequence, timestamp=timestamp)
            signed = entry.signed(self._sk)
            self._tried.append(signed.signature)
            try:
                await self._discovery.publish(signed)
            except SequenceError:
                if not attempts_left:
                    raise
            else:
                self.published, self._draft = signed, draft
                break
            try:
                known = await self._discovery.entry(self._sk.pk)
            except UnreachableError:
                continue  # it expired between the two
            if self._is_a_rival_s(known):
                rival = known
            self._learn_other_part(draft, known)
            sequence = known.sequence + 1
            # A clock that was set back must not keep us from publishing.
            timestamp = max(self._wall_clock(), known.timestamp)
        return rival

    async def take_back(self) -> None:
        """Withdraw our part; that of another program stays, and so does the entry of a rival."""
        if self.published is None or self._draft is None:
            return
        known = self.published
        for attempts_left in reversed(range(PUBLISH_ATTEMPTS)):
            now = self._wall_clock()
            try:
                if rest := _without_part(known, self._draft):
                    last = rest.next_iteration(timestamp=now)
                    await self._discovery.publish(last.signed(self._sk))
                else:
                    # Of the same sequence, so that it takes back no newer entry than that.
                    last = known.next_iteration(timestamp=now, sequence=known.sequence)
                    await self._discovery.withdraw(last.signed(self._sk))
                return
            except SequenceError:
                if not attempts_left:
                    raise
            try:
                known = await self._discovery.entry(self._sk.pk)
            except UnreachableError:
                return
            if not _has_part(known, self._draft):
                return

    # ---- whose word an entry is ----

    def _is_a_rival_s(self, known: Entry) -> bool:
        if self._draft is None or known.signature in self._tried:
            return False
        is_of_two = known.client is not None and known.server is not None
        was_of_two = self._other is not None  # whose other program may have left
        return not ((is_of_two or was_of_two) and _has_part(known, self._draft))

    def _learn_other_part(self, draft: Entry, known: Entry) -> None:
        self._other = known.client if draft.client is None else known.server
        age = CLIENT_PART_AGE if draft.client is None else SERVER_PART_AGE
        self._other_until = trio.current_time() + age

    def _completed(self, draft: Entry) -> Entry:
        """Add the other program's part, unless that has not been heard of for long."""
        match self._other if trio.current_time() < self._other_until else None:
            case ClientInfo() as client:
                return replace(draft, client=client)
            case ServerInfo() as server if draft.server is None:
                return replace(draft, server=server)
        return draft


async def publish_next(
    discovery: Discovery,
    sk: SecretKey,
    draft: Entry,
    *,
    wall_clock: Callable[[], int] = time.time_ns,
) -> Entry:
    """Sign ``draft`` as of now and publish it; answer with the entry as it was published.

    Its sequence is kept unless the discovery has an entry of this key that is as new.
    """
    publisher = Publisher(discovery, sk, wall_clock=wall_clock)
    await publisher.publish(draft)
    return publisher.published or draft


def _has_part(entry: Entry, draft: Entry) -> bool:
    """Whether the part that ``draft`` has is in ``entry`` as well, but for the discovery's word."""
    if draft.client is not None:
        return entry.client == draft.client
    return _untyped(entry.server) == _untyped(draft.server)


def _without_part(entry: Entry, draft: Entry) -> Entry | None:
    """The entry without the part that ``draft`` has; None if that leaves nothing."""
    is_client = draft.client is not None
    if (entry.server if is_client else entry.client) is None:
        return None
    bare = replace(entry, signature=None, received=None)
    return replace(bare, client=None) if is_client else replace(bare, server=None)


def _untyped(server: ServerInfo | None) -> ServerInfo | None:
    return server and replace(server, server_type="")
