"""Entries: who is where, signed by whom it is about, as the discovery keeps them.

An entry is JSON whose members have a fixed order, since the signature covers the text of all
others. What came from elsewhere keeps the members as they came: a field that is not known here
may be signed too. The discovery sets a server's type after the owner has signed, so the type is
the discovery's word and not the owner's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from functools import cached_property
from typing import Final

import msgspec

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._keys import PublicKey, SecretKey, Signature

from .entry_json import (
    ClientMembers,
    EntryMembers,
    ServerMembers,
    compact,
    insert_after,
    join,
    split,
    string,
)

VERSION: Final = "0.0.1"
VISOR: Final = "visor"  # the client type that the discovery lists on its own
OFFICIAL: Final = "official"
COMMUNITY: Final = "community"

MAX_ENTRY_SIZE: Final = 64 * 1024  # bytes of JSON; a usual entry has 400
MAX_SESSIONS: Final = 2**63 - 1
MAX_SEQUENCE: Final = 2**64 - 1
MAX_TIMESTAMP: Final = 2**63 - 1  # nanoseconds; the year 2262


class Flaw(Enum):
    """What is wrong with an entry, in the order in which it is looked for."""

    UNREADABLE = "not the JSON of an entry"
    NO_VERSION = "no version"
    NO_SIGNATURE = "no signature"
    NO_KEY = "no public key in `static`"
    NEITHER_CLIENT_NOR_SERVER = "neither `client` nor `server`"
    NO_ADDRESS = "no `server.address`"
    BAD_SIGNATURE = "the signature is not its owner's"


class EntryError(RemoteProtocolError):
    """An entry that breaks the rules; ``flaw`` says which one."""

    def __init__(self, flaw: Flaw, detail: str = "") -> None:
        self.flaw = flaw
        super().__init__(f"entry: {flaw.value}" + (f": {detail}" if detail else ""))


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """``delegated_servers`` has the servers that a client has sessions with.

    ``None`` and ``()`` both mean none, and are signed differently.
    """

    delegated_servers: tuple[PublicKey, ...] | None = None


# The order of the fields is the order of signing.
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """Where a server listens, by carrier, and how many sessions it still takes.

    ``address`` is ``host:port`` for TCP, ``address_v6`` the same for IPv6. Those of other carriers are
    kept as they came: ``address_udp``, ``address_udp_v6``, ``address_ws``, and ``address_wt`` with the hashes
    of its certificates, ``cert_hash_wt`` and ``cert_hash_wt_next``. ``available_sessions`` is how many more
    it offers, ``server_type`` a word that marks official servers.
    """

    address: str
    address_v6: str = ""
    address_udp: str = ""
    address_udp_v6: str = ""
    address_ws: str = ""
    address_wt: str = ""
    cert_hash_wt: str = ""
    cert_hash_wt_next: str = ""
    available_sessions: int = 0
    server_type: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry; made here and signed, or received and then as its sender wrote it.

    ``pk`` is whose it is, ``timestamp`` nanoseconds since 1970, and ``sequence`` goes up by one with each
    entry of a key. It says what is known of a ``client``, a ``server``, or both. ``client_type`` and
    ``protocol`` are words that newer programs add, ``version`` is that of the format. ``signature`` is
    None until it is signed, and ``received`` has what came as it was written, None if it was made here.
    """

    pk: PublicKey
    timestamp: int
    sequence: int = 0
    client: ClientInfo | None = None
    client_type: str = ""
    server: ServerInfo | None = None
    signature: Signature | None = None
    protocol: str = ""
    version: str = VERSION
    received: Mapping[str, bytes] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.client is None and self.server is None:
            raise ValueError("an entry is of a client or of a server")
        if not 0 <= self.sequence <= MAX_SEQUENCE:
            raise ValueError(f"a sequence is 0 to 2**64 - 1, not {self.sequence}")
        if abs(self.timestamp) > MAX_TIMESTAMP:
            raise ValueError(f"a timestamp is nanoseconds in 64 bits, not {self.timestamp}")

    @property
    def delegated_servers(self) -> tuple[PublicKey, ...]:
        """The servers through which a client is reached; none for a server."""
        return (self.client and self.client.delegated_servers) or ()

    # ---- in ----

    @classmethod
    def parse_untrusted(cls, data: bytes) -> Entry:
        """Read an entry that somebody sent; the signature is there but not yet verified."""
        if len(data) > MAX_ENTRY_SIZE:
            raise EntryError(Flaw.UNREADABLE, f"{len(data)} bytes, more than {MAX_ENTRY_SIZE}")
        try:
            data.decode()  # what msgspec skips it does not look at
            text = msgspec.json.format(data, indent=-1)
            seen = msgspec.json.decode(text, type=EntryMembers)
            members = split(text)
        except (ValueError, RecursionError) as error:
            raise EntryError(Flaw.UNREADABLE, str(error)) from None
        return _checked(seen, members)

    # ---- out ----

    def to_json(self) -> bytes:
        """The entry with its signature, compact, as it goes over the wire."""
        return self._own_json if self.received is None else join(self.received)

    def signing_bytes(self) -> bytes:
        """What a signature of this entry covers, in the protocol's order and spelling."""
        return compact(self._members())

    # ---- signing ----

    def signed(self, sk: SecretKey) -> Entry:
        """The same entry with the signature of ``sk``, whose entry it has to be."""
        if sk.pk != self.pk:
            raise ValueError(f"an entry of {self.pk} is not signed by {sk.pk}")
        unsigned = replace(self, received=None)
        return replace(unsigned, signature=sk.sign(unsigned.signing_bytes()))

    def next_iteration(
        self,
        *,
        timestamp: int,
        sequence: int | None = None,
        client: ClientInfo | None = None,
        server: ServerInfo | None = None,
    ) -> Entry:
        """The unsigned successor: one sequence on, with the new parts that are given."""
        return replace(
            self,
            timestamp=timestamp,
            sequence=self.sequence + 1 if sequence is None else sequence,
            client=client or self.client,
            server=server or self.server,
            signature=None,
            received=None,
        )

    # ---- verifying ----

    def verify(self) -> bool:
        """Tell whether the owner signed all of this: as it came, or as known members."""
        return any(map(self._is_signed, self._signable()))

    @cached_property
    def is_verified(self) -> bool:
        """Whether the owner's word is proven; for a server that leaves out the server's type.

        An entry of a server which is not verified is a hint of an address and no more; the
        handshake of a session proves the key anyway.
        """
        if self.server is None or self.verify():
            return self.verify()
        others = {"", OFFICIAL, COMMUNITY} - {self.server.server_type}
        return any(
            self._is_signed(payload)
            for server_type in sorted(others)
            for payload in self.with_server_type(server_type)._signable()
        )

    def as_signed(self) -> Entry:
        """The entry without members that its signature does not cover."""
        as_it_came, *as_known = self._signable()
        if as_known and not self._is_signed(as_it_came):
            return replace(self, received=None)
        return self

    def with_server_type(self, server_type: str) -> Entry:
        """The entry as a discovery shows it: with its own word on the server's type."""
        if self.server is None:
            return self
        server = replace(self.server, server_type=server_type)
        if self.received is None:
            return replace(self, server=server)
        members = split(self.received["server"])
        members.pop("serverType", None)
        if server_type:
            members = insert_after("availableSessions", members, "serverType", string(server_type))
        return replace(self, server=server, received={**self.received, "server": join(members)})

    def _is_signed(self, payload: bytes) -> bool:
        return self.signature is not None and self.pk.verify(payload, self.signature)

    def _signable(self) -> Iterator[bytes]:
        """What may have been signed: the members as they came, then the ones known here.

        The reference verifies the second, so a sender may have formatted the first at will.
        """
        known = self.signing_bytes()
        if self.received is not None:
            as_it_came = join({k: v for k, v in self.received.items() if k != "signature"})
            if as_it_came != known:
                yield as_it_came
        yield known

    # ---- members in their order ----

    @cached_property
    def _own_json(self) -> bytes:
        return compact(self._members(str(self.signature or "")))

    def _members(self, signature: str = "") -> dict[str, object]:
        members: dict[str, object] = {
            "version": self.version,
            "sequence": self.sequence,
            "timestamp": self.timestamp,
            "static": str(self.pk),
        }
        if self.client is not None:
            servers = self.client.delegated_servers
            members["client"] = {
                "delegated_servers": None if servers is None else [str(pk) for pk in servers]
            }
        members |= _unless_empty("client_type", self.client_type)
        if self.server is not None:
            members["server"] = _server_members(self.server)
        members |= _unless_empty("signature", signature)
        members |= _unless_empty("protocol", self.protocol)
        return members


