"""All sessions of shell/1 on a host: who may have which, and how many there are.

`Shells.run` is where the sessions live; streams come and go through `Shells.serve`. A session is of
the key that started it. To everybody else it does not exist.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import trio

from dmsg_trio._errors import DmsgError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.borders import Border
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.shell import (
    MAX_PAYLOAD,
    Attach,
    Event,
    List,
    Refused,
    Sessions,
    ShellReader,
    Start,
    TakenOver,
    Violated,
    encode,
)

from ._attachment import FAREWELL, Attachment
from ._audit import LOCAL, AuditedSession
from ._launch import Launch
from ._shell_session import Patience, ShellSession

KEEP: Final = 600  # seconds
KEEP_DETACHED: Final = 24 * 60 * 60
FIRST_FRAME_WITHIN: Final = 30  # seconds
LISTED_AT_ONCE: Final = 8  # sessions in one frame, which with long commands is half full

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a host puts up with."""

    sessions: int = 256  # at once, detached ones included
    sessions_per_key: int = 32
    keep: int = KEEP  # seconds, the most that a client gets
    keep_detached: int = KEEP_DETACHED
    idle: float = math.inf  # seconds without a byte either way


class TooManySessionsError(DmsgError):
    """There are as many sessions as there may be; it says which limit that is."""


class Audit(Protocol):
    """Who ran what."""

    def session(
        self, *, key: PublicKey | None, source: str, command: tuple[str, ...]
    ) -> AbstractContextManager[AuditedSession]:
        """Write one line when the block ends."""
        ...


