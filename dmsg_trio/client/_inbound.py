"""What a client does with a stream that comes in: verify, refuse with a reason, or deliver."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import trio

from dmsg_trio._errors import ErrorCode, HandshakeError, RemoteProtocolError
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.opening import accept_stream, refuse_stream
from dmsg_trio._net.session import Session, echo_ping_marker
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio._wire.objects import PeerAnnounce, SignedObject, StreamRequest

from ._listener import DmsgListener
from ._ports import Ports

logger = logging.getLogger("dmsg_trio.client")

ANSWER_TIMEOUT: Final = 10  # seconds from a stream's SYN to our answer
CLOCK_TOLERANCE: Final = 120  # seconds that a peer's clock may be off
MAX_SEEN: Final = 8192  # requests remembered, so that none is answered twice


class SeenRequests:
    """The hashes of recent requests: with `CLOCK_TOLERANCE`, what makes replays fail."""

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, int] = OrderedDict()

    def is_fresh(self, request_hash: bytes, timestamp: int, now: int) -> bool:
        """Note a request of ``timestamp``; tell whether it is of our time and was not seen before."""
        tolerance = CLOCK_TOLERANCE * 10**9
        if abs(now - timestamp) > tolerance or request_hash in self._until:
            return False
        while self._until and (
            len(self._until) >= MAX_SEEN or next(iter(self._until.values())) < now
        ):
            self._until.popitem(last=False)
        self._until[request_hash] = now + 2 * tolerance
        return True


class Inbound:
    """Answers the streams that servers open to one client."""

    def __init__(
        self,
        sk: SecretKey,
        ports: Ports,
        post_quantum: PostQuantum,
        wall_clock: Callable[[], int],
    ) -> None:
        self._sk = sk
        self._ports = ports
        self._post_quantum = post_quantum
        self._wall_clock = wall_clock
        self._seen = SeenRequests()

    async def serve_stream(self, session: Session, mux: MuxStream) -> None:
        """Answer one stream; what is not delivered is reset or refused when this returns."""
        try:
            with mux.reset_unless_done(), trio.fail_after(ANSWER_TIMEOUT):
                await self._answer(session, mux)
        except (RemoteProtocolError, HandshakeError) as error:
            logger.debug("a stream through %s is no request: %s", session.remote_pk, error)
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            logger.debug("a stream through %s did not open: %s", session.remote_pk, error)

    async def _answer(self, session: Session, mux: MuxStream) -> None:
        signed = await session.receive_object_untrusted(mux)
        if signed is None:
            await echo_ping_marker(mux)
            return
        request = signed.request_untrusted()
        if isinstance(request, PeerAnnounce):
            raise RemoteProtocolError("a peer announces itself to a client")
        match self._judge(signed, request):
            case ErrorCode() as code:
                logger.debug("refused %s to %s: %s", request.source, request.destination, code)
                await refuse_stream(session, self._sk, mux, signed, code)
            case DmsgListener() as listener:
                with listener.reserved():
                    stream = await accept_stream(
                        session, self._sk, mux, signed, request, self._post_quantum
                    )
                listener.deliver(stream)

    def _judge(self, signed: SignedObject, request: StreamRequest) -> DmsgListener | ErrorCode:
        """Say who gets the stream, or why nobody does."""
        if request.destination.pk != self._sk.pk:
            return ErrorCode.REQUEST_DESTINATION_PK
        if not self._seen.is_fresh(signed.hash, request.timestamp, self._wall_clock()):
            return ErrorCode.REQUEST_TIMESTAMP
        listener = self._ports.listener(request.destination.port)
        if listener is None:
            return ErrorCode.NO_LISTENER
        return ErrorCode.ACCEPT_QUEUE_FULL if listener.is_full else listener
