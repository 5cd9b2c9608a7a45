"""Running a discovery: a store, the rules, and HTTP on whatever listens.

Kept apart from `dmsg_trio.discovery`, since who only asks needs no web framework.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio
from starlette.types import ASGIApp

from dmsg_trio._asgi import serve_tcp

from ._api import Health, Limits, Neighbours, make_app
from ._limits import RateLimiter
from ._rules import Policy
from ._service import DiscoveryService
from ._store import Store, open_store

__all__ = [
    "DiscoveryService",
    "Health",
    "Limits",
    "Neighbours",
    "Policy",
    "RateLimiter",
    "Store",
    "make_app",
    "open_store",
    "serve_discovery",
]


async def serve_discovery(
    service: DiscoveryService,
    app: ASGIApp,
    listeners: Sequence[trio.SocketListener],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on TCP and keep the store clean; run until cancelled, then drain.

    To answer on a port of dmsg as well, run `dmsg_trio.http.serve_asgi` with the same ``app`` beside this.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.keep_clean)
        await nursery.start(serve_tcp, app, listeners)
        task_status.started()
