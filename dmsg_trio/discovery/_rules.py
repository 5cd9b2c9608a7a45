"""The rules of the discovery: what it takes in, how long that lasts, and the words of refusal.

Synchronous, without HTTP and without a store: the HTTP service and `MemoryDiscovery` share them.
The texts are part of the protocol, since clients tell causes apart by them. The order of the
checks is the reference's too: of several faults, the first one is named.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Final

from dmsg_trio._errors import DiscoveryError
from dmsg_trio._keys import PublicKey, Signature
from dmsg_trio._wire.entries import COMMUNITY, OFFICIAL, Entry, EntryError, Flaw

SECOND: Final = 1_000_000_000  # nanoseconds
SERVER_LIFETIME: Final = 120 * SECOND  # twice the time after which servers publish again
CLIENT_LIFETIME: Final = 3600 * SECOND
SHORT_LIFETIME: Final = 180 * SECOND  # what a client of old gets with ?timeout=true
OLDEST_SERVER: Final = 60 * SECOND  # how far a server's timestamp may lie behind our clock
NEWEST_SERVER: Final = 5 * SECOND  # and how far before it
MAX_AVAILABLE_SERVERS: Final = 512  # in one answer

WROTE_NEW: Final = "wrote a new entry"
WROTE_ITERATION: Final = "wrote new entry iteration"
DELETED: Final = "deleted entry"

NOT_FOUND: Final = "entry of public key is not found"
NO_SERVERS: Final = "no delegated dmsg servers available for remote"
UNEXPECTED: Final = "something unexpected happened"
BAD_SIGNATURE: Final = "invalid signature"
BAD_INPUT: Final = "error bad input"
TOO_FULL: Final = "the discovery keeps all the entries it can"

_VALIDATION: Final = "entry validation error: "
OLD_SEQUENCE: Final = _VALIDATION + "sequence field of new entry is not sequence of old entry + 1"
OLD_TIMESTAMP: Final = _VALIDATION + "advertised entry timestamp is not greater than previous"
OUTDATED: Final = _VALIDATION + "advertised entry has outdated timestamp"
LOOPBACK: Final = (
    _VALIDATION + "advertising localhost listening address is not allowed in production mode"
)

_FLAWS: Final = {
    Flaw.UNREADABLE: (500, UNEXPECTED),
    Flaw.NO_VERSION: (422, _VALIDATION + "entry has no version"),
    Flaw.NO_SIGNATURE: (422, _VALIDATION + "entry has no signature"),
    Flaw.NO_KEY: (422, _VALIDATION + "entry Keys is nil"),
    Flaw.NEITHER_CLIENT_NOR_SERVER: (
        422,
        _VALIDATION + "entry has neither client or server field",
    ),
    Flaw.NO_ADDRESS: (422, _VALIDATION + "server address cannot be empty"),
    Flaw.BAD_SIGNATURE: (401, BAD_SIGNATURE),
}


class Refusal(DiscoveryError):
    """A request that the rules turn down; ``text`` is "" where the answer has no body."""

    def __init__(self, status: int, text: str = "") -> None:
        self.status = status
        self.text = text
        super().__init__(f"{text} ({status})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What an operator decides."""

    test_mode: bool = False  # servers may advertise loopback addresses
    load_testing: bool = False  # nobody checks signatures, timestamps and sequences
    auth: str = field(default="", repr=False)  # the passphrase that makes a server official
    official_servers: frozenset[PublicKey] = frozenset()
    monitors: frozenset[PublicKey] = frozenset()  # who may deregister others
    client_lifetime: int = CLIENT_LIFETIME  # nanoseconds; 0 keeps clients for ever


# ---- publishing ----


def read_published(body: bytes, policy: Policy, now: int) -> Entry:
    """Check what somebody posts as far as it can be checked alone, and set a server's type."""
    entry = _read(body)
    if entry.server is not None and not policy.test_mode and _is_loopback(entry):
        raise Refusal(422, LOOPBACK)
    _check_freshness_and_owner(entry, policy, now)
    if entry.server is None:
        return entry.as_signed()
    # Without a passphrase the empty type matches it, so a first post makes a server official and
    # the next one, which repeats that, community. The reference does so, and readers do not care.
    official = entry.server.server_type == policy.auth or entry.pk in policy.official_servers
    return entry.as_signed().with_server_type(OFFICIAL if official else COMMUNITY)


