"""A whole dmsg network in memory, for tests of what is built on dmsg_trio.

    async def test_my_app(autojump_clock):
        async with Network(servers=2) as network, network.client() as a, network.client() as b:
            ...

No sockets, no waiting: with `trio.testing.MockClock` (pytest-trio's ``autojump_clock``) hours pass
in moments. Everything else is real: the servers, the handshakes, the signatures, the discovery's
rules.
"""

from ._memory import MemoryListener, MemoryNet
from ._network import Network
from ._pipe import MemoryStream, memory_connection

__all__ = ["MemoryListener", "MemoryNet", "MemoryStream", "Network", "memory_connection"]
