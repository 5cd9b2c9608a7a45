"""A session: two entities that know each other's key, with many streams between them.

Its yamux runs in the clear; the keys of its handshake protect the session objects, small signed
messages (`SignedObject`) that open a stream or answer for one.
"""

from __future__ import annotations

import struct
from typing import Final

import trio

from dmsg_trio._errors import LocalProtocolError, RemoteProtocolError
from dmsg_trio._keys import PublicKey
from dmsg_trio._wire.frames import PING_MARKER, ObjectOpener, ObjectSealer, frame_object
from dmsg_trio._wire.objects import SignedObject

from .handshake import Established
from .mux import MAX_UNREAD, MuxConnection
from .mux_stream import MuxStream

ECHO_TIMEOUT: Final = 5  # seconds; servers of 2024 never answer the marker
_PREFIX: Final = struct.Struct(">H")


class Session:
    """One established connection. It lives as long as `run`."""

    __slots__ = (
        "_opener",
        "_sealer",
        "began",
        "connection",
        "is_explored",
        "is_initiator",
        "is_post_quantum",
        "relays_across",
        "remote_pk",
    )

    def __init__(self, established: Established, *, max_unread: int = MAX_UNREAD) -> None:
        self.remote_pk: PublicKey = established.remote_pk
        self.is_initiator = established.is_initiator
        self.is_post_quantum = established.is_post_quantum
        self.connection = MuxConnection(
            established.carrier,
            client=established.is_initiator,
            first_data=established.first_data,
            max_unread=max_unread,
        )
        self.began = trio.current_time()
        self.relays_across = False  # whether the server passes streams on to other servers,
        self.is_explored = False  # and whether that was found out yet
        self._sealer = ObjectSealer(established.keys.send)
        self._opener = ObjectOpener(established.keys.receive)

    async def run(self) -> None:
        """Own the connection until it ends."""
        await self.connection.run()

    @property
    def peer(self) -> str:
        """Where the other end is, for logs."""
        return self.connection.carrier.peer

    async def send_object(self, stream: MuxStream, signed: SignedObject) -> None:
        """Send ``signed`` on ``stream``, encrypted for this session."""
        await stream.send_ahead(frame_object(self._sealer.seal(signed.raw)))

    async def receive_object_untrusted(self, stream: MuxStream) -> SignedObject | None:
        """Wait for an object on ``stream``; None is the ping marker.

        Raises `RemoteProtocolError` for what is no object of this session, and for the end of the
        stream; nothing of what comes behind the object is taken from the stream.
        """
        (size,) = _PREFIX.unpack(await _receive_exactly(stream, _PREFIX.size))
        if size == 0:
            return None
        body = await _receive_exactly(stream, size)
        return SignedObject.parse_untrusted(self._opener.open_untrusted(body))

    def __repr__(self) -> str:
        state = self.connection.close_reason or "open"
        return f"<Session with {self.remote_pk.short} at {self.peer}: {state}>"


async def _receive_exactly(stream: MuxStream, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        piece = await stream.receive_piece(size - len(received))
        if not piece:
            raise RemoteProtocolError("the stream ended where an object should be")
        received += piece
    return bytes(received)


async def echo_ping_marker(stream: MuxStream) -> None:
    """Answer the ping marker and end the stream."""
    try:
        await stream.send_all(PING_MARKER)
        await stream.aclose()
    except trio.BrokenResourceError:
        pass  # who asked is gone


async def echoes_ping_marker(session: Session) -> bool:
    """Ask for an echo of the ping marker: servers that can relay to another one give it."""
    try:
        stream = session.connection.open_stream()
        with stream.reset_unless_done(), trio.move_on_after(ECHO_TIMEOUT):
            await stream.send_all(PING_MARKER)
            echo = await _receive_exactly(stream, len(PING_MARKER))
            stream.close()
            return echo == PING_MARKER
    except (LocalProtocolError, RemoteProtocolError, trio.BrokenResourceError):
        pass  # the session is about to end, or its server is of 2024
    return False
