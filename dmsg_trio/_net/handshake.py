"""The session handshake: Noise XK on a fresh connection, in clear frames, within one time limit.

The dialer is the initiator and knows the server's key. After the third message the connection
carries yamux as it is; the keys that were agreed on protect the session objects (PROTOCOL:
session). Bytes that came behind the third message are yamux's and are kept.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

import trio

from dmsg_trio._errors import HandshakeError, HandshakeFault, RemoteProtocolError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._wire.frames import FrameReader, frame
from dmsg_trio._wire.hybrid import Handshake, PostQuantum, TransportKeys

from .carriers import Carrier

HANDSHAKE_TIMEOUT: Final = 5  # seconds for the whole of it
KEM_SEED_SIZE: Final = 64

# Servers of 2024 give a connection up when bytes of yamux are there already as they read the third
# message. They are told by their leaving the post-quantum offer unanswered, and get time to read.
SETTLE_TIME: Final = 0.03


@dataclass(frozen=True, slots=True)
class Established:
    """What a handshake leads to."""

    carrier: Carrier
    remote_pk: PublicKey
    keys: TransportKeys
    is_initiator: bool
    is_post_quantum: bool
    first_data: bytes  # yamux bytes that came right behind the handshake


async def initiate(
    carrier: Carrier, sk: SecretKey, server_pk: PublicKey, post_quantum: PostQuantum
) -> Established:
    """Shake hands with the server that has ``server_pk``; raise `HandshakeError` if it has not."""
    handshake = Handshake(
        "XK",
        initiator=True,
        static=sk,
        remote_static=server_pk,
        ephemeral=SecretKey.generate(),
        post_quantum=post_quantum,
        kem_seed=secrets.token_bytes(KEM_SEED_SIZE),
    )
    established = await _shake(carrier, handshake, initiator=True)
    if not established.is_post_quantum:
        await trio.sleep(SETTLE_TIME)
    return established


async def respond(carrier: Carrier, sk: SecretKey, post_quantum: PostQuantum) -> Established:
    """Shake hands with whoever dialed; raise `HandshakeError` if that fails."""
    handshake = Handshake(
        "XK",
        initiator=False,
        static=sk,
        remote_static=None,
        ephemeral=SecretKey.generate(),
        post_quantum=post_quantum,
    )
    return await _shake(carrier, handshake, initiator=False)


async def _shake(carrier: Carrier, handshake: Handshake, *, initiator: bool) -> Established:
    reader = FrameReader()
    with trio.move_on_after(HANDSHAKE_TIMEOUT) as limit:
        try:
            writing = initiator
            while not handshake.finished:
                if writing:
                    await carrier.send_all(frame(handshake.write_message()))
                else:
                    handshake.read_message_untrusted(await _next_message(carrier, reader))
                writing = not writing
        except RemoteProtocolError as error:
            raise HandshakeError(str(error)) from error
        except trio.BrokenResourceError as error:
            reason = f"the connection broke in the handshake: {error}"
            raise HandshakeError(reason, HandshakeFault.CLOSED) from error
    if limit.cancelled_caught:
        reason = f"no whole handshake within {HANDSHAKE_TIMEOUT} s"
        raise HandshakeError(reason, HandshakeFault.TIMEOUT)
    return Established(
        carrier=carrier,
        remote_pk=handshake.remote_static,
        keys=handshake.split(),
        is_initiator=initiator,
        is_post_quantum=handshake.is_post_quantum,
        first_data=reader.trailing,
    )


async def _next_message(carrier: Carrier, reader: FrameReader) -> bytes:
    while True:
        if (message := reader.next_frame()) is not None:
            return message
        data = await carrier.receive()
        if not data:
            reason = "the peer closed the connection in the handshake"
            raise HandshakeError(reason, HandshakeFault.CLOSED)
        reader.feed(data)
