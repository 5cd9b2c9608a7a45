"""SOCKS5 (RFC 1928, 1929) for both roles: who asks for a connection, and who makes it.

    greeting   05 | n | n methods                              client to server
    choice     05 | method, ff: none of them                   server to client
    login      01 | length | user | length | password          client to server, of method 02
    verdict    01 | status, 00: welcome                        server to client
    request    05 | command | 00 | address                     client to server
    reply      05 | code    | 00 | address                     server to client
    datagram   00 00 | fragment | address | data               both, over UDP
    address    01 | IPv4, 03 | length | name, or 04 | IPv6; then the port

Bytes go into a `SocksReader` as they come; each message is asked for when it is the turn of it, and
what lies behind the last one is `SocksReader.rest`. Reserved bytes mean nothing and are not looked
at. Names are not resolved here; what may stand in one is narrower than in the RFC, which lets
anything pass that has a length.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias, TypeVar

from dmsg_trio._errors import RemoteProtocolError

T = TypeVar("T")

VERSION: Final = 5
LOGIN_VERSION: Final = 1
MAX_LOGIN_WORD: Final = 255  # bytes of a user's name, and of a password
MAX_NAME: Final = 255  # bytes; a public key with .dmsg behind it is one label of 66
MAX_GREETING: Final = 2 + 255
MAX_ADDRESS: Final = 2 + MAX_NAME + 2
MAX_REQUEST: Final = 3 + MAX_ADDRESS  # as of a reply
MAX_DATAGRAM: Final = (
    65535  # bytes with the header, as many as UDP and the length of a frame can say
)

_NAME: Final = frozenset((string.ascii_letters + string.digits + "-._:").encode())
_PORTS: Final = range(65536)


class Method(IntEnum):
    """How the client says who it is."""

    NO_AUTH = 0x00
    PASSWORD = 0x02
    NONE_ACCEPTABLE = 0xFF  # only in a choice


class Command(IntEnum):
    """What a client may ask for."""

    CONNECT = 1
    BIND = 2
    UDP_ASSOCIATE = 3


class ReplyCode(IntEnum):
    """What became of a request."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8


class AddressTypeError(RemoteProtocolError):
    """An address is of a kind that nobody knows, so that its length is unknown as well."""


# ---- what is said ----


Host: TypeAlias = IPv4Address | IPv6Address | str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and a port; the host is an address or the name of one, as it came."""

    host: Host
    port: int

    def __post_init__(self) -> None:
        if self.port not in _PORTS:
            raise ValueError(f"a port is 0 to 65535, not {self.port}")
        if isinstance(self.host, str):
            _check_name(self.host.encode(errors="replace"))

    @classmethod
    def of(cls, host: str, port: int) -> Endpoint:
        """Make one of text, which may spell an address; raise `ValueError` if it is neither."""
        try:
            return cls(ip_address(host), port)
        except ValueError:
            return cls(host, port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if isinstance(self.host, IPv6Address) else self.host
        return f"{host}:{self.port}"


NOWHERE: Final = Endpoint(IPv4Address(0), 0)  # the address in a reply that has none to tell


@dataclass(frozen=True, slots=True)
class Greeting:
    """Client to server: these methods would do; numbers that are no `Method` are somebody else's."""

    methods: tuple[int, ...] = (Method.NO_AUTH,)


@dataclass(frozen=True, slots=True)
class Choice:
    """Server to client: go on with this method, or `Method.NONE_ACCEPTABLE`."""

    method: int = Method.NO_AUTH


