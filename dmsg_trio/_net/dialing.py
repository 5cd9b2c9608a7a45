"""How a session with a server comes to be: connection, handshake, first sign of life."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from dmsg_trio._errors import HandshakeError, HandshakeFault
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._wire.hybrid import PostQuantum

from .carriers import Carrier
from .handshake import initiate
from .session import Session

CONNECT_TIMEOUT: Final = 10  # seconds for the carrier, DNS included
SIGN_OF_LIFE: Final = 5  # seconds for the answer to the first ping

Connect = Callable[[str], Awaitable[Carrier]]  # from an address, ``host:port``


async def dial_session(
    sk: SecretKey,
    server_pk: PublicKey,
    address: str,
    *,
    connect: Connect,
    post_quantum: PostQuantum,
) -> Session:
    """Connect and shake hands; the session lives when its `run` does.

    Raises `OSError` if nobody is there, `HandshakeError` if it is somebody else.
    """
    with trio.move_on_after(CONNECT_TIMEOUT) as limit:
        carrier = await connect(address)
    if limit.cancelled_caught:
        reason = f"no connection to {address} in {CONNECT_TIMEOUT} s"
        raise HandshakeError(reason, HandshakeFault.TIMEOUT)
    done = False
    try:
        established = await initiate(carrier, sk, server_pk, post_quantum)
        done = True
    finally:
        if not done:
            await carrier.aclose()
    return Session(established)


async def shows_life(session: Session) -> bool:
    """Ask for the first frame of the peer, and measure the round trip by it."""
    session.connection.ping()
    with trio.move_on_after(SIGN_OF_LIFE):
        await session.connection.wait_heard()
    return session.connection.received > 0 and not session.connection.close_reason
