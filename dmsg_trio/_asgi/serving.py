"""Serve an ASGI app on anything that gives Trio streams, TCP and ports of dmsg alike.

Cancelling `serve_app` drains: no new connection, idle ones end, answers under way get a few seconds.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import LifespanState
from starlette.types import ASGIApp

from dmsg_trio._net.borders import Border
from dmsg_trio._net.nurseries import open_draining_nursery

from .apps import App
from .connection import REQUEST_TIME, Connection, HttpAddress, Service

logger = logging.getLogger(__name__)

DRAIN_TIME: Final = 5.0  # seconds that answers under way still get
MAX_CONNECTIONS: Final = 1024  # at once on a listener; who comes then is sent away
MAX_HEAD: Final = 16 * 1024  # bytes of a request's line and headers
ACCEPT_PAUSE: Final = 0.1  # seconds, while the system has no more file descriptors

_OUT_OF_RESOURCES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}

StreamT = TypeVar("StreamT", bound=trio.abc.Stream)


async def serve_app(
    app: ASGIApp,
    listener: trio.abc.Listener[StreamT],
    *,
    client_address: Callable[[StreamT], HttpAddress],
    server_address: HttpAddress | None = None,
    request_time: float = REQUEST_TIME,
    patient: bool = False,
    websockets: bool = False,
    state: LifespanState | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer HTTP requests on all streams that ``listener`` accepts; drain when cancelled.

    The listener is closed then, before anything else, as `trio.serve_listeners` does.
    ``client_address`` names who is at the far end of a stream, for the app's ``request.client``.
    A request has to be there ``request_time`` seconds after the last byte was sent. It has to be
    answered by then, too, unless the server is ``patient``: then bodies, answers and WebSockets take
    as long as they take. ``state`` is what an app's lifespan has left for its requests.
    """
    service = Service(
        App(app),
        _hypercorn_config(),
        WorkerContext(None),
        LifespanState({}) if state is None else state,
        server_address,
        request_time,
        patient=patient,
        websockets=websockets,
    )
    async with open_draining_nursery() as nursery:
        connections = _Connections(service)
        task_status.started()
        try:
            async with listener:
                while True:
                    stream = await _accept(listener)
                    if connections.is_full:
                        await trio.aclose_forcefully(stream)
                        continue
                    try:
                        address = client_address(stream)
                    except OSError:
                        await trio.aclose_forcefully(stream)  # gone before we looked
                        continue
                    nursery.start_soon(connections.run, connections.add(stream, address))
        finally:
            await connections.drain(nursery)


async def serve_tcp(
    app: ASGIApp,
    listeners: Sequence[trio.SocketListener],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer HTTP requests on TCP; drain when cancelled."""
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            await nursery.start(partial(serve_app, app, listener, client_address=tcp_address))
        task_status.started()


def tcp_address(stream: trio.SocketStream) -> HttpAddress:
    """Who is at the other end of a TCP connection; a mapped IPv4 address is shown as one."""
    host, port = stream.socket.getpeername()[:2]
    return host.removeprefix("::ffff:"), port


class _Connections:
    """All connections of one listener."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._open: set[Connection] = set()

    @property
    def is_full(self) -> bool:
        return len(self._open) >= MAX_CONNECTIONS

    def add(self, stream: trio.abc.Stream, address: HttpAddress) -> Connection:
        connection = Connection(self._service, stream, address)
        self._open.add(connection)
        return connection

    async def run(self, connection: Connection) -> None:
        try:
            with Border(logger, "a connection"):
                await connection.run()
        finally:
            self._open.discard(connection)

    async def drain(self, nursery: trio.Nursery) -> None:
        """Let idle connections end now, and the others, all in ``nursery``, within `DRAIN_TIME`."""
        nursery.cancel_scope.deadline = trio.current_time() + DRAIN_TIME
        with trio.CancelScope(shield=True):
            await self._service.context.terminated.set()
        for connection in self._open:
            nursery.start_soon(connection.drain)


def _hypercorn_config() -> Config:
    config = Config()
    config.errorlog = logger
    config.accesslog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEAD
    return config


async def _accept(listener: trio.abc.Listener[StreamT]) -> StreamT:
    while True:
        try:
            return await listener.accept()
        except OSError as error:
            if error.errno not in _OUT_OF_RESOURCES:
                raise
            logger.warning("cannot accept a connection for now: %s", error)
            await trio.sleep(ACCEPT_PAUSE)
