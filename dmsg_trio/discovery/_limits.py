"""How often somebody may ask: token buckets by whatever tells askers apart."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

RATE: Final = 100.0  # requests a second
BURST: Final = 200
MAX_ASKERS: Final = 65536  # remembered; who was quiet for longest is forgotten first
V6_NETWORK: Final = 64  # bits; one subscriber has at least so many addresses


class RateLimiter:
    """A bucket of ``burst`` tokens for each asker, refilled with ``rate`` a second."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        rate: float = RATE,
        burst: int = BURST,
        max_askers: int = MAX_ASKERS,
    ) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._max_askers = max_askers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def ask(self, asker: str) -> int:
        """Take a token; answer 0 if there was one, else the whole seconds until there is."""
        now = self._clock()
        tokens, since = self._buckets.pop(asker, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        allowed = tokens >= 1
        self._buckets[asker] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > self._max_askers:
            self._buckets.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1 - tokens) / self._rate))


def source_of(host: str) -> str:
    """Who is behind an address: itself, or the network if it is of IPv6."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host  # a public key, for those who come over dmsg
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(ip), V6_NETWORK), strict=False))
    return host
