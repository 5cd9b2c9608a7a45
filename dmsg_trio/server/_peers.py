"""The links of a server to other servers: whom it dials, and who may announce itself.

A link is an ordinary session, on which the dialer announces itself first (PROTOCOL: server to
server). Streams are opened on it in both directions. It is told by one of three states:

* dialed by us, and our announcement was accepted;
* dialed by the other, which announced itself and is welcome here;
* anything else is no link: a server of 2024 does not answer announcements, and would leave a
  request that is forwarded to it hanging. It is let go, and asked again after a long while.

Of two servers the one with the smaller key dials, and the other waits a little for that. What
happens if both dialed all the same is said in `_links.py`, and which servers there are in
`_directory.py`. A server may also make links only when
requests need them (`_demand.py`); then whoever needs one dials.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import trio

from dmsg_trio._errors import (
    ErrorCode,
    HandshakeError,
    LocalProtocolError,
    RemoteProtocolError,
    describe_code,
)
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.backoff import Backoff
from dmsg_trio._net.borders import Border
from dmsg_trio._net.dialing import Connect, dial_session, shows_life
from dmsg_trio._net.session import Session
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio._wire.objects import PeerAnnounce, SignedObject
from dmsg_trio.discovery import Discovery

from ._demand import Demand
from ._directory import Directory
from ._links import Link, Links, TooManyLinksError
from ._peer_options import PeerOptions
from ._replacements import Replacements, TooManyReplacementsError

logger = logging.getLogger("dmsg_trio.server")

PATIENCE: Final = 3  # seconds that the larger key waits for the smaller one to dial
ANNOUNCE_TIMEOUT: Final = 5  # seconds; servers of 2024 never answer
CLOCK_TOLERANCE: Final = 120  # seconds that another server's clock may be off
UNWELCOME_PAUSE: Final = 30  # seconds until a server that sent us away is asked again,
LEGACY_PAUSE: Final = 600  # and one that does not answer
HEALTHY_AFTER: Final = 10  # seconds of life after which earlier failures are forgotten

ServeLink = Callable[[Session], Awaitable[None]]


class Peers:
    """The links with other servers: whom to dial, and who is let in."""

    def __init__(
        self,
        sk: SecretKey,
        discovery: Discovery,
        options: PeerOptions,
        *,
        connect: Connect,
        post_quantum: PostQuantum,
        serve_link: ServeLink,
        replacements: Replacements,
        wall_clock: Callable[[], int],
    ) -> None:
        self.links = Links(sk.pk, most=options.max_links, replacements=replacements)
        self._sk = sk
        self._directory = Directory(sk.pk, discovery, options)
        self._options = options
        self._connect = connect
        self._post_quantum = post_quantum
        self._serve_link = serve_link
        self._wall_clock = wall_clock
        self._kept: set[PublicKey] = set()  # whom a task of `run` keeps a link with
        self._leaving = False
        self._demand: Demand | None = None
        if options.on_demand:
            self._demand = Demand(self.links, self._find_and_dial, idle_time=options.idle_time)

    # ---- asking ----

    def find(self, pk: PublicKey) -> Session | None:
        """The link by which streams are opened to another server now."""
        return next((link.session for link in self.links.with_server(pk) if link.is_open), None)

    def is_peer(self, session: Session) -> bool:
        """Whether requests of others may come over this session."""
        return self.links.find(session) is not None

    async def link_with_any(self, servers: frozenset[PublicKey]) -> None:
        """Wait for a link with one of ``servers`` while there may be one soon, if links are on demand."""
        if self._demand:
            if not any(self.find(pk) for pk in servers):
                await self._demand.link_with_any(servers - self._kept)
            for pk in servers:
                if session := self.find(pk):
                    self.note_use(session)

    def note_use(self, session: Session) -> None:
        """Note that a request came by a session, which may be a link."""
        if link := self.links.find(session):
            link.used_at = trio.current_time()

    def knows(self, pk: PublicKey) -> bool:
        """Whether ``pk`` is, as far as known, a server."""
        return pk in self._directory

    def __iter__(self) -> Iterator[Link]:
        """The links in use, one per server."""
        return iter(self.links)

    def __len__(self) -> int:
        return len(self.links)

    @property
    def missing(self) -> frozenset[PublicKey]:
        """The servers that are known and not linked to."""
        return frozenset(self._directory) - self.links.servers

    @property
    def wanted(self) -> int:
        """How many servers there are to have a link with: what `len` is when the mesh is whole."""
        return len(self.missing) + len(self.links)

    # ---- links that others dialed ----

    async def admit(self, session: Session, announce: PeerAnnounce) -> ErrorCode | None:
        """Make a link of a session whose dialer announced itself; or say why not."""
        pk = session.remote_pk
        age = (self._wall_clock() - announce.timestamp) / 1e9
        if abs(age) > CLOCK_TOLERANCE:
            logger.debug("server %s announced itself with a time %.0f s off", pk, age)
            return ErrorCode.REQUEST_TIMESTAMP
        if not session.is_initiator and not await self._directory.welcomes(pk):
            logger.debug("server %s announced itself and is not welcome", pk)
            return ErrorCode.REQUEST_SOURCE_PK
        if self.is_peer(session):  # it said so before
            return None
        if session.is_initiator:  # it has not taken our announcement, and dials if it wants to
            return ErrorCode.REQUEST_SOURCE_PK
        try:
            self.links.add(Link(session, dialed_here=False))
        except (TooManyLinksError, TooManyReplacementsError) as error:
            logger.debug("server %s sent away: %s", pk, error)
            return ErrorCode.RELAY_CAPACITY
        return None

    # ---- whom to dial ----

    async def run(self) -> None:
        """Keep a link with every server that is known, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._directory.run)
            if self._demand:
                nursery.start_soon(self._demand.run)
            while True:
                self._start_missing(nursery)
                await self._directory.changed.park()
                self.links.forget_others(self._directory)

    def _start_missing(self, nursery: trio.Nursery) -> None:
        configured = self._options.configured
        wanted = set(configured if self._demand else self._directory)
        for pk in sorted(wanted - self._kept, key=lambda pk: pk not in configured):
            if len(self._kept) >= self._options.max_links:
                logger.warning("more than %d servers: no link with %s", len(self._kept), pk)
                return
            self._kept.add(pk)
            nursery.start_soon(self._keep_link, pk)

    # ---- links that we dial ----

    def leave(self) -> None:
        """Dial no server any more to keep a link with it: this one is about to end.

        It is not in the discovery any more, so others would send it away. The links there are stay.
        """
        self._leaving = True

    async def _keep_link(self, pk: PublicKey) -> None:
        """Have a link with one server for as long as it is known; dial when there is none."""
        backoff = Backoff()
        try:
            while not self._leaving:
                while pk in self.links or not self.links.has_room_for(pk):
                    await self.links.wait_for_news(pk)
                if self._sk.pk > pk:
                    await self._wait_for_link(pk, PATIENCE)  # the other one dials
                if pk in self.links or self._leaving:
                    continue
                if pk not in self._directory:
                    return
                pause = await self._dial(pk, self._directory[pk], backoff)
                await self._wait_for_link(pk, pause)
        finally:
            self._kept.discard(pk)

    async def _wait_for_link(self, pk: PublicKey, seconds: float) -> None:
        with trio.move_on_after(seconds):
            while pk not in self.links:
                await self.links.wait_for_news(pk)

    async def _find_and_dial(self, pk: PublicKey, backoff: Backoff) -> float:
        """Do as `_dial`, wherever the discovery says that the server is now."""
        if address := await self._directory.newest_address(pk):
            return await self._dial(pk, address, backoff)
        return backoff.next_delay()

    async def _dial(self, pk: PublicKey, address: str, backoff: Backoff) -> float:
        """Have a link from its dial to its end; say in how many seconds to dial again."""
        with Border(logger, "the link with server %s", pk):
            return await self._dial_and_live(pk, address, backoff)
        return backoff.next_delay()

    async def _dial_and_live(self, pk: PublicKey, address: str, backoff: Backoff) -> float:
        try:
            session = await dial_session(
                self._sk, pk, address, connect=self._connect, post_quantum=self._post_quantum
            )
        except (OSError, HandshakeError) as error:
            delay = backoff.next_delay()
            logger.info("server %s not reached, next try in %.1f s: %s", pk, delay, error)
            return delay
        pause = await self._live(session)
        if trio.current_time() - session.began >= HEALTHY_AFTER:
            backoff.reset()
        return max(pause or 0.0, backoff.next_delay())

    async def _live(self, session: Session) -> float | None:
        """Run a session that we dialed, as a link if we are welcome; otherwise as `_announce` says."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            pause = await self._announce(session) if await shows_life(session) else 0.0
            if pause is None:
                await self._hold(session)
            else:
                session.connection.close("not a link")
        return pause

    async def _hold(self, session: Session) -> None:
        """Serve a link that we dialed until it ends."""
        try:
            self.links.add(Link(session, dialed_here=True))
            await self._serve_link(session)
        except (TooManyLinksError, TooManyReplacementsError) as error:
            session.connection.close(str(error))
        finally:
            self.links.remove(session)

    async def _announce(self, session: Session) -> float | None:
        """Announce ourselves: None if we are welcome, otherwise the seconds to stay away for."""
        signed = SignedObject.sign(self._sk, PeerAnnounce(self._wall_clock(), self._sk.pk))
        try:
            stream = session.connection.open_stream()
            with stream.reset_unless_done(), trio.fail_after(ANNOUNCE_TIMEOUT):
                await session.send_object(stream, signed)
                answer = await session.receive_object_untrusted(stream)
                if answer is None:
                    return UNWELCOME_PAUSE
                response = answer.response_untrusted(signed, session.remote_pk)
                stream.close()
        except trio.TooSlowError:
            logger.info(
                "server %s does not answer: it is of 2024 and relays alone", session.remote_pk
            )
            return LEGACY_PAUSE
        except (LocalProtocolError, RemoteProtocolError, trio.BrokenResourceError) as error:
            logger.info("server %s took no announcement: %s", session.remote_pk, error)
            return 0.0
        if not response.accepted:
            why = describe_code(response.refusal_code)
            level = logging.DEBUG if self._leaving else logging.WARNING
            logger.log(level, "we are not welcome at server %s: %s", session.remote_pk, why)
            return UNWELCOME_PAUSE
        return None
