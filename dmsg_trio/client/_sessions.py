"""The sessions of a client: as many as wanted, with servers that have room, redialed when they end.

`SessionKeeper.run` owns every session. Whoever needs one with a certain server asks for it
(`session_with`) and waits; dials to one server are never made twice at a time. A server that does
not answer holds up no other: the next one is tried beside it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from dmsg_trio._errors import DiscoveryError, ErrorCode, HandshakeError, UnreachableError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.backoff import Backoff
from dmsg_trio._net.borders import Border
from dmsg_trio._net.dialing import Connect, dial_session, shows_life
from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.session import Session, echoes_ping_marker
from dmsg_trio._wire.entries import Entry
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio.discovery import Discovery

logger = logging.getLogger("dmsg_trio.client")

STAGGER: Final = 0.5  # seconds after which a dial that hangs no longer counts as one
LIST_PAUSE: Final = 1  # seconds between two looks at the list of servers, growing to
LIST_AGE: Final = 60  # while they do not help; who wants all servers looks as often as this,
LONELY_AGE: Final = 15  # and who has no session at all more often
HEALTHY_AFTER: Final = 10  # seconds of life after which earlier failures are forgotten

# A server that sends us away has a newer session of our key, or goes down. The first time we come
# back soon; if it happens again somebody else has our key, and two that take each other's place
# at once would do so for ever.
SENT_AWAY_DELAY: Final = 20.0  # seconds, growing to
LONGEST_SENT_AWAY_DELAY: Final = 600.0

MUTE_RETRIES: Final = 3  # redials at once of a server that closed before its first frame

ServeStream = Callable[[Session, MuxStream], Awaitable[None]]

_random = secrets.SystemRandom()


@dataclass(slots=True, eq=False)
class _Dial:
    """One dial that is wanted or under way, and who waits for it."""

    server: Entry
    since: float
    done: trio.Event = field(default_factory=trio.Event)
    error: str = ""

    def finish(self, error: str = "") -> None:
        self.error = error
        self.done.set()


@dataclass(slots=True)
class _Trouble:
    """Why a server is left alone for a while."""

    backoff: Backoff = field(default_factory=Backoff)
    not_before: float = 0.0
    mute: int = 0  # sessions in a row that ended before the first frame
    sent_away: int = 0  # sessions in a row that the server ended with a go-away
    away_backoff: Backoff = field(
        default_factory=lambda: Backoff(SENT_AWAY_DELAY, LONGEST_SENT_AWAY_DELAY)
    )


class SessionKeeper:
    """All sessions of one client."""

    def __init__(
        self,
        sk: SecretKey,
        discovery: Discovery,
        *,
        min_sessions: int,
        connect: Connect,
        post_quantum: PostQuantum,
        serve_stream: ServeStream,
        on_change: Callable[[], None],
    ) -> None:
        self.open: dict[PublicKey, Session] = {}
        self._sk = sk
        self._discovery = discovery
        self._min_sessions = min_sessions
        self._connect_carrier = connect
        self._post_quantum = post_quantum
        self._serve_stream = serve_stream
        self._on_change = on_change
        self._offered: list[Entry] = []
        self._dials: dict[PublicKey, _Dial] = {}
        self._wanted: list[_Dial] = []  # by `session_with`, not begun yet
        self._trouble: dict[PublicKey, _Trouble] = {}
        self._is_closed = False
        self._news = trio.Event()
        self._list_wanted = trio.Event()
        self._lost = trio.Event()  # a session, since the latest look at the list

    async def session_with(self, server: Entry) -> Session:
        """Give the session with a server, dialed now if there is none.

        Raises `UnreachableError` with code 202 if that fails.
        """
        if server.pk in self.open:
            return self.open[server.pk]
        if self._is_closed:
            raise UnreachableError(ErrorCode.ENTITY_CLOSED, "the client is closed")
        dial = self._dials.get(server.pk)
        if dial is None:
            dial = self._dials[server.pk] = _Dial(server, trio.current_time())
            self._wanted.append(dial)
            self._tell()
        await dial.done.wait()
        if server.pk not in self.open:
            reason = dial.error or "the session ended as soon as it was there"
            raise UnreachableError(ErrorCode.CANNOT_CONNECT_TO_DELEGATED, reason)
        return self.open[server.pk]

    @property
    def takes_streams(self) -> bool:
        """Whether a session does now, as far as is known."""
        return any(s.connection.is_open and s.is_explored for s in self.open.values())

    @property
    def is_moving(self) -> bool:
        """Whether no session takes streams now, and one is being made or about to be."""
        hoped_for = self.open or self._dials or self._ready(trio.current_time())
        return bool(hoped_for) and not self.takes_streams

    async def wait_moved(self) -> None:
        """Wait until there is a session that takes streams, or none is hoped for."""
        while self.is_moving:
            await self._news.wait()

    # ---- deciding ----

    async def run(self) -> None:
        """Keep the sessions until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_list)
                while True:
                    news = self._news
                    for dial in self._choose():
                        nursery.start_soon(self._hold, dial)
                    with trio.move_on_at(self._next_look()):
                        await news.wait()
        finally:
            self._is_closed = True
            for dial in self._dials.values():
                dial.finish("the client is closed")

    def _choose(self) -> list[_Dial]:
        """Decide which dials to begin now."""
        begin, self._wanted = self._wanted, []
        now = trio.current_time()
        ready = self._ready(now)
        missing = self._missing(now)
        if missing > len(ready):
            self._list_wanted.set()
        for server in _shuffled(ready)[:missing]:
            dial = self._dials[server.pk] = _Dial(server, now)
            begin.append(dial)
        return begin

    def _ready(self, now: float) -> list[Entry]:
        """The servers that may be dialed now."""
        idle = [entry for entry in self._offered if not self._is_busy(entry.pk)]
        return [entry for entry in idle if self._trouble_of(entry.pk).not_before <= now]

    def _missing(self, now: float) -> int:
        """How many dials to begin, so that there are enough sessions before long."""
        if self._min_sessions == 0:
            return sum(not self._is_busy(entry.pk) for entry in self._offered)
        hopeful = sum(dial.since + STAGGER > now for dial in self._dials.values())
        lasting = sum(session.connection.is_open for session in self.open.values())
        return max(0, self._min_sessions - lasting - hopeful)

    def _next_look(self) -> float:
        """When to decide again if nothing happens before."""
        now = trio.current_time()
        times = [dial.since + STAGGER for dial in self._dials.values()]
        times += [
            self._trouble_of(entry.pk).not_before
            for entry in self._offered
            if not self._is_busy(entry.pk)
        ]
        return min((time for time in times if time > now), default=float("inf"))

    def _is_busy(self, pk: PublicKey) -> bool:
        return pk in self.open or pk in self._dials

    def _trouble_of(self, pk: PublicKey) -> _Trouble:
        return self._trouble.get(pk) or _NO_TROUBLE

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    # ---- the list of servers ----

    async def _keep_list(self) -> None:
        """Look at the list now, whenever it does not help to enough sessions, and if all are wanted.

        Looks become rarer, until a session is lost: its server may be back under another address.
        """
        failures, looks = Backoff(), Backoff(first=LIST_PAUSE, longest=LIST_AGE)
        while True:
            self._list_wanted = trio.Event()
            try:
                self._offered = await self._discovery.available_servers()
            except DiscoveryError as error:
                delay = failures.next_delay()
                logger.warning("no list of servers, next try in %.1f s: %s", delay, error)
                await trio.sleep(delay)
                continue
            failures.reset()
            known = {entry.pk for entry in self._offered}
            self._trouble = {pk: each for pk, each in self._trouble.items() if pk in known}
            self._tell()
            looks.longest = LIST_AGE if self.open else LONELY_AGE
            delay = looks.next_delay()
            if not self._offered:
                logger.warning("no server has room, next look in %.1f s", delay)
            with trio.move_on_after(delay):
                await self._lost.wait()
            if self._lost.is_set():
                self._lost = trio.Event()
                looks.reset()
                await trio.sleep(looks.next_delay())
            elif self._offered and self._min_sessions and not self._list_wanted.is_set():
                looks.reset()
                await self._list_wanted.wait()

    # ---- one session ----

    async def _hold(self, dial: _Dial) -> None:
        """Dial, and own the session until it ends."""
        session: Session | None = None
        with Border(logger, "the session with %s", dial.server.pk):
            try:
                session = await self._connect(dial.server)
            except (OSError, HandshakeError) as error:
                self._failed(dial, str(error))
            else:
                await self._hold_open(dial, session)
            return
        if session is not None and self.open.get(session.remote_pk) is session:
            self._ended(session)
        elif not dial.done.is_set():
            self._failed(dial, "a fault of ours")

    async def _hold_open(self, dial: _Dial, session: Session) -> None:
        connection = session.connection
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            if await shows_life(session):
                self._opened(dial, session)
                nursery.start_soon(self._explore, session)
                nursery.start_soon(self._look_elsewhere_when_sent_away, session)
                while stream := await connection.accept():
                    nursery.start_soon(self._serve, session, stream)
                self._ended(session)
                return
            connection.close("no sign of life")
            if connection.received:
                self._failed(dial, connection.close_reason)
            else:
                self._was_mute(dial, connection.close_reason)

    async def _connect(self, server: Entry) -> Session:
        """Connect and shake hands; raises `OSError` or `HandshakeError`."""
        if server.server is None:
            raise HandshakeError(f"{server.pk} is no server, by its entry")
        return await dial_session(
            self._sk,
            server.pk,
            server.server.address,
            connect=self._connect_carrier,
            post_quantum=self._post_quantum,
        )

    def _opened(self, dial: _Dial, session: Session) -> None:
        logger.info("session with server %s at %s", session.remote_pk, session.peer)
        self.open[session.remote_pk] = session
        self._dials.pop(session.remote_pk, None)
        dial.finish()
        self._on_change()
        self._tell()

    async def _explore(self, session: Session) -> None:
        session.relays_across = await echoes_ping_marker(session)
        session.is_explored = True
        self._tell()

    async def _look_elsewhere_when_sent_away(self, session: Session) -> None:
        """Begin with another session before a server that drains is gone."""
        await session.connection.wait_sent_away()
        if not session.connection.closed.is_set():
            logger.info("server %s takes no new streams", session.remote_pk)
            self._on_change()
            self._tell()

    def _ended(self, session: Session) -> None:
        pk, reason = session.remote_pk, session.connection.close_reason
        logger.info("session with server %s ended: %s", pk, reason)
        if self.open.get(pk) is session:
            del self.open[pk]
        trouble = self._trouble.setdefault(pk, _Trouble())
        lived = trio.current_time() - session.began
        if lived >= HEALTHY_AFTER:
            trouble.backoff.reset()
        if lived > 2 * LONGEST_SENT_AWAY_DELAY or not session.connection.was_sent_away:
            trouble.sent_away = 0
            trouble.away_backoff.reset()
        trouble.sent_away += session.connection.was_sent_away
        self._leave_alone(pk)
        self._lost.set()
        self._on_change()
        self._tell()

    def _failed(self, dial: _Dial, reason: str) -> None:
        delay = self._leave_alone(dial.server.pk)
        logger.info("server %s not reached, left alone %.1f s: %s", dial.server.pk, delay, reason)
        self._dials.pop(dial.server.pk, None)
        dial.finish(reason)
        self._tell()

    def _was_mute(self, dial: _Dial, reason: str) -> None:
        """Dial again at once: servers of 2024 lose some sessions to a race of their own."""
        trouble = self._trouble.setdefault(dial.server.pk, _Trouble())
        trouble.mute += 1
        if trouble.mute > MUTE_RETRIES:
            self._failed(dial, reason)
        else:
            self._wanted.append(dial)
            self._tell()

    def _leave_alone(self, pk: PublicKey) -> float:
        """Let some time pass before the next dial; it says how much."""
        trouble = self._trouble.setdefault(pk, _Trouble())
        trouble.mute = 0
        delay = trouble.backoff.next_delay()
        if trouble.sent_away > 1:
            delay = trouble.away_backoff.next_delay()
            logger.warning(
                "server %s sent us away %d times in a row, as it does when another client has our"
                " key: left alone %.0f s", pk, trouble.sent_away, delay,
            )  # fmt: skip
        trouble.not_before = trio.current_time() + delay
        return delay

    async def _serve(self, session: Session, stream: MuxStream) -> None:
        with Border(logger, "a stream through %s", session.remote_pk):
            await self._serve_stream(session, stream)


_NO_TROUBLE: Final = _Trouble()


def _shuffled(servers: list[Entry]) -> list[Entry]:
    """A random order in which servers with more room tend to come first."""

    def draw(entry: Entry) -> float:
        free = entry.server.available_sessions if entry.server else 0
        return float(_random.random() ** (1 / max(free, 1)))

    return sorted(servers, key=draw, reverse=True)
