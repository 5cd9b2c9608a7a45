"""Any ASGI app on a port of a key."""

from __future__ import annotations

from typing import cast

import trio
from hypercorn.typing import ASGIFramework
from starlette.types import ASGIApp

from dmsg_trio._asgi import serve_app
from dmsg_trio._asgi.lifespan import open_lifespan
from dmsg_trio.client import Client, DmsgStream

from ._allow import Allow, AllowList
from ._hosts import DottedHost, needs_dots

AsgiApp = ASGIApp | ASGIFramework  # Starlette and hypercorn name the types of the same messages


async def serve_asgi(
    app: AsgiApp,
    client: Client,
    port: int,
    *,
    allow: Allow | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer HTTP/1.1 and WebSockets on ``port`` of ``client`` with ``app``; run until cancelled.

    ``scope["client"]`` is the asking key in hex, which is proven, and its port. ``allow`` has the
    keys that may ask, or says of each `PublicKey` whether it may; all others get 403 and the app never
    sees them. The app's lifespan begins before the first request and ends after the last one. When this
    is cancelled, no new requests are taken, and answers under way get 5 seconds. With
    ``await nursery.start(serve_asgi, …)`` it goes on behind, once it serves.

    Raises `LocalProtocolError` if the port is taken, `DmsgError` if the app could not start,
    `ValueError` for a port that there cannot be, and `TypeError` for what is no app or no key.
    """
    if not callable(app):
        raise TypeError(f"an ASGI app is called, and {app!r} cannot be")
    whole = cast(ASGIApp, app)
    served: ASGIApp = DottedHost(whole, client.pk) if needs_dots(whole) else whole
    if allow is not None:
        served = AllowList(served, allow)
    async with client.listen(port) as listener, open_lifespan(whole) as state:
        await serve_app(
            served,
            listener,
            client_address=_client_address,
            server_address=(str(listener.address.pk), listener.address.port),
            patient=True,
            websockets=True,
            state=state,
            task_status=task_status,
        )


def _client_address(stream: DmsgStream) -> tuple[str, int]:
    return str(stream.remote.pk), stream.remote.port