def _server_members(server: ServerInfo) -> dict[str, object]:
    members: dict[str, object] = {}
    for info in fields(server):
        name = _SERVER_NAMES.get(info.name, info.name)
        value: object = getattr(server, info.name)
        if value or info.name in _ALWAYS_THERE:
            members[name] = value
    return members


_SERVER_NAMES: Final = {"available_sessions": "availableSessions", "server_type": "serverType"}
_ALWAYS_THERE: Final = ("address", "available_sessions")


def _unless_empty(name: str, value: str) -> dict[str, object]:
    return {name: value} if value else {}


def _checked(seen: EntryMembers, members: Mapping[str, bytes]) -> Entry:
    pk = _read_key(seen.static or "", "static")
    client = None if seen.client is None else _client_info(seen.client)
    for name, number, least, most in _numbers(seen):
        if not least <= number <= most:
            raise EntryError(Flaw.UNREADABLE, f"`{name}` out of bounds: {number}")

    if not seen.version:
        raise EntryError(Flaw.NO_VERSION)
    if not seen.signature:
        raise EntryError(Flaw.NO_SIGNATURE)
    if pk is None:
        raise EntryError(Flaw.NO_KEY)
    if seen.client is None and seen.server is None:
        raise EntryError(Flaw.NEITHER_CLIENT_NOR_SERVER)
    if seen.server is not None and not seen.server.address:
        raise EntryError(Flaw.NO_ADDRESS)
    try:
        signature = Signature.parse(seen.signature)
    except ValueError as error:
        raise EntryError(Flaw.BAD_SIGNATURE, str(error)) from None
    return Entry(
        pk=pk,
        timestamp=seen.timestamp or 0,
        sequence=seen.sequence or 0,
        client=client,
        client_type=seen.client_type or "",
        server=None if seen.server is None else _server_info(seen.server),
        signature=signature,
        protocol=seen.protocol or "",
        version=seen.version,
        received=members,
    )