def check_iteration(old: Entry | None, new: Entry, policy: Policy) -> str:
    """Check that an entry is newer than the one it replaces; answer with the words for it."""
    if old is None:
        return WROTE_NEW
    if not policy.load_testing:
        if new.sequence <= old.sequence:
            raise Refusal(422, OLD_SEQUENCE)
        if new.timestamp < old.timestamp:
            raise Refusal(422, OLD_TIMESTAMP)
    return WROTE_ITERATION


def expires_at(entry: Entry, policy: Policy, now: int, *, short: bool = False) -> int | None:
    """When an entry that was published now is forgotten."""
    if entry.server is not None:
        return now + SERVER_LIFETIME
    lifetime = SHORT_LIFETIME if short else policy.client_lifetime
    return now + lifetime if lifetime else None


# ---- withdrawing ----


def read_withdrawn(body: bytes, policy: Policy, now: int) -> Entry:
    """Check the entry by which somebody withdraws: it has to be signed, as for publishing."""
    entry = _read(body)
    _check_freshness_and_owner(entry, policy, now)
    return entry


def check_withdrawal(old: Entry | None, withdrawn: Entry, policy: Policy) -> None:
    """Check that an entry withdrawn is not older than the one that stands.

    Who fetches the entry that stands can withdraw it, since clients of old withdraw by sending
    just that. What this stops is the use of an entry that was kept from earlier.
    """
    if old is None or policy.load_testing:
        return
    if withdrawn.sequence < old.sequence:
        raise Refusal(422, OLD_SEQUENCE)
    if withdrawn.timestamp < old.timestamp:
        raise Refusal(422, OLD_TIMESTAMP)


def check_monitor(pk_text: str, signature_text: str, policy: Policy) -> None:
    """Check that a network monitor is one: it signs its own key, as hex."""
    try:
        pk = PublicKey.parse(pk_text)
    except ValueError:
        raise Refusal(403) from None
    if pk not in policy.monitors:
        raise Refusal(403)
    try:
        signature = Signature.parse(signature_text)
    except ValueError:
        raise Refusal(400) from None
    if not pk.verify(str(pk).encode(), signature):
        raise Refusal(403)


# ---- looking up ----


def read_key(text: str) -> PublicKey:
    """Read the key in a path; zeros of any length are the key that has no entry."""
    if text and not text.strip("0"):
        raise Refusal(404, NOT_FOUND)
    try:
        return PublicKey.parse(text)
    except ValueError:
        raise Refusal(400, BAD_INPUT) from None


def choose_available(servers: list[Entry]) -> list[Entry]:
    """Of all servers, those that still take sessions, most free ones first."""
    free = [entry for entry in servers if _free_sessions(entry) > 0]
    return sorted(free, key=_free_sessions, reverse=True)[:MAX_AVAILABLE_SERVERS]


# ---- the checks ----


def _read(body: bytes) -> Entry:
    try:
        return Entry.parse_untrusted(body)
    except EntryError as error:
        raise Refusal(*_FLAWS[error.flaw]) from error


def _check_freshness_and_owner(entry: Entry, policy: Policy, now: int) -> None:
    if policy.load_testing:
        return
    # Clients publish on change alone, so the age of their entries says nothing.
    if entry.client is None and not -OLDEST_SERVER <= entry.timestamp - now <= NEWEST_SERVER:
        raise Refusal(422, OUTDATED)
    if not entry.is_verified:
        raise Refusal(401, BAD_SIGNATURE)


def _is_loopback(entry: Entry) -> bool:
    if entry.server is None:
        return False
    addresses = (entry.server.address, entry.server.address_v6)
    return any(_names_this_host(address) for address in addresses if address)


def _names_this_host(address: str) -> bool:
    host, colon, _ = address.rpartition(":")
    if not colon:
        return False  # no port, as the reference lets it pass
    if not host:
        return True  # ":8081"
    try:
        ip = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def _free_sessions(entry: Entry) -> int:
    return 0 if entry.server is None else entry.server.available_sessions
