"""The discovery: where servers and clients publish who they are, and look each other up.

This is the side of who asks; `dmsg_trio.discovery.serving` runs one.
"""

from dmsg_trio._wire.entries import ClientInfo, Entry, EntryError, ServerInfo

from ._cache import EntryCache
from ._http import HttpDiscovery
from ._interface import Discovery, SequenceError
from ._local import MemoryDiscovery, StaticDiscovery
from ._publish import publish_next
from ._registration import Registration
from ._several import SeveralDiscoveries, open_discovery

__all__ = [
    "ClientInfo",
    "Discovery",
    "Entry",
    "EntryCache",
    "EntryError",
    "HttpDiscovery",
    "MemoryDiscovery",
    "Registration",
    "SequenceError",
    "ServerInfo",
    "SeveralDiscoveries",
    "StaticDiscovery",
    "open_discovery",
    "publish_next",
]
