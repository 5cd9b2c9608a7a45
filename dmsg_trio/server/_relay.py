"""What a server does with a stream that a session opens: relay it, or answer it.

The steps, as PROTOCOL (opening a stream) numbers them; the ends' part is in `_net/opening.py`:

2. The request is decrypted and verified, and passed on as it was signed.
4. The answer is verified and passed back as it was signed; then the two streams are joined.

A request for somebody who has no session here is passed to another server, over a link (`Peers`). One
that came over a link is not: so a path has two servers at the most, and no request goes round.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import trio

from dmsg_trio._errors import ErrorCode, RemoteProtocolError
from dmsg_trio._keys import PublicKey, SecretKey
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
from dmsg_trio._wire.yamux import MAX_STREAMS

from ._metrics import ServerMetrics
from ._peers import Peers
from ._routes import Routes
from ._whereabouts import Whereabouts

logger = logging.getLogger("dmsg_trio.server")

OPEN_TIMEOUT: Final = 20  # seconds from a stream's SYN to its join; clients of 2024 wait as long
STAGGER: Final = 0.25  # seconds until the next server is asked as well
MAX_RELAYED: Final = 4096  # streams over links to other servers, in all
PEER_SHARE: Final = 4  # one server may have a quarter of them


class Refusal(StrEnum):
    """Why a stream was not relayed: the label in the metrics."""

    NO_ROUTE = "no_route"
    DESTINATION_FULL = "destination_full"
    BAD_REQUEST = "bad_request"
    BAD_RESPONSE = "bad_response"
    REFUSED = "refused_by_destination"
    TIMEOUT = "timeout"
    BROKEN = "broken"
    NOT_A_PEER = "not_a_peer"
    CAPACITY = "relay_capacity"
    OPEN_RATE = "open_rate"


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back for a request, and the stream on which it came."""

    way: Session
    stream: MuxStream
    signed: SignedObject
    response: StreamResponse