@dataclass(frozen=True, slots=True)
class Login:
    """Client to server: who it is; a password may be empty, a name may not."""

    user: bytes
    password: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 < len(self.user) <= MAX_LOGIN_WORD:
            raise ValueError(f"a user's name has 1 to {MAX_LOGIN_WORD} bytes, not {len(self.user)}")
        if len(self.password) > MAX_LOGIN_WORD:
            size = len(self.password)
            raise ValueError(f"a password has at most {MAX_LOGIN_WORD} bytes, not {size}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Server to client: whether the login is right, which is 0."""

    status: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """Client to server: do this; a command that is no `Command` wants a reply as well."""

    command: int
    target: Endpoint


@dataclass(frozen=True, slots=True)
class Reply:
    """Server to client: what became of it, and the address that is used on the other side."""

    code: int
    bound: Endpoint = NOWHERE


@dataclass(frozen=True, slots=True)
class Datagram:
    """What is sent to an endpoint, or came from it, over UDP."""

    remote: Endpoint
    data: bytes


Message: TypeAlias = Greeting | Choice | Login | Verdict | Request | Reply | Datagram


# ---- out ----


def encode(message: Message) -> bytes:
    """Write a message."""
    match message:
        case Greeting(methods):
            return bytes((VERSION, len(methods), *methods))
        case Choice(method):
            return bytes((VERSION, method))
        case Login(user, password):
            words = bytes((len(user),)) + user + bytes((len(password),)) + password
            return bytes((LOGIN_VERSION,)) + words
        case Verdict(status):
            return bytes((LOGIN_VERSION, status))
        case Request(number, endpoint) | Reply(number, endpoint):
            return bytes((VERSION, number, 0)) + _encode_endpoint(endpoint)
    return bytes(3) + _encode_endpoint(message.remote) + message.data


def encode_frame(datagram: Datagram) -> bytes:
    """Write a datagram for a stream, with its length in two bytes in front."""
    data = encode(datagram)
    if len(data) > MAX_DATAGRAM:
        raise ValueError(f"a datagram has at most {MAX_DATAGRAM} bytes, not {len(data)}")
    return len(data).to_bytes(2) + data


def _encode_endpoint(endpoint: Endpoint) -> bytes:
    port = endpoint.port.to_bytes(2)
    match endpoint.host:
        case IPv4Address() as address:
            return b"\x01" + address.packed + port
        case IPv6Address() as address:
            return b"\x04" + address.packed + port
        case name:
            return bytes((3, len(name))) + name.encode() + port


# ---- in ----


class SocksReader:
    """What the other side has said so far, in pieces cut anywhere.

    Each question is answered with a message, with None if more has to come first, or with
    `RemoteProtocolError` as soon as no more bytes can mend what came.
    """

    def __init__(self) -> None:
        self._data = bytearray()

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Take in what was read from the other side."""
        self._data += data

    def next_greeting_untrusted(self) -> Greeting | None:
        """Read what a client begins with."""
        return self._next(_greeting_untrusted)

    def next_choice_untrusted(self) -> Choice | None:
        """Read what a server begins with."""
        return self._next(_choice_untrusted)

    def next_login_untrusted(self) -> Login | None:
        """Read who a client says it is."""
        return self._next(_login_untrusted)

    def next_verdict_untrusted(self) -> Verdict | None:
        """Read what a server thinks of that."""
        return self._next(_verdict_untrusted)

    def next_request_untrusted(self) -> Request | None:
        """Read what a client wants; `AddressTypeError` if it wants it from a strange kind of host."""
        return self._next(_request_untrusted)

    def next_reply_untrusted(self) -> Reply | None:
        """Read what a server did."""
        return self._next(_reply_untrusted)

    def next_frame_untrusted(self) -> bytes | None:
        """Read a datagram from a stream; `decode_datagram_untrusted` tells what is in it."""
        return self._next(_frame_untrusted)

    def rest(self) -> bytes:
        """Take what lies behind the last message: the bytes of the connection."""
        rest = bytes(self._data)
        self._data.clear()
        return rest

    def _next(self, read: Callable[[_Cursor], T]) -> T | None:
        cursor = _Cursor(self._data)
        try:
            message = read(cursor)
        except _MoreError:
            return None
        del self._data[: cursor.position]
        return message


def decode_datagram_untrusted(data: bytes) -> Datagram:
    """Read a datagram; `RemoteProtocolError` if it is none, or a fragment, which nobody sends."""
    cursor = _Cursor(data)
    try:
        cursor.take(2)
        if fragment := cursor.byte():
            raise RemoteProtocolError(f"socks: fragment {fragment} of a datagram")
        remote = _endpoint_untrusted(cursor)
    except _MoreError:
        raise RemoteProtocolError(f"socks: {len(data)} bytes are no datagram") from None
    return Datagram(remote, bytes(data[cursor.position :]))


class _MoreError(Exception):
    """A message is not complete."""


class _Cursor:
    """Reads bytes from the front, and says so when they end."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = data
        self.position = 0

    def take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self._data):
            raise _MoreError
        taken = bytes(self._data[self.position : end])
        self.position = end
        return taken

    def byte(self) -> int:
        return self.take(1)[0]


def _greeting_untrusted(cursor: _Cursor) -> Greeting:
    _version_untrusted(cursor)
    return Greeting(tuple(cursor.take(cursor.byte())))


def _choice_untrusted(cursor: _Cursor) -> Choice:
    _version_untrusted(cursor)
    return Choice(cursor.byte())


def _login_untrusted(cursor: _Cursor) -> Login:
    _version_untrusted(cursor, LOGIN_VERSION)
    user, password = cursor.take(cursor.byte()), cursor.take(cursor.byte())
    try:
        return Login(user, password)
    except ValueError as error:
        raise RemoteProtocolError(f"socks: {error}") from None


def _verdict_untrusted(cursor: _Cursor) -> Verdict:
    _version_untrusted(cursor, LOGIN_VERSION)
    return Verdict(cursor.byte())


def _request_untrusted(cursor: _Cursor) -> Request:
    return Request(_number_untrusted(cursor), _endpoint_untrusted(cursor))


def _reply_untrusted(cursor: _Cursor) -> Reply:
    return Reply(_number_untrusted(cursor), _endpoint_untrusted(cursor))


def _frame_untrusted(cursor: _Cursor) -> bytes:
    return cursor.take(int.from_bytes(cursor.take(2)))


def _version_untrusted(cursor: _Cursor, wanted: int = VERSION) -> None:
    version = cursor.byte()
    if version != wanted:
        raise RemoteProtocolError(f"socks: version {version}, not {wanted}")


def _number_untrusted(cursor: _Cursor) -> int:
    """Read the version, and the command or code behind it."""
    _version_untrusted(cursor)
    number, _reserved = cursor.take(2)
    return number


def _endpoint_untrusted(cursor: _Cursor) -> Endpoint:
    host: Host
    match cursor.byte():
        case 1:
            host = IPv4Address(cursor.take(4))
        case 3:
            host = _name_untrusted(cursor)
        case 4:
            host = IPv6Address(cursor.take(16))
        case kind:
            raise AddressTypeError(f"socks: an address of type {kind}")
    return Endpoint(host, int.from_bytes(cursor.take(2)))


def _name_untrusted(cursor: _Cursor) -> str:
    name = cursor.take(cursor.byte())
    try:
        _check_name(name)
    except ValueError as error:
        raise RemoteProtocolError(f"socks: {error}") from None
    return name.decode()


def _check_name(name: bytes) -> None:
    """Raise `ValueError` for what no host is called; an address in words is a name, too."""
    if not 0 < len(name) <= MAX_NAME:
        raise ValueError(f"a name has 1 to {MAX_NAME} bytes, not {len(name)}")
    if strange := set(name) - _NAME:
        raise ValueError(f"byte {min(strange):#04x} is in no name of a host")
