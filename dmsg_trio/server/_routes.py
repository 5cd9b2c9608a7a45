"""Who has a session here: the table by which a server finds the next hop of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from dmsg_trio._keys import PublicKey
from dmsg_trio._net.session import Session

from ._replacements import Replacements

MAX_TENTATIVE: Final = 4  # sessions of one server's key that may still turn out to be links


class Routes:
    """The newest client session of each key.

    A session of a key that is known as a server's is tentative at first: it may be a link, and must
    not take the place of the client session that the same key may have.
    """

    def __init__(self, replacements: Replacements | None = None) -> None:
        self.replacements = replacements or Replacements()
        self._sessions: dict[PublicKey, Session] = {}
        self._tentative: dict[PublicKey, list[Session]] = {}
        self._emptied = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._sessions) + sum(map(len, self._tentative.values()))

    def __iter__(self) -> Iterator[Session]:
        tentative = [session for each in self._tentative.values() for session in each]
        return iter([*self._sessions.values(), *tentative])

    def find(self, pk: PublicKey) -> Session | None:
        """The session by which ``pk`` is reached, if it is one that takes new streams."""
        session = self._sessions.get(pk)
        for each in (session, *reversed(self._tentative.get(pk, ()))):
            if each and each.connection.is_open:
                return each
        return None

    async def wait_empty(self) -> None:
        """Wait until nobody has a session here."""
        while len(self):
            await self._emptied.park()

    @contextmanager
    def added(self, session: Session, *, tentative: bool = False) -> Iterator[None]:
        """Hold ``session`` for the block; an older one of the same key is closed.

        Raises `TooManyReplacementsError` if the key changes hands more often than it may.
        """
        if tentative:
            self._try(session)
        else:
            self._add(session)
        try:
            yield
        finally:
            self.withdraw(session)

    def confirm(self, session: Session) -> None:
        """Take a tentative session for that of a client; raises as `added` does."""
        if session in self._tentative.get(session.remote_pk, ()):
            self._add(session)
            self._remove_tentative(session)

    def withdraw(self, session: Session) -> None:
        """Reach nobody by ``session`` any more: it has ended, or is a link."""
        if self._sessions.get(session.remote_pk) is session:
            del self._sessions[session.remote_pk]
        self._remove_tentative(session)
        if not len(self):
            self._emptied.unpark_all()

    def _add(self, session: Session) -> None:
        pk = session.remote_pk
        if older := self._sessions.get(pk):
            self.replacements.note(pk, older.peer, session.peer)
            older.connection.close("a newer session of the same key took its place")
        self._sessions[pk] = session

    def _try(self, session: Session) -> None:
        tentative = self._tentative.get(session.remote_pk, [])
        if len(tentative) >= MAX_TENTATIVE:
            self.confirm(tentative[0])  # who opens that many is no server that makes a link
        self._tentative.setdefault(session.remote_pk, []).append(session)

    def _remove_tentative(self, session: Session) -> None:
        pk = session.remote_pk
        left = [each for each in self._tentative.get(pk, ()) if each is not session]
        if left:
            self._tentative[pk] = left
        else:
            self._tentative.pop(pk, None)
