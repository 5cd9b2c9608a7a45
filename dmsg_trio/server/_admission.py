"""How much of a server strangers may take: handshakes under way, and streams opened in a row.

A handshake costs a server some hundred microseconds of arithmetic before it knows who asks, and so
does every stream that is opened. Neither is queued: what is too much is refused at once, by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from dmsg_trio._net.tcp import ip_of

MAX_HANDSHAKES: Final = 1024  # under way at once, of all sources
MAX_HANDSHAKES_PER_SOURCE: Final = 64  # of one IPv4 address, or one /64 of IPv6
OPENS_AT_ONCE: Final = 2048  # streams that a session may open in a row: all that it may have
OPENS_PER_SECOND: Final = 1000  # that it may open for long,
LINK_OPENS_PER_SECOND: Final = 2000  # and a link, which brings those of many clients


class TooManyHandshakesError(Exception):
    """No more handshakes are begun now, of this source or of any."""


class Handshakes:
    """The handshakes that are under way."""

    def __init__(self) -> None:
        self._by_source: Counter[bytes] = Counter()

    @contextmanager
    def one(self, peer: str) -> Iterator[None]:
        """Count one with ``peer`` (``host:port``) for the block, or raise `TooManyHandshakesError`."""
        source = source_of(peer)
        if self._by_source.total() >= MAX_HANDSHAKES:
            raise TooManyHandshakesError(f"{MAX_HANDSHAKES} handshakes are under way")
        if self._by_source[source] >= MAX_HANDSHAKES_PER_SOURCE:
            raise TooManyHandshakesError(
                f"{MAX_HANDSHAKES_PER_SOURCE} handshakes with the source of {peer} are under way"
            )
        self._by_source[source] += 1
        try:
            yield
        finally:
            self._by_source[source] -= 1
            if not self._by_source[source]:
                del self._by_source[source]


class OpenRate:
    """How fast one session opens streams; a burst is fine, a flood is not."""

    __slots__ = ("_allowed", "_since")

    def __init__(self) -> None:
        self._allowed: float = OPENS_AT_ONCE
        self._since = trio.current_time()

    def take(self, *, is_link: bool = False) -> bool:
        """Count one stream; False if it is one too many."""
        now = trio.current_time()
        rate = LINK_OPENS_PER_SECOND if is_link else OPENS_PER_SECOND
        refilled = self._allowed + (now - self._since) * rate
        self._allowed, self._since = min(refilled, OPENS_AT_ONCE), now
        if self._allowed < 1:
            return False
        self._allowed -= 1
        return True


def source_of(peer: str) -> bytes:
    """Who is behind an address: IPv6 gives everybody a /64, so that counts as one."""
    ip = ip_of(peer)
    return ip[:8] if len(ip) == 16 else ip or peer.encode()
