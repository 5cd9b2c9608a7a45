"""With which other servers a server has links, as its owner wants it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from dmsg_trio._keys import PublicKey

MAX_PEER_LINKS: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerOptions:
    """With which servers links are made."""

    configured: Mapping[PublicKey, str] = field(default_factory=dict)  # key: address
    accepted: frozenset[PublicKey] = frozenset()  # if any: only these, and those configured
    max_links: int = MAX_PEER_LINKS
    look_interval: float = 60  # seconds between two looks at the discovery's servers
    from_discovery: bool = True
    on_demand: bool = False  # links with those in it only while somebody needs them
    idle_time: float = 300  # seconds without use after which such a link is let go
