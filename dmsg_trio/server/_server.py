"""The server: accepts sessions and relays streams between them, until cancelled.

A nursery owns each connection from the accept to its end, and in it each stream. What goes wrong in
one is logged there once, and ends it alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from dmsg_trio._errors import HandshakeError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.borders import Border
from dmsg_trio._net.carriers import Carrier, carrier_of
from dmsg_trio._net.dialing import Connect
from dmsg_trio._net.handshake import respond
from dmsg_trio._net.mux import MuxConnection
from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.session import Session
from dmsg_trio._net.tcp import connect_tcp
from dmsg_trio._wire.entries import Entry, ServerInfo
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio.discovery import Discovery, Registration

from ._admission import Handshakes, OpenRate, TooManyHandshakesError
from ._metrics import Refusal, Rejection, ServerMetrics
from ._peer_options import PeerOptions
from ._peers import Peers
from ._relay import Relay
from ._replacements import Replacements, TooManyReplacementsError
from ._routes import Routes
from ._shares import MAX_RELAYED
from ._whereabouts import Whereabouts

logger = logging.getLogger("dmsg_trio.server")

MAX_SESSIONS: Final = 2048  # that the entry promises; twice as many are taken at the most
TENTATIVE_TIME: Final = 2  # seconds in which the session of a server's key may announce itself
DRAIN_TIME: Final = 10  # seconds that running streams have to finish in
MOVE_TIME: Final = 2  # of them: in which clients are still reached here, while they move elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What varies from server to server."""

    public_address: str
    public_address_v6: str = ""
    max_sessions: int = MAX_SESSIONS
    update_interval: float = 60  # seconds between two entries
    drain_time: float = DRAIN_TIME
    server_type: str = field(default="", repr=False)  # the passphrase of official servers
    post_quantum: PostQuantum = PostQuantum.OFFER
    peers: PeerOptions = field(default_factory=PeerOptions)
    max_relayed_streams: int = MAX_RELAYED  # over links to other servers