class Shells:
    """The sessions of a host."""

    def __init__(
        self,
        launch: Launch,
        audit: Audit,
        limits: Limits | None = None,
        *,
        while_allowed: Callable[[PublicKey], AbstractContextManager[trio.CancelScope]]
        | None = None,
    ) -> None:
        self._launch = launch
        self._while_allowed = while_allowed
        self._others: Counter[PublicKey | None] = Counter()  # that count and are not of shell/1
        self._audit = audit
        self._limits = limits or Limits()
        self._sessions: dict[tuple[PublicKey | None, str], ShellSession] = {}
        self._to_run, self._new = trio.open_memory_channel[tuple[ShellSession, str]](
            math.inf  # of which never more wait than there may be sessions
        )
        self._closed = ""  # why there are no new sessions
        self._fewer = trio.lowlevel.ParkingLot()

    # ---- where sessions live ----

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run all sessions until cancelled, which ends them."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            async for session, source in self._new:
                nursery.start_soon(self._run, session, source)

    async def _run(self, session: ShellSession, source: str) -> None:
        try:
            with Border(logger, "the session of %s", source):
                await self._run_audited(session, source)
        finally:
            session.forget()
            self._sessions.pop((session.pk, session.asked.session), None)
            self._fewer.unpark_all()

    async def _run_audited(self, session: ShellSession, source: str) -> None:
        async with open_service_nursery() as nursery:
            nursery.start_soon(self._end_when_removed, session)
            command = session.asked.argv or ()
            with self._audit.session(key=session.pk, source=source, command=command) as audited:
                await session.run(self._launch, audited)
            if session.failure is None:
                await session.linger()

    async def drain(self, reason: str = "the host is shutting down") -> None:
        """Start no more, hang up on all, and wait until those who are attached know.

        How long that may take is up to the caller.
        """
        self._closed = reason
        for session in self._sessions.values():
            session.abandon(reason)
        while self._sessions:
            await self._fewer.park()

    async def _end_when_removed(self, session: ShellSession) -> None:
        if session.pk is None or self._while_allowed is None:
            return
        with self._while_allowed(session.pk):
            await trio.sleep(math.inf)
        session.end("its key was removed")
        session.forget()
        if session.viewer is not None:
            session.viewer.cut(reset=True)

    @contextmanager
    def place_for(self, pk: PublicKey | None) -> Iterator[None]:
        """Count a session of another kind for the block; raises `TooManySessionsError`."""
        if reason := self._closed or self._too_many(pk):
            raise TooManySessionsError(reason)
        self._others[pk] += 1
        try:
            yield
        finally:
            self._others[pk] -= 1
            if not self._others[pk]:
                del self._others[pk]

    def _too_many(self, pk: PublicKey | None) -> str:
        """Say which limit is reached, if one is."""
        limits = self._limits
        if (count := len(self._of(pk)) + self._others[pk]) >= limits.sessions_per_key:
            return f"{count} sessions of this key, which is the limit"
        if (count := len(self._sessions) + self._others.total()) >= limits.sessions:
            return f"{count} sessions on this host, which is the limit"
        return ""

    # ---- one stream ----

    async def serve(
        self,
        stream: trio.abc.HalfCloseableStream,
        pk: PublicKey | None,
        source: str = LOCAL,
    ) -> None:
        """Serve a client until its stream ends; to close that is up to its owner.

        A key of None is a user of this machine.
        """
        reader = ShellReader(client=False)
        try:
            events = await _first_events(stream, reader)
            answer = await self._serve(stream, reader, events, pk, source)
            for word in answer:
                await stream.send_all(encode(word))
            await _end(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            logger.debug("a client of %s is gone", pk or source)

    async def _serve(
        self,
        stream: trio.abc.HalfCloseableStream,
        reader: ShellReader,
        events: list[Event | Violated],
        pk: PublicKey | None,
        source: str,
    ) -> Iterable[Event]:
        """Do what the first frame asks for, and say what is to be said behind that."""
        match events:
            case [List(), *_]:
                return self._listed(pk)
            case [Start() | Attach() as claim, *rest]:
                session = self._find(claim, pk, source)
                if isinstance(session, Refused):
                    return [session]
                await session.begun.wait()
                if session.failure is not None:
                    return [session.failure]
                if refusal := _refusal(session, claim):
                    return [refusal]
                # From here to the attachment nobody else runs.
                output = session.log.start if isinstance(claim, Start) else claim.output
                attachment = Attachment(
                    stream, reader, session, session.log.start if output is None else output
                )
                session.attach(claim, attachment)
                await attachment.run(rest)
                return []
            case [Violated(reason), *_]:
                return [Refused(reason)]
            case []:
                return [Refused(f"no frame within {FIRST_FRAME_WITHIN} s")]
            case _:
                return [Refused(f"{type(events[0]).__name__} on a stream without a session")]

    def _find(
        self, claim: Start | Attach, pk: PublicKey | None, source: str
    ) -> ShellSession | Refused:
        if session := self._sessions.get((pk, claim.session)):
            return session
        if isinstance(claim, Attach):
            return Refused("there is no such session: it has ended, or the host was started anew")
        return self._start(claim, pk, source)

    def _start(self, asked: Start, pk: PublicKey | None, source: str) -> ShellSession | Refused:
        limits = self._limits
        if self._closed:
            return Refused(self._closed)
        self._make_room(pk)
        if reason := self._too_many(pk):
            return Refused(reason)
        patience = Patience(
            keep=min(asked.keep, limits.keep), detached=limits.keep_detached, idle=limits.idle
        )
        session = ShellSession(pk, asked, patience, int(datetime.now(UTC).timestamp()))
        self._sessions[pk, asked.session] = session
        self._to_run.send_nowait((session, source))
        return session

    def _make_room(self, pk: PublicKey | None) -> None:
        """Give up a session that ended and whose client did not come back, if the key has too many."""
        own = self._of(pk)
        if len(own) >= self._limits.sessions_per_key:
            for session in own:
                if session.exit is not None and session.viewer is None:
                    session.forget()
                    del self._sessions[pk, session.asked.session]
                    return

    def _listed(self, pk: PublicKey | None) -> Iterator[Sessions]:
        infos = [session.info() for session in self._of(pk)]
        for start in range(0, len(infos) or 1, LISTED_AT_ONCE):
            end = start + LISTED_AT_ONCE
            yield Sessions(tuple(infos[start:end]), more=end < len(infos))

    def _of(self, pk: PublicKey | None) -> list[ShellSession]:
        return [session for session in self._sessions.values() if session.pk == pk]

    def __repr__(self) -> str:
        return f"<Shells with {len(self._sessions)} sessions{self._closed and ', closed'}>"


def _refusal(session: ShellSession, claim: Start | Attach) -> Refused | TakenOver | None:
    if session.is_forgotten:
        return Refused("the session has ended")
    if not session.admits(claim):
        return TakenOver()
    if isinstance(claim, Start) or claim.output is None:
        return None
    log = session.log
    if not log.start <= claim.output <= log.end:
        return Refused(f"output from byte {claim.output}: there is {log.start} to {log.end}")
    return None


async def _first_events(
    stream: trio.abc.ReceiveStream, reader: ShellReader
) -> list[Event | Violated]:
    with trio.move_on_after(FIRST_FRAME_WITHIN):
        while data := await stream.receive_some(MAX_PAYLOAD):
            if events := reader.receive_data(data):
                return events
        raise trio.BrokenResourceError("it ended before it said anything")
    return []


async def _end(stream: trio.abc.HalfCloseableStream) -> None:
    """End our direction, and give the client the time to read what lies before the end."""
    with trio.move_on_after(FAREWELL):
        await stream.send_eof()
        while await stream.receive_some(MAX_PAYLOAD):
            pass
