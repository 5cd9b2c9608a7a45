"""Who has a session here: the table by which a server finds the next hop of a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from dmsg_trio._keys import PublicKey
from dmsg_trio._net.session import Session

MAX_REPLACEMENTS: Final = 10  # of one key's session, in a REPLACEMENT_PERIOD
REPLACEMENT_PERIOD: Final = 60  # seconds


class TooManyReplacementsError(Exception):
    """Two holders of one key take its place from each other, again and again."""


class Routes:
    """The newest client session of each key.

    A session of a key that is known as a server's is tentative at first: it may be a link, and must
    not take the place of the client session that the same key may have.
    """

    def __init__(self) -> None:
        self._sessions: dict[PublicKey, Session] = {}
        self._tentative: dict[PublicKey, Session] = {}
        self._replaced_at: dict[PublicKey, deque[float]] = {}

    def __len__(self) -> int:
        return len(self._sessions) + len(self._tentative)

    def __iter__(self) -> Iterator[Session]:
        return iter([*self._sessions.values(), *self._tentative.values()])

    def find(self, pk: PublicKey) -> Session | None:
        """The session by which ``pk`` is reached, if it is one that takes new streams."""
        for session in (self._sessions.get(pk), self._tentative.get(pk)):
            if session and session.connection.is_open:
                return session
        return None

    @contextmanager
    def added(self, session: Session, *, tentative: bool = False) -> Iterator[None]:
        """Hold ``session`` for the block; an older one of the same key is closed.

        Raises `TooManyReplacementsError` if the key changes hands more often than it may.
        """
        if tentative:
            self._tentative[session.remote_pk] = session
        else:
            self._add(session)
        try:
            yield
        finally:
            self.withdraw(session)

    def confirm(self, session: Session) -> None:
        """Take a tentative session for that of a client; raises as `added` does."""
        if self._tentative.get(session.remote_pk) is session:
            del self._tentative[session.remote_pk]
            self._add(session)

    def withdraw(self, session: Session) -> None:
        """Reach nobody by ``session`` any more: it has ended, or is a link."""
        for table in (self._sessions, self._tentative):
            if table.get(session.remote_pk) is session:
                del table[session.remote_pk]

    def _add(self, session: Session) -> None:
        pk = session.remote_pk
        if older := self._sessions.get(pk):
            self._note_replacement(pk)
            older.connection.close("a newer session of the same key took its place")
        self._sessions[pk] = session

    def _note_replacement(self, pk: PublicKey) -> None:
        now = trio.current_time()
        self._forget_replacements_before(now - REPLACEMENT_PERIOD)
        times = self._replaced_at.setdefault(pk, deque())
        if len(times) >= MAX_REPLACEMENTS:
            raise TooManyReplacementsError(
                f"{MAX_REPLACEMENTS} sessions of this key replaced each other "
                f"within {REPLACEMENT_PERIOD} s"
            )
        times.append(now)

    def _forget_replacements_before(self, time: float) -> None:
        for pk, times in list(self._replaced_at.items()):
            while times and times[0] <= time:
                times.popleft()
            if not times:
                del self._replaced_at[pk]