class Server:
    """One relay server."""

    def __init__(
        self,
        sk: SecretKey,
        *,
        discovery: Discovery,
        options: ServerOptions,
        connect: Connect = connect_tcp,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.options = options
        self.replacements = Replacements()
        self.routes = Routes(self.replacements)
        self.metrics = ServerMetrics(self.routes, wall_clock=wall_clock)
        self.registration = Registration(
            sk,
            discovery,
            draft=self._entry,
            interval=options.update_interval,
            wall_clock=wall_clock,
        )
        self._sk = sk
        self.peers = Peers(
            sk,
            discovery,
            options.peers,
            connect=connect,
            post_quantum=options.post_quantum,
            serve_link=self._serve_link,
            replacements=self.replacements,
            wall_clock=wall_clock,
        )
        self.metrics.peers = self.peers
        whereabouts = Whereabouts(discovery, self.peers)
        self._relay = Relay(
            sk,
            self.routes,
            self.peers,
            whereabouts,
            self.metrics,
            max_relayed=options.max_relayed_streams,
        )
        self._handshakes = Handshakes()
        self._drain_wanted = trio.Event()

    @property
    def pk(self) -> PublicKey:
        """The key under which clients know this server."""
        return self._sk.pk

    @property
    def available_sessions(self) -> int:
        """How many sessions the entry offers now."""
        return max(0, self.options.max_sessions - len(self.routes))

    @property
    def is_draining(self) -> bool:
        """Whether `drain` was called: no new sessions, and soon no new streams."""
        return self._drain_wanted.is_set()

    async def serve(
        self,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve what ``listeners`` accept until cancelled, or until `drain` has its way."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.registration.run)
            nursery.start_soon(self.peers.run)
            accepting = await nursery.start(self._accept, listeners, nursery)
            task_status.started()
            await self._drain_wanted.wait()
            accepting.cancel()
            self.registration.leave()
            self.peers.leave()
            with trio.move_on_after(self.options.drain_time):
                await self._clients_moved()
                await self._drained()
            nursery.cancel_scope.cancel()

    def drain(self) -> None:
        """End soon: leave the discovery, let clients move, then finish what runs, all within a time."""
        self._drain_wanted.set()

    def _entry(self) -> Entry:
        server = ServerInfo(
            address=self.options.public_address,
            address_v6=self.options.public_address_v6,
            available_sessions=self.available_sessions,
            server_type=self.options.server_type,
        )
        return Entry(pk=self.pk, timestamp=0, server=server)

    async def _accept(
        self,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        connections: trio.Nursery,
        *,
        task_status: trio.TaskStatus[trio.CancelScope],
    ) -> None:
        """Accept until cancelled; the connections live on in their own nursery."""
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await trio.serve_listeners(
                self._serve_stream_of_bytes, list(listeners), handler_nursery=connections
            )

    async def _clients_moved(self) -> None:
        """Send the clients away, and relay to them until they have had time to be found elsewhere.

        What they opened before they heard of it is relayed as well.
        """
        for session in self.routes:
            session.connection.go_away(refuse=False)
        logger.info("draining %d sessions, %d streams", len(self.routes), self.metrics.streams_now)
        with trio.move_on_after(MOVE_TIME):
            await self.routes.wait_empty()

    async def _drained(self) -> None:
        """Take nothing new, wait until no stream is relayed and the last bytes are sent."""
        for session in (*self.routes, *(link.session for link in self.peers.links.all)):
            session.connection.go_away()
        await self._relay.no_streams()
        for session in self.routes:
            await _all_sent(session.connection)

    # ---- one connection ----

    async def _serve_stream_of_bytes(self, stream: trio.abc.Stream) -> None:
        carrier = carrier_of(stream)
        try:
            with Border(logger, "the connection from %s", carrier.peer):
                await self._serve_connection(carrier)
        finally:
            await carrier.aclose()

    async def _serve_connection(self, carrier: Carrier) -> None:
        if self._drain_wanted.is_set():
            self.metrics.handshake_failed(Rejection.DRAINING)
            return
        if len(self.routes) >= 2 * self.options.max_sessions:
            self.metrics.handshake_failed(Rejection.TOO_MANY_SESSIONS)
            return
        try:
            with self._handshakes.one(carrier.peer):
                established = await respond(carrier, self._sk, self.options.post_quantum)
        except TooManyHandshakesError as error:
            self.metrics.handshake_failed(Rejection.TOO_MANY_HANDSHAKES)
            logger.debug("no session with %s: %s", carrier.peer, error)
            return
        except HandshakeError as error:
            self.metrics.handshake_failed(error.fault)
            logger.debug("no session with %s: %s", carrier.peer, error)
            return
        if self._drain_wanted.is_set():  # since the handshake began
            self.metrics.handshake_failed(Rejection.DRAINING)
            return
        await self._serve_session(Session(established))

    async def _serve_session(self, session: Session) -> None:
        pk = session.remote_pk
        tentative = self.peers.knows(pk)  # it may be about to announce itself
        try:
            with self.routes.added(session, tentative=tentative), self.metrics.session(session):
                logger.info("session of %s from %s", pk, session.peer)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(session.run)
                    if tentative:
                        nursery.start_soon(self._confirm, session)
                    await self._serve_streams(session, nursery)
            logger.info("session of %s ended: %s", pk, session.connection.close_reason)
        except TooManyReplacementsError as error:
            session.connection.close(str(error))
            self.metrics.handshake_failed(Rejection.REPLACEMENTS)
            logger.warning("session of %s from %s refused: %s", pk, session.peer, error)
        finally:
            self.peers.links.remove(session)

    async def _serve_link(self, session: Session) -> None:
        async with trio.open_nursery() as nursery:
            await self._serve_streams(session, nursery)

    async def _serve_streams(self, session: Session, nursery: trio.Nursery) -> None:
        """Serve what a session opens until it ends, as far as it opens no more than it may."""
        opens = OpenRate()
        while near := await session.connection.accept():
            if opens.take(is_link=self.peers.is_peer(session)):
                nursery.start_soon(self._serve_stream, session, near)
            else:
                self.metrics.refused(Refusal.OPEN_RATE)
                near.reset()

    async def _confirm(self, session: Session) -> None:
        """Take the session of a server's key for a client's, unless it announces itself."""
        with trio.move_on_after(TENTATIVE_TIME):
            await session.connection.closed.wait()
            return
        try:
            self.routes.confirm(session)
        except TooManyReplacementsError as error:
            session.connection.close(str(error))
            self.metrics.handshake_failed(Rejection.REPLACEMENTS)

    async def _serve_stream(self, session: Session, near: MuxStream) -> None:
        with Border(logger, "a stream of %s", session.remote_pk):
            await self._relay.serve_stream(session, near)


async def _all_sent(connection: MuxConnection) -> None:
    """Wait until the kernel has all that is to be sent, or the connection has ended."""
    while connection.outbox.size and not connection.closed.is_set():
        await connection.room.park()
