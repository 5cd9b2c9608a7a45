"""The table of links with other servers: which one of a pair is used, and how many there may be.

Where two servers dialed each other at once there are two links. Both prefer the one that the smaller
key dialed, and the other one serves at once when that is lost.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import trio

from dmsg_trio._keys import PublicKey
from dmsg_trio._net.session import Session

from ._replacements import Replacements

logger = logging.getLogger("dmsg_trio.server")


class TooManyLinksError(Exception):
    """There are links with as many servers as there may be."""


@dataclass(eq=False, slots=True)
class Link:
    """One usable session with another server."""

    session: Session
    dialed_here: bool
    used_at: float = field(default_factory=trio.current_time)  # noted where links are on demand

    @property
    def pk(self) -> PublicKey:
        """The other server."""
        return self.session.remote_pk

    @property
    def is_open(self) -> bool:
        """Whether streams can be opened here."""
        return self.session.connection.is_open


class Links:
    """All links of one server: at most one that it dialed and one that the other did, for each."""

    def __init__(self, own: PublicKey, *, most: int, replacements: Replacements) -> None:
        self.changed = trio.lowlevel.ParkingLot()  # where to wait for news of any server
        self._own = own
        self._most = most
        self._replacements = replacements
        # Of one each: a whole mesh has a task for every server, and none wakes for another's sake.
        self._changed: dict[PublicKey, trio.lowlevel.ParkingLot] = {}
        self._by_pk: dict[PublicKey, list[Link]] = {}  # the preferred one first
        self._begun: Counter[PublicKey] = Counter()  # how often a server was linked to anew

    # ---- asking ----

    def __contains__(self, pk: PublicKey) -> bool:
        return pk in self._by_pk

    def __len__(self) -> int:
        return len(self._by_pk)

    def __iter__(self) -> Iterator[Link]:
        """The links in use, one per server."""
        return iter([_usable(links) for links in self._by_pk.values()])

    @property
    def all(self) -> list[Link]:
        """Those in use, and those that wait to be."""
        return [link for links in self._by_pk.values() for link in links]

    def with_server(self, pk: PublicKey) -> Sequence[Link]:
        """The links with one server, the preferred one first."""
        return self._by_pk.get(pk, ())

    @property
    def servers(self) -> frozenset[PublicKey]:
        """With whom there is a link."""
        return frozenset(self._by_pk)

    def find(self, session: Session) -> Link | None:
        """The link that ``session`` is, if it is one."""
        links = self.with_server(session.remote_pk)
        return next((link for link in links if link.session is session), None)

    def has_room_for(self, pk: PublicKey) -> bool:
        """Whether there may be a link with this server."""
        return pk in self._by_pk or len(self._by_pk) < self._most

    def reconnects(self, pk: PublicKey) -> int:
        """How often the links with a server were lost, all of them, and one came back."""
        return max(0, self._begun[pk] - 1)

    async def wait_for_news(self, pk: PublicKey) -> None:
        """Wait until a link with this server came or went, or there may be room for one."""
        lot = self._changed.setdefault(pk, trio.lowlevel.ParkingLot())
        try:
            await lot.park()
        finally:
            if not lot and self._changed.get(pk) is lot:
                del self._changed[pk]

    # ---- changing ----

    def add(self, link: Link) -> None:
        """Take in a link; an older one that was dialed from the same side is closed.

        Raises `TooManyLinksError`, or `TooManyReplacementsError`.
        """
        if not self.has_room_for(link.pk):
            raise TooManyLinksError(f"there are {len(self)} links already")
        others = []
        for older in self.with_server(link.pk):
            if older.dialed_here == link.dialed_here:
                self._replacements.note(link.pk, older.session.peer, link.session.peer)
                older.session.connection.close("a newer link took its place")
            else:
                others.append(older)
        if link.pk not in self._by_pk:
            self._begun[link.pk] += 1
        self._by_pk[link.pk] = sorted([link, *others], key=self._rank)
        link.session.connection.ping()  # the other side may always be the first to ask for life
        by = "us" if link.dialed_here else "it"
        logger.info("link with server %s, dialed by %s", link.pk, by)
        self._tell([link.pk])

    def remove(self, session: Session) -> None:
        """Note that a session has ended, which may have been a link."""
        if link := self.find(session):
            was_full = len(self) >= self._most
            left = [each for each in self._by_pk.pop(link.pk) if each is not link]
            if left:
                self._by_pk[link.pk] = left
            logger.info("link with server %s ended: %s", link.pk, session.connection.close_reason)
            self._tell(list(self._changed) if was_full else [link.pk])

    def forget_others(self, known: Container[PublicKey]) -> None:
        """Forget the past of servers that are neither known nor linked to."""
        for pk in [pk for pk in self._begun if pk not in known and pk not in self._by_pk]:
            del self._begun[pk]

    def _tell(self, concerned: Iterable[PublicKey]) -> None:
        self.changed.unpark_all()
        for pk in concerned:
            if lot := self._changed.get(pk):
                lot.unpark_all()

    def _rank(self, link: Link) -> bool:
        """Both sides prefer the link that the smaller key dialed."""
        return link.dialed_here != (self._own < link.pk)


def _usable(links: list[Link]) -> Link:
    return next((link for link in links if link.is_open), links[0])
