"""What can go wrong, and whose doing it was.

Everything that dmsg_trio raises on its own account is a `DmsgError`. Streams raise what Trio's
streams raise (`trio.BrokenResourceError`, `trio.ClosedResourceError`, `trio.BusyResourceError`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class ErrorCode(IntEnum):
    """The protocol's table of error codes; the numbers travel in `StreamResponse.err_code`."""

    ENTRY_NOT_FOUND = 100
    NOT_A_SERVER_ENTRY = 101
    NOT_A_CLIENT_ENTRY = 102
    NO_DELEGATED_SERVERS = 103
    ENTITY_CLOSED = 200
    SESSION_CLOSED = 201
    CANNOT_CONNECT_TO_DELEGATED = 202
    EXTRA_HANDSHAKE_BYTES = 203
    REQUEST_SIGNATURE = 300
    REQUEST_TIMESTAMP = 301
    REQUEST_SOURCE_PK = 302
    REQUEST_DESTINATION_PK = 303
    REQUEST_SOURCE_PORT = 304
    REQUEST_DESTINATION_PORT = 305
    NO_LISTENER = 306
    NO_NEXT_SESSION = 307
    RELAY_CAPACITY = 308
    RESPONSE_SIGNATURE = 350
    RESPONSE_HASH = 351
    REJECTED_WITHOUT_REASON = 352
    OBJECT_INVALID = 370
    PORT_OCCUPIED = 400
    ACCEPT_QUEUE_FULL = 401

    @property
    def text(self) -> str:
        """The reason in words."""
        return _TEXTS[self]


_TEXTS = {
    ErrorCode.ENTRY_NOT_FOUND: "no entry of this key in the discovery",
    ErrorCode.NOT_A_SERVER_ENTRY: "the entry is not of a server",
    ErrorCode.NOT_A_CLIENT_ENTRY: "the entry is not of a client",
    ErrorCode.NO_DELEGATED_SERVERS: "the client's entry names no delegated servers",
    ErrorCode.ENTITY_CLOSED: "closed on this side",
    ErrorCode.SESSION_CLOSED: "the session is closed",
    ErrorCode.CANNOT_CONNECT_TO_DELEGATED: "cannot connect to a delegated server",
    ErrorCode.EXTRA_HANDSHAKE_BYTES: "extra bytes in the session handshake",
    ErrorCode.REQUEST_SIGNATURE: "the request has an invalid signature",
    ErrorCode.REQUEST_TIMESTAMP: "the request's timestamp is out of bounds or was seen before",
    ErrorCode.REQUEST_SOURCE_PK: "the request has an invalid source key",
    ErrorCode.REQUEST_DESTINATION_PK: "the request has an invalid destination key",
    ErrorCode.REQUEST_SOURCE_PORT: "the request has an invalid source port",
    ErrorCode.REQUEST_DESTINATION_PORT: "the request has an invalid destination port",
    ErrorCode.NO_LISTENER: "nobody listens on this port",
    ErrorCode.NO_NEXT_SESSION: "the server has no session with the destination",
    ErrorCode.RELAY_CAPACITY: "the server relays all it can",
    ErrorCode.RESPONSE_SIGNATURE: "the response has an invalid signature",
    ErrorCode.RESPONSE_HASH: "the response belongs to another request",
    ErrorCode.REJECTED_WITHOUT_REASON: "rejected without a reason",
    ErrorCode.OBJECT_INVALID: "the signed object is invalid",
    ErrorCode.PORT_OCCUPIED: "the port is occupied",
    ErrorCode.ACCEPT_QUEUE_FULL: "the listener's queue is full",
}


def describe_code(code: int) -> str:
    """Say an error code in words; numbers that the table lacks are said as numbers."""
    try:
        return f"{ErrorCode(code).text} ({code})"
    except ValueError:
        return f"error code {code}"


class DmsgError(Exception):
    """Base of all errors that dmsg_trio raises on its own account."""


class ProtocolError(DmsgError):
    """A rule of the protocol was broken."""


class LocalProtocolError(ProtocolError):
    """You asked for something that the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow."""


class HandshakeFault(StrEnum):
    """What went wrong in a handshake, in one word."""

    TIMEOUT = "timeout"
    CLOSED = "closed_by_peer"
    CRYPTO = "crypto"  # another key than was expected, or bytes that were changed
    PROTOCOL = "protocol"
    POST_QUANTUM = "post_quantum_required"


class HandshakeError(DmsgError):
    """A handshake failed: wrong key, wrong bytes, or no answer in time; ``fault`` says which."""

    def __init__(self, message: str, fault: HandshakeFault = HandshakeFault.PROTOCOL) -> None:
        self.fault = fault
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way that a dial tried: through which ``server`` (hex), and the ``reason`` if it failed, or "".

    ``tier`` is 1 for a server of the destination's, 2 for another server, 3 for a new session; it took
    so many ``seconds``.
    """

    server: str
    reason: str
    tier: int = 1
    seconds: float = 0.0


class UnreachableError(DmsgError):
    """The destination cannot be reached; ``code`` is of the protocol's table (`ErrorCode`).

    ``reason`` says it in a line, and ``attempts`` has what was tried, in order.
    """

    def __init__(self, code: int, reason: str = "", attempts: Sequence[Attempt] = ()) -> None:
        self.code = code
        self.reason = reason or describe_code(code)
        self.attempts = tuple(attempts)
        lines = [self.reason]
        failed = [each for each in self.attempts if each.reason]
        lines += [f"  {each.tier}. through {each.server}: {each.reason}" for each in failed]
        super().__init__("\n".join(lines))


class RefusedError(UnreachableError):
    """The destination itself said no, and signed that; no other way leads to another answer.

    The last of the ``attempts`` is the way that led there.
    """


class DiscoveryError(DmsgError):
    """The discovery cannot be reached, refused, or answered nonsense."""


class ConfigError(DmsgError):
    """A setting is wrong; the message names its path and what is wrong with it."""


class IdentityError(ConfigError):
    """A secret key cannot be had from where it should come; the message never repeats it."""