def _client_info(seen: ClientMembers) -> ClientInfo:
    if seen.delegated_servers is None:
        return ClientInfo(None)
    return ClientInfo(tuple(map(_read_delegated, seen.delegated_servers)))


def _server_info(seen: ServerMembers) -> ServerInfo:
    return ServerInfo(
        address=seen.address or "",
        address_v6=seen.address_v6 or "",
        address_udp=seen.address_udp or "",
        address_udp_v6=seen.address_udp_v6 or "",
        address_ws=seen.address_ws or "",
        address_wt=seen.address_wt or "",
        cert_hash_wt=seen.cert_hash_wt or "",
        cert_hash_wt_next=seen.cert_hash_wt_next or "",
        available_sessions=seen.available_sessions or 0,
        server_type=seen.server_type or "",
    )


def _numbers(seen: EntryMembers) -> Iterator[tuple[str, int, int, int]]:
    yield "sequence", seen.sequence or 0, 0, MAX_SEQUENCE
    yield "timestamp", seen.timestamp or 0, -MAX_TIMESTAMP, MAX_TIMESTAMP
    if seen.server is not None:
        sessions = seen.server.available_sessions or 0
        yield "server.availableSessions", sessions, -MAX_SESSIONS, MAX_SESSIONS


def _read_key(text: str, name: str) -> PublicKey | None:
    """Read a key; nothing and zeros of any length are the null key, which is nobody's."""
    if not text.strip("0"):
        return None
    try:
        return PublicKey.parse(text)
    except ValueError as error:
        raise EntryError(Flaw.UNREADABLE, f"`{name}`: {error}") from None


def _read_delegated(text: str) -> PublicKey:
    pk = _read_key(text, "client.delegated_servers")
    if pk is None:
        raise EntryError(Flaw.UNREADABLE, "`client.delegated_servers`: a null key")
    return pk
