"""The status of a discovery: since when each entry stands, and names each of its servers.

An answer of ours beside those of the protocol; a discovery of the reference has no such thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import msgspec

from ._rules import SECOND
from ._store import Record

MAX_TOLD: Final = 32_768  # entries, and servers that these name, in one answer: about 3 MB
MAX_SECONDS: Final = 2**35  # since 1970; the year 3058

Seconds = Annotated[int, msgspec.Meta(ge=0, le=MAX_SECONDS)]


class ClientSince(msgspec.Struct, frozen=True):
    """Since when a client has had an entry, and has been at each of its servers."""

    since: Seconds
    servers: dict[str, Seconds]


class DiscoveryStatus(msgspec.Struct, frozen=True):
    """What there is to tell, by keys, with times in seconds since 1970."""

    now: Seconds  # by the discovery's clock, which may not be the reader's
    servers: dict[str, Seconds]
    clients: dict[str, ClientSince]
    left_out: int = 0  # entries that found no room in the answer
    health: Sequence[str] = ()  # where servers tell of themselves, if they are on this machine


def status_of(
    records: Iterable[Record], now: int, *, health: Sequence[str] = ()
) -> DiscoveryStatus:
    """Tell of as many records as one answer holds, the first ones first."""
    servers: dict[str, int] = {}
    clients: dict[str, ClientSince] = {}
    room, left_out = MAX_TOLD, 0
    for record in records:
        entry, since = record.entry, record.since
        room -= 1 + len(since.delegated)
        if room < 0:
            left_out += 1
            continue
        if since.server is not None:
            servers[str(entry.pk)] = _seconds(since.server)
        if since.client is not None:
            named = zip(map(str, entry.delegated_servers), since.delegated, strict=True)
            at = {pk: _seconds(each) for pk, each in named}
            clients[str(entry.pk)] = ClientSince(_seconds(since.client), at)
    return DiscoveryStatus(_seconds(now), servers, clients, left_out, tuple(health))


def _seconds(nanoseconds: int) -> int:
    return max(0, nanoseconds // SECOND)