@dataclass(frozen=True, slots=True)
class _Way:
    """The stream that a stream is to be joined with, and the servers whose links the two go over."""

    stream: MuxStream
    over: tuple[PublicKey, ...]


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
        self._max_relayed = max_relayed
        self._carried: Counter[PublicKey] = Counter()  # streams now, by the server they go over

    async def serve_stream(self, session: Session, near: MuxStream) -> None:
        """Serve one stream to its end; nothing of it is left when this returns."""
        with near.reset_unless_done():
            way = await self._open(session, near)
            if way is None:
                return
            with way.stream.reset_unless_done(), self._carrying(way.over):
                # The ends have their answer; what they send now would make a full queue longer.
                for stream in (near, way.stream):
                    await stream.connection.wait_for_room()
                await self._relay(Splice(near, way.stream))

    async def _relay(self, splice: Splice) -> None:
        with self._metrics.relaying(splice):
            try:
                await splice.finished.wait()
            finally:
                splice.reset("the server is closing")

    async def _open(self, session: Session, near: MuxStream) -> _Way | None:
        """Do the handshake of a stream; None if it led to no relaying."""
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
                        return await self._route(session, near, signed, request)
        except RemoteProtocolError as error:
            self._refuse(session, near, Refusal.BAD_REQUEST, str(error))
        except trio.TooSlowError:
            self._refuse(session, near, Refusal.TIMEOUT, f"not open within {OPEN_TIMEOUT} s")
        except trio.BrokenResourceError as error:
            self._refuse(session, near, Refusal.BROKEN, str(error))
        return None

    async def _route(
        self, session: Session, near: MuxStream, signed: SignedObject, request: StreamRequest
    ) -> _Way | None:
        from_peer = self._peers.is_peer(session)
        if request.source.pk != session.remote_pk and not from_peer:
            raise ObjectError(
                ErrorCode.REQUEST_SOURCE_PK,
                f"a request of {request.source.pk} in the session of {session.remote_pk}",
            )
        destination = request.destination.pk
        if destination == self._sk.pk:
            await self._answer(session, near, signed, request)
            return None
        if from_peer and not self._may_carry(session.remote_pk):
            self._refuse(session, near, Refusal.CAPACITY, f"{session.remote_pk} has its share")
            return None
        if next_session := self._routes.find(destination):
            ways = [next_session]
        elif from_peer:
            ways = []  # one hop between servers at most
        else:
            ways = [
                way
                for way in await self._whereabouts.ways_to(destination)
                if self._may_carry(way.remote_pk)
            ]
        if len(ways) == 1:
            answer = await self._ask(ways[0], signed, request)
        else:
            answer = await self._race(ways, signed, request)
        if answer is None:
            self._whereabouts.was_wrong(destination)
            self._refuse(session, near, Refusal.NO_ROUTE, f"no way to {destination}")
            return None
        with answer.stream.reset_unless_done():
            await session.send_object(near, answer.signed)
            if answer.response.accepted:
                links = [each for each in (session, answer.way) if self._peers.is_peer(each)]
                over = tuple(each.remote_pk for each in links)
                return _Way(answer.stream, over)
            self._metrics.refused(Refusal.REFUSED)
            near.close()
            answer.stream.close()
            return None

    # ---- asking for the next hop ----

    async def _race(
        self, ways: Sequence[Session], signed: SignedObject, request: StreamRequest
    ) -> _Answer | None:
        """Ask one after the other, each a little later; the first that is accepted wins.

        A refusal counts when nobody accepts: who is asked twice for one thing refuses the second time.
        """
        answers: list[_Answer] = []
        best: _Answer | None = None
        try:
            async with trio.open_nursery() as nursery:

                async def ask(way: Session, turn: trio.Event) -> None:
                    try:
                        if answer := await self._ask(way, signed, request):
                            answers.append(answer)
                            if answer.response.accepted:
                                nursery.cancel_scope.cancel()
                    finally:
                        turn.set()

                for way in ways:
                    turn = trio.Event()
                    nursery.start_soon(ask, way, turn)
                    with trio.move_on_after(STAGGER):
                        await turn.wait()
                    if any(answer.response.accepted for answer in answers):
                        break
            best = min(answers, key=_preference, default=None)
        finally:
            for answer in answers:
                if answer is not best:
                    answer.stream.reset()
        return best

    async def _ask(
        self, way: Session, signed: SignedObject, request: StreamRequest
    ) -> _Answer | None:
        """Pass a request on and wait for the answer; None if there is none."""
        if not way.connection.is_open or way.connection.stream_count >= MAX_STREAMS:
            self._metrics.refused(Refusal.DESTINATION_FULL)
            return None
        stream = way.connection.open_stream()
        try:
            with stream.reset_unless_done():
                await way.send_object(stream, signed)
                answer = await way.receive_object_untrusted(stream)
                if answer is None:
                    raise RemoteProtocolError("a ping marker where an answer should be")
                response = answer.response_untrusted(signed, request.destination.pk)
        except RemoteProtocolError as error:
            # Destinations of 2024 refuse by ending the stream; only they could sign a reason.
            self._metrics.refused(Refusal.BAD_RESPONSE)
            logger.debug("no answer by %s: %s", way.remote_pk, error)
            return None
        except trio.BrokenResourceError as error:
            logger.debug("no answer by %s: %s", way.remote_pk, error)
            return None
        return _Answer(way, stream, answer, response)

    # ---- the share of each link ----

    def _may_carry(self, pk: PublicKey) -> bool:
        """Whether one more stream may go over the link with a server."""
        share = self._max_relayed // PEER_SHARE
        return self._carried.total() < self._max_relayed and self._carried[pk] < share

    @contextmanager
    def _carrying(self, over: tuple[PublicKey, ...]) -> Iterator[None]:
        """Count a stream against the links that it goes over."""
        self._carried.update(over)
        try:
            yield
        finally:
            self._carried.subtract(over)
            self._carried = +self._carried  # without those that are zero

    # ---- requests to the server itself ----

    async def _answer(
        self, session: Session, near: MuxStream, signed: SignedObject, request: StreamRequest
    ) -> None:
        """Answer a request whose destination is this server: it looks up addresses, no more."""
        ip = ip_of(session.peer) if request.ip_info else b""
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
        welcome = await self._peers.admit(session, announce)
        code = 0 if welcome else ErrorCode.REQUEST_SOURCE_PK
        if welcome:
            self._routes.withdraw(session)
        else:
            self._metrics.refused(Refusal.NOT_A_PEER)
        response = StreamResponse(signed.hash, accepted=welcome, error_code=code)
        await session.send_object(near, SignedObject.sign(self._sk, response))
        near.close()

    def _refuse(self, session: Session, near: MuxStream, reason: Refusal, detail: str) -> None:
        self._metrics.refused(reason)
        logger.debug("stream of %s refused: %s: %s", session.remote_pk, reason, detail)
        near.reset()


def _preference(answer: _Answer) -> tuple[bool, bool]:
    """Order answers: one that accepts, then a refusal, then that a request came twice."""
    response = answer.response
    return not response.accepted, response.error_code == ErrorCode.REQUEST_TIMESTAMP
