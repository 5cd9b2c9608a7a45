"""What a server does with a stream that a session opens: relay it, or answer it.

The steps, as PROTOCOL (opening a stream) numbers them; the ends' part is in `_net/opening.py`:

2. The request is decrypted and verified, and passed on as it was signed.
4. The answer is verified and passed back as it was signed; then the two streams are joined.

A request for somebody who has no session here is passed to another server, over a link (`Peers`). One
that came over a link is not: so a path has two servers at the most, and no request goes round.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import Final

import trio

from dmsg_trio._errors import ErrorCode, RemoteProtocolError
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.session import Session, echo_ping_marker
from dmsg_trio._net.splice import Splice
from dmsg_trio._net.tcp import ip_of
from dmsg_trio._wire.objects import (
    ObjectError,
    PeerAnnounce,
    SignedObject,
    StreamRequest,
    StreamResponse,
)

from ._asking import Asker
from ._metrics import Refusal, ServerMetrics
from ._peers import Peers
from ._routes import Routes
from ._shares import MAX_RELAYED, NoShareError, Shares
from ._whereabouts import Whereabouts

logger = logging.getLogger("dmsg_trio.server")

OPEN_TIMEOUT: Final = 20  # seconds from a stream's SYN to its join; clients of 2024 wait as long

_UNWELCOME: Final = {
    ErrorCode.REQUEST_SOURCE_PK: Refusal.NOT_A_PEER,
    ErrorCode.REQUEST_TIMESTAMP: Refusal.BAD_REQUEST,
    ErrorCode.RELAY_CAPACITY: Refusal.TOO_MANY_LINKS,
}


class Relay:
    """Serves the streams of all sessions of one server."""

    def __init__(
        self,
        sk: SecretKey,
        routes: Routes,
        peers: Peers,
        whereabouts: Whereabouts,
        metrics: ServerMetrics,
        *,
        max_relayed: int = MAX_RELAYED,
    ) -> None:
        self._sk = sk
        self._routes = routes
        self._peers = peers
        self._whereabouts = whereabouts
        self._metrics = metrics
        self._shares = Shares(max_relayed)
        self._asker = Asker(peers, whereabouts, self._shares, metrics)
        self._serving = 0
        self._idle = trio.lowlevel.ParkingLot()

    async def serve_stream(self, session: Session, near: MuxStream) -> None:
        """Serve one stream to its end; nothing of it is left when this returns."""
        self._serving += 1
        try:
            await self._serve(session, near)
        finally:
            self._serving -= 1
            if not self._serving:
                self._idle.unpark_all()

    async def no_streams(self) -> None:
        """Wait until no stream is served, nor one that is being opened."""
        while self._serving:
            await self._idle.park()

    async def _serve(self, session: Session, near: MuxStream) -> None:
        with ExitStack() as held, near.reset_unless_done():
            far = await self._open(session, near, held)
            if far is None:
                return
            # The ends have their answer; what they send now would make a full queue longer.
            for stream in (near, far):
                await stream.connection.wait_for_room()
            await self._relay(Splice(near, far))

    async def _relay(self, splice: Splice) -> None:
        with self._metrics.relaying(splice):
            try:
                await splice.finished.wait()
            finally:
                splice.reset("the server is closing")

    async def _open(self, session: Session, near: MuxStream, held: ExitStack) -> MuxStream | None:
        """Do the handshake of a stream; give the one to join it with, if it led to one.

        What the two occupy is given back by ``held``.
        """
        try:
            with trio.fail_after(OPEN_TIMEOUT), near.abandoned_when_reset():
                signed = await session.receive_object_untrusted(near)
                if signed is None:
                    await echo_ping_marker(near)
                    return None
                match signed.request_untrusted():
                    case PeerAnnounce() as announce:
                        await self._answer_announce(session, near, signed, announce)
                        return None
                    case StreamRequest() as request:
                        if self._peers.is_peer(session):
                            self._peers.note_use(session)
                            held.enter_context(self._shares.one(session.remote_pk))
                        return await self._route(session, near, signed, request, held)
        except RemoteProtocolError as error:
            self._refuse(session, near, Refusal.BAD_REQUEST, str(error))
        except NoShareError as error:
            self._refuse(session, near, Refusal.CAPACITY, str(error))
        except trio.TooSlowError:
            self._refuse(session, near, Refusal.TIMEOUT, f"not open within {OPEN_TIMEOUT} s")
        except trio.BrokenResourceError as error:
            self._refuse(session, near, Refusal.BROKEN, str(error))
        return None

    async def _route(
        self, session: Session, near: MuxStream, signed: SignedObject, request: StreamRequest,
        held: ExitStack,
    ) -> MuxStream | None:  # fmt: skip
        from_peer = self._peers.is_peer(session)
        if request.source.pk != session.remote_pk and not from_peer:
            raise ObjectError(
                ErrorCode.REQUEST_SOURCE_PK,
                f"a request of {request.source.pk} in the session of {session.remote_pk}",
            )
        destination = request.destination.pk
        is_ours = destination == self._sk.pk  # unless it is for a client that has our key
        if is_ours and request.ip_info:
            await self._answer(session, near, signed, request)
            return None
        if next_session := self._routes.find(destination):
            ways = [next_session]
        elif from_peer:
            ways = []  # one hop between servers at most
        else:
            ways = await self._whereabouts.ways_to(destination)
        if is_ours and not (ways or from_peer):
            await self._answer(session, near, signed, request)
            return None
        answer = await self._asker.ask_all(ways, signed, request)
        if answer is None:
            if ways:
                self._whereabouts.was_wrong(destination)
            self._refuse(session, near, Refusal.NO_ROUTE, f"no way to {destination}")
            return None
        with ExitStack() as answered:
            answered.enter_context(answer.held())
            await session.send_object(near, answer.signed)
            if answer.response.accepted:
                held.enter_context(answered.pop_all())
                return answer.stream
            self._metrics.refused(Refusal.REFUSED)
            near.close()
            answer.stream.close()
            return None

    # ---- requests to the server itself ----

    async def _answer(
        self, session: Session, near: MuxStream, signed: SignedObject, request: StreamRequest
    ) -> None:
        """Answer a request whose destination is this server: it looks up addresses, no more."""
        is_relayed = request.source.pk != session.remote_pk
        ip = ip_of(session.peer) if request.ip_info and not is_relayed else b""
        if ip:
            response = StreamResponse(signed.hash, accepted=True, ip=ip)
        else:
            code = ErrorCode.OBJECT_INVALID if request.ip_info else ErrorCode.NO_LISTENER
            response = StreamResponse(signed.hash, accepted=False, error_code=code)
        await session.send_object(near, SignedObject.sign(self._sk, response))
        near.close()

    async def _answer_announce(
        self, session: Session, near: MuxStream, signed: SignedObject, announce: PeerAnnounce
    ) -> None:
        if announce.source_pk != session.remote_pk:
            raise ObjectError(
                ErrorCode.REQUEST_SOURCE_PK,
                f"{announce.source_pk} announced in the session of {session.remote_pk}",
            )
        fault = await self._peers.admit(session, announce)
        if fault is None:
            self._routes.withdraw(session)
        else:
            self._metrics.refused(_UNWELCOME[fault])
        response = StreamResponse(signed.hash, accepted=fault is None, error_code=fault or 0)
        await session.send_object(near, SignedObject.sign(self._sk, response))
        near.close()

    def _refuse(self, session: Session, near: MuxStream, reason: Refusal, detail: str) -> None:
        self._metrics.refused(reason)
        logger.debug("stream of %s refused: %s: %s", session.remote_pk, reason, detail)
        near.reset()
