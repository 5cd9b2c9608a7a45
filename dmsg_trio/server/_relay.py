"""What a server does with a stream that a session opens: relay it, or answer it.

The steps, as PROTOCOL (opening a stream) numbers them; the ends' part is in `_net/opening.py`:

2. The request is decrypted and verified, and passed on as it was signed.
4. The answer is verified and passed back as it was signed; then the two streams are joined.
"""

from __future__ import annotations

import ipaddress
import logging
from enum import StrEnum
from typing import Final

import trio

from dmsg_trio._errors import ErrorCode, RemoteProtocolError
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.session import Session, echo_ping_marker
from dmsg_trio._net.splice import Splice
from dmsg_trio._wire.objects import (
    ObjectError,
    PeerAnnounce,
    SignedObject,
    StreamRequest,
    StreamResponse,
)
from dmsg_trio._wire.yamux import MAX_STREAMS

from ._metrics import ServerMetrics
from ._routes import Routes

logger = logging.getLogger("dmsg_trio.server")

OPEN_TIMEOUT: Final = 20  # seconds from a stream's SYN to its join; clients of 2024 wait as long


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


class Relay:
    """Serves the streams of all sessions of one server."""

    def __init__(self, sk: SecretKey, routes: Routes, metrics: ServerMetrics) -> None:
        self._sk = sk
        self._routes = routes
        self._metrics = metrics

    async def serve_stream(self, session: Session, near: MuxStream) -> None:
        """Serve one stream to its end; nothing of it is left when this returns."""
        with near.reset_unless_done():
            splice = await self._open(session, near)
            if splice is None:
                return
            with self._metrics.relaying(splice):
                try:
                    await splice.finished.wait()
                finally:
                    splice.reset("the server is closing")

    async def _open(self, session: Session, near: MuxStream) -> Splice | None:
        """Do the handshake of a stream; None if it led to no relaying."""
        try:
            with trio.fail_after(OPEN_TIMEOUT), near.abandoned_when_reset():
                signed = await session.receive_object_untrusted(near)
                if signed is None:
                    await echo_ping_marker(near)
                    return None
                match signed.request_untrusted():
                    case PeerAnnounce():
                        await self._refuse_peer(session, near, signed)
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
    ) -> Splice | None:
        if request.source.pk != session.remote_pk:
            raise ObjectError(
                ErrorCode.REQUEST_SOURCE_PK,
                f"a request of {request.source.pk} in the session of {session.remote_pk}",
            )
        if request.destination.pk == self._sk.pk:
            await self._answer(session, near, signed, request)
            return None
        next_session = self._routes.find(request.destination.pk)
        if next_session is None:
            self._refuse(session, near, Refusal.NO_ROUTE, f"no session of {request.destination.pk}")
            return None
        # What is opened while a queue is full would only make it longer.
        await next_session.connection.wait_for_room()
        await session.connection.wait_for_room()
        if not next_session.connection.is_open:
            self._refuse(session, near, Refusal.BROKEN, next_session.connection.close_reason)
            return None
        if next_session.connection.stream_count >= MAX_STREAMS:
            reason = f"{MAX_STREAMS} streams of {request.destination.pk}"
            self._refuse(session, near, Refusal.DESTINATION_FULL, reason)
            return None
        far = next_session.connection.open_stream()
        with far.reset_unless_done():
            return await self._relay(session, near, next_session, far, signed, request)

    async def _relay(
        self, session: Session, near: MuxStream, next_session: Session, far: MuxStream,
        signed: SignedObject, request: StreamRequest,
    ) -> Splice | None:  # fmt: skip
        await next_session.send_object(far, signed)
        try:
            answer = await next_session.receive_object_untrusted(far)
            if answer is None:
                raise RemoteProtocolError("a ping marker where an answer should be")
            response = answer.response_untrusted(signed, request.destination.pk)
        except RemoteProtocolError as error:
            # Destinations of 2024 refuse by ending the stream; only they could sign a reason.
            far.reset()
            self._refuse(session, near, Refusal.BAD_RESPONSE, str(error))
            return None
        await session.send_object(near, answer)
        if not response.accepted:
            self._metrics.refused(Refusal.REFUSED)
            near.close()
            far.close()
            return None
        return Splice(near, far)

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

    async def _refuse_peer(self, session: Session, near: MuxStream, signed: SignedObject) -> None:
        response = StreamResponse(
            signed.hash, accepted=False, error_code=ErrorCode.REQUEST_SOURCE_PK
        )
        self._metrics.refused(Refusal.NOT_A_PEER)
        await session.send_object(near, SignedObject.sign(self._sk, response))
        near.close()

    def _refuse(self, session: Session, near: MuxStream, reason: Refusal, detail: str) -> None:
        self._metrics.refused(reason)
        logger.debug("stream of %s refused: %s: %s", session.remote_pk, reason, detail)
        near.reset()


def ip_of(peer: str) -> bytes:
    """The address in ``host:port`` as 4 or 16 bytes; empty if there is none."""
    host = peer.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return b""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).packed
