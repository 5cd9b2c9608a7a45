"""How two clients open a stream with each other: a signed request, a signed answer, Noise KK inside.

The steps, as PROTOCOL (opening a stream) numbers them; the relay's part is in `server/_relay.py`:

1. `open_stream` (initiator): yamux stream, StreamRequest with KK message 1.
3. `answer_stream` (responder): verifies, runs KK, sends StreamResponse with KK message 2, or
   refuses with a signed reason.
5. `open_stream` verifies the answer; both ends carry Noise frames from then on.
"""

from __future__ import annotations

import secrets
from typing import Final

import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import (
    ErrorCode,
    HandshakeError,
    RefusedError,
    RemoteProtocolError,
    UnreachableError,
    describe_code,
)
from dmsg_trio._keys import SecretKey
from dmsg_trio._wire.hybrid import Handshake, PostQuantum
from dmsg_trio._wire.objects import ObjectError, SignedObject, StreamRequest, StreamResponse

from .handshake import KEM_SEED_SIZE
from .mux_stream import MuxStream
from .session import Session
from .stream import DmsgStream

OPEN_TIMEOUT: Final = 10  # seconds; servers of 2024 answer some refusals with silence


async def open_stream(
    session: Session, sk: SecretKey, local: Address, remote: Address, *, timestamp: int,
    post_quantum: PostQuantum,
) -> DmsgStream:  # fmt: skip
    """Open a stream from ``local`` to ``remote`` through the server of ``session``.

    Raises `UnreachableError` with the reason that the destination signed, or with what can be known
    otherwise. ``timestamp`` is in nanoseconds.
    """
    handshake = _handshake(sk, remote, post_quantum, initiator=True)
    request = SignedObject.sign(
        sk, StreamRequest(timestamp, local, remote, noise_message=handshake.write_message())
    )
    response, mux = await _ask(session, request, remote)
    with mux.reset_unless_done():
        _check_accepted(response, remote)
        try:
            handshake.read_message_untrusted(response.noise_message)
        except HandshakeError as error:
            raise UnreachableError(ErrorCode.REJECTED_WITHOUT_REASON, str(error)) from error
        keys = handshake.split()
    return DmsgStream(mux, keys, local=local, remote=remote, server_pk=session.remote_pk)


async def look_up_ip(session: Session, sk: SecretKey, local: Address, *, timestamp: int) -> bytes:
    """Ask the server of ``session`` which address it sees us at; 4 or 16 bytes."""
    server = Address(session.remote_pk, 1)
    request = SignedObject.sign(sk, StreamRequest(timestamp, local, server, ip_info=True))
    response, mux = await _ask(session, request, server)
    mux.close()
    _check_accepted(response, server)
    return response.ip


async def _ask(
    session: Session, request: SignedObject, remote: Address
) -> tuple[StreamResponse, MuxStream]:
    """Send ``request`` on a new stream and wait for the answer that ``remote`` signed."""
    if not session.connection.is_open:
        reason = session.connection.close_reason or "the server takes no new streams"
        raise UnreachableError(ErrorCode.SESSION_CLOSED, reason)
    mux = session.connection.open_stream()
    with mux.reset_unless_done():
        try:
            with trio.fail_after(OPEN_TIMEOUT):
                await session.send_object(mux, request)
                answer = await session.receive_object_untrusted(mux)
            if answer is None:
                raise RemoteProtocolError("a ping marker where an answer should be")
            return answer.response_untrusted(request, remote.pk), mux
        except ObjectError as error:
            raise UnreachableError(error.code, str(error)) from error
        except RemoteProtocolError as error:
            raise UnreachableError(ErrorCode.REJECTED_WITHOUT_REASON, str(error)) from error
        except trio.BrokenResourceError as error:
            raise _unreachable(session, remote) from error
        except trio.TooSlowError as error:
            reason = f"no answer within {OPEN_TIMEOUT} s"
            raise UnreachableError(ErrorCode.REJECTED_WITHOUT_REASON, reason) from error


def _unreachable(session: Session, remote: Address) -> UnreachableError:
    """Say what a stream that broke before the answer means."""
    if session.connection.close_reason:
        reason = f"the session ended: {session.connection.close_reason}"
        return UnreachableError(ErrorCode.SESSION_CLOSED, reason)
    reason = f"the server knows no way to {remote.pk}: it reset the stream"
    return UnreachableError(ErrorCode.NO_NEXT_SESSION, reason)


def _check_accepted(response: StreamResponse, remote: Address) -> None:
    if not response.accepted:
        code = response.error_code or ErrorCode.REJECTED_WITHOUT_REASON
        raise RefusedError(code, f"{remote} refused: {describe_code(code)}")


async def accept_stream(
    session: Session, sk: SecretKey, mux: MuxStream, signed: SignedObject, request: StreamRequest,
    post_quantum: PostQuantum,
) -> DmsgStream:  # fmt: skip
    """Answer a verified request that is welcome; raise `HandshakeError` if its Noise message is not."""
    handshake = _handshake(sk, request.source, post_quantum, initiator=False)
    handshake.read_message_untrusted(request.noise_message)
    message = handshake.write_message()
    response = StreamResponse(signed.hash, accepted=True, noise_message=message)
    # The peer may send as soon as it has the answer, so all is ready before.
    stream = DmsgStream(
        mux,
        handshake.split(),
        local=request.destination,
        remote=request.source,
        server_pk=session.remote_pk,
    )
    await session.send_object(mux, SignedObject.sign(sk, response))
    return stream


async def refuse_stream(
    session: Session, sk: SecretKey, mux: MuxStream, signed: SignedObject, code: ErrorCode
) -> None:
    """Answer a request with a signed reason, and end the stream."""
    response = StreamResponse(signed.hash, accepted=False, error_code=code)
    await session.send_object(mux, SignedObject.sign(sk, response))
    await mux.aclose()


def _handshake(
    sk: SecretKey, peer: Address, post_quantum: PostQuantum, *, initiator: bool
) -> Handshake:
    return Handshake(
        "KK",
        initiator=initiator,
        static=sk,
        remote_static=peer.pk,
        ephemeral=SecretKey.generate(),
        post_quantum=post_quantum,
        kem_seed=secrets.token_bytes(KEM_SEED_SIZE) if initiator else None,
    )
