"""The links of a server to other servers.

A link is an ordinary session, on which the dialer announces itself first (PROTOCOL: server to
server). Streams are opened on it in both directions. It is told by one of three states:

* dialed by us, and our announcement was accepted;
* dialed by the other, which announced itself and is welcome here;
* anything else is no link: a server of 2024 does not answer announcements, and would leave a
  request that is forwarded to it hanging. It is let go, and asked again after a long while.

Of two servers the one with the smaller key dials, and the other waits a little for that. If both
dialed all the same, both prefer the link that the smaller key dialed, and the second one serves at
once when the first is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from dmsg_trio._errors import DiscoveryError, HandshakeError, RemoteProtocolError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.backoff import Backoff
from dmsg_trio._net.dialing import Connect, dial_session, shows_life
from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.session import Session
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio._wire.objects import PeerAnnounce, SignedObject
from dmsg_trio.discovery import Discovery

logger = logging.getLogger("dmsg_trio.server")

MAX_PEER_LINKS: Final = 512
FIRST_LOOK: Final = 1  # seconds after the start until the discovery is asked for other servers
PATIENCE: Final = 3  # seconds that the larger key waits for the smaller one to dial
ANNOUNCE_TIMEOUT: Final = 5  # seconds; servers of 2024 never answer
LEGACY_PAUSE: Final = 600  # seconds until a server that does not answer is asked again
HEALTHY_AFTER: Final = 10  # seconds of life after which earlier failures are forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerOptions:
    """With which servers links are made."""

    configured: Mapping[PublicKey, str] = field(default_factory=dict)  # key: address
    accepted: frozenset[PublicKey] = frozenset()  # if any: only these, and those configured
    max_links: int = MAX_PEER_LINKS
    look_interval: float = 60  # seconds between two looks at the discovery's servers
    from_discovery: bool = True


@dataclass(eq=False, slots=True)
class Link:
    """One usable session with another server."""

    session: Session
    dialed_here: bool

    @property
    def pk(self) -> PublicKey:
        """The other server."""
        return self.session.remote_pk


class Peers:
    """Which links there are, whom to dial, and who may announce itself."""

    def __init__(
        self,
        sk: SecretKey,
        discovery: Discovery,
        options: PeerOptions,
        *,
        connect: Connect,
        post_quantum: PostQuantum,
        serve_stream: Callable[[Session, MuxStream], Awaitable[None]],
        wall_clock: Callable[[], int],
    ) -> None:
        self.reconnects = 0
        self._sk = sk
        self._discovery = discovery
        self._options = options
        self._connect = connect
        self._post_quantum = post_quantum
        self._serve_stream = serve_stream
        self._wall_clock = wall_clock
        self._links: dict[PublicKey, list[Link]] = {}  # the preferred one first
        self._addresses: dict[PublicKey, str] = dict(options.configured)
        self._kept: set[PublicKey] = set()  # whom a task of `run` keeps a link with
        self._news = trio.lowlevel.ParkingLot()

    # ---- asking ----

    def find(self, pk: PublicKey) -> Session | None:
        """The link by which streams are opened to another server now."""
        open_links = (link for link in self._links.get(pk, ()) if link.session.connection.is_open)
        link = next(open_links, None)
        return link.session if link else None

    def is_peer(self, session: Session) -> bool:
        """Whether requests of others may come over this session."""
        links = self._links.get(session.remote_pk, ())
        return any(link.session is session for link in links)

    def knows(self, pk: PublicKey) -> bool:
        """Whether ``pk`` is, as far as known, a server."""
        return pk in self._addresses

    def __iter__(self) -> Iterator[Link]:
        """The links in use, one per server."""
        return iter([links[0] for links in self._links.values()])

    def __len__(self) -> int:
        return len(self._links)

    @property
    def wanted(self) -> int:
        """How many servers there are to have a link with: what `len` is when the mesh is whole."""
        return len(self._addresses.keys() | self._links.keys())

    # ---- links that others dialed ----

    async def admit(self, session: Session, announce: PeerAnnounce) -> bool:
        """Make a link of a session whose dialer announced itself, if it is welcome."""
        pk = session.remote_pk
        if announce.source_pk != pk or session.is_initiator or self.is_peer(session):
            return announce.source_pk == pk and self.is_peer(session)
        if not await self._is_welcome(pk):
            logger.warning("server %s announced itself and is not welcome", pk)
            return False
        if pk not in self._links and len(self._links) >= self._options.max_links:
            logger.warning("server %s sent away: there are %d links already", pk, len(self._links))
            return False
        self._add(Link(session, dialed_here=False))
        return True

    def forget(self, session: Session) -> None:
        """Note that a session has ended, which may have been a link."""
        for link in self._links.get(session.remote_pk, ()):
            if link.session is session:
                self._remove(link)
                return

    async def _is_welcome(self, pk: PublicKey) -> bool:
        if pk in self._options.configured:
            return True
        if self._options.accepted:
            return pk in self._options.accepted
        if pk not in self._addresses and self._options.from_discovery:
            await self._look()  # it may be newer than our list
        return pk in self._addresses

    # ---- links that we dial ----

    async def run(self) -> None:
        """Keep a link with every server that is known, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._start_missing(nursery)
            if not self._options.from_discovery:
                return
            await trio.sleep(FIRST_LOOK)
            backoff = Backoff()
            while True:
                found = await self._look()
                self._start_missing(nursery)
                if found:
                    backoff.reset()
                await trio.sleep(self._options.look_interval if found else backoff.next_delay())

    async def _look(self) -> bool:
        """Learn from the discovery which servers there are; say whether it answered."""
        try:
            servers = await self._discovery.all_servers()
        except DiscoveryError as error:
            logger.warning("no list of other servers: %s", error)
            return False
        found = {entry.pk: entry.server.address for entry in servers if entry.server}
        found.pop(self._sk.pk, None)
        if accepted := self._options.accepted:
            found = {pk: address for pk, address in found.items() if pk in accepted}
        self._addresses = found | dict(self._options.configured)
        return True

    def _start_missing(self, nursery: trio.Nursery) -> None:
        for pk in self._addresses.keys() - self._kept:
            if len(self._kept) >= self._options.max_links:
                logger.warning("more than %d servers: no link with %s", len(self._kept), pk)
                return
            self._kept.add(pk)
            nursery.start_soon(self._keep_link, pk)

    async def _keep_link(self, pk: PublicKey) -> None:
        """Have a link with one server for as long as it is known; dial when there is none."""
        backoff = Backoff()
        try:
            while True:
                await self._wait_until_missing(pk)
                if self._sk.pk > pk:
                    await self._wait_for_the_other_to_dial(pk)
                if pk in self._links:
                    continue
                if pk not in self._addresses:
                    return
                pause = await self._dial(pk, self._addresses[pk], backoff)
                with trio.move_on_after(pause):
                    while pk not in self._links:
                        await self._news.park()
        finally:
            self._kept.discard(pk)

    async def _wait_until_missing(self, pk: PublicKey) -> None:
        while pk in self._links:
            await self._news.park()

    async def _wait_for_the_other_to_dial(self, pk: PublicKey) -> None:
        with trio.move_on_after(PATIENCE):
            while pk not in self._links:
                await self._news.park()

    async def _dial(self, pk: PublicKey, address: str, backoff: Backoff) -> float:
        """Have a link from its dial to its end; say in how many seconds to dial again."""
        try:
            session = await dial_session(
                self._sk, pk, address, connect=self._connect, post_quantum=self._post_quantum
            )
        except (OSError, HandshakeError) as error:
            delay = backoff.next_delay()
            logger.info("server %s not reached, next try in %.1f s: %s", pk, delay, error)
            return delay
        pause: float | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            answered = await shows_life(session) and await self._announce(session)
            if answered:
                link = Link(session, dialed_here=True)
                self._add(link)
                while near := await session.connection.accept():
                    nursery.start_soon(self._serve_stream, session, near)
                self._remove(link)
            else:
                pause = LEGACY_PAUSE if answered is None else None
                session.connection.close("not a link")
        if trio.current_time() - session.began >= HEALTHY_AFTER:
            backoff.reset()
        self.reconnects += 1
        return pause or backoff.next_delay()

    async def _announce(self, session: Session) -> bool | None:
        """Announce ourselves; say whether we are welcome, None if there was no answer."""
        signed = SignedObject.sign(self._sk, PeerAnnounce(self._wall_clock(), self._sk.pk))
        stream = session.connection.open_stream()
        try:
            with stream.reset_unless_done(), trio.fail_after(ANNOUNCE_TIMEOUT):
                await session.send_object(stream, signed)
                answer = await session.receive_object_untrusted(stream)
                if answer is None:
                    return False
                response = answer.response_untrusted(signed, session.remote_pk)
                stream.close()
        except trio.TooSlowError:
            logger.info(
                "server %s does not answer: it is of 2024 and relays alone", session.remote_pk
            )
            return None
        except (RemoteProtocolError, trio.BrokenResourceError) as error:
            logger.info("server %s took no announcement: %s", session.remote_pk, error)
            return False
        if not response.accepted:
            logger.warning("we are not welcome at server %s", session.remote_pk)
        return response.accepted

    # ---- the table ----

    def _add(self, link: Link) -> None:
        links = self._links.setdefault(link.pk, [])
        links.append(link)
        links.sort(key=self._rank)
        by = "us" if link.dialed_here else "it"
        logger.info("link with server %s, dialed by %s", link.pk, by)
        self._news.unpark_all()

    def _remove(self, link: Link) -> None:
        links = self._links.get(link.pk, [])
        if link in links:
            links.remove(link)
            reason = link.session.connection.close_reason
            logger.info("link with server %s ended: %s", link.pk, reason)
        if not links:
            self._links.pop(link.pk, None)
        self._news.unpark_all()

    def _rank(self, link: Link) -> bool:
        """Both sides prefer the link that the smaller key dialed."""
        return link.dialed_here != (self._sk.pk < link.pk)
