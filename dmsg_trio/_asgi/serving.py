"""Serve an ASGI app on anything that gives Trio streams: TCP today, dmsg ports as well.

Hypercorn speaks HTTP; this module owns the connections. Cancelling `serve_app` drains: no new
connection, idle ones end, answers under way get a few seconds.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState
from starlette.types import ASGIApp

logger = logging.getLogger(__name__)

WRITE_TIMEOUT: Final = 30.0  # seconds for a piece of an answer; the reader has stalled by then
REQUEST_TIME: Final = 30.0  # seconds from the last byte sent until a request is there and answered
DRAIN_TIME: Final = 5.0  # seconds that answers under way still get
MAX_CONNECTIONS: Final = 1024  # at once on a listener; who comes then is sent away
MAX_HEAD: Final = 16 * 1024  # bytes of a request's line and headers
ACCEPT_PAUSE: Final = 0.1  # seconds, while the system has no more file descriptors

_OUT_OF_RESOURCES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}

HttpAddress = tuple[str, int]


StreamT = TypeVar("StreamT", bound=trio.abc.Stream)


async def serve_app(
    app: ASGIApp,
    listener: trio.abc.Listener[StreamT],
    *,
    client_address: Callable[[StreamT], HttpAddress],
    request_time: float = REQUEST_TIME,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer HTTP requests on all streams that ``listener`` accepts; drain when cancelled.

    The listener is closed then, before anything else, as `trio.serve_listeners` does.
    ``client_address`` names who is at the far end of a stream, for the app's ``request.client``.
    """
    server = _Server(app, request_time)
    async with trio.open_nursery() as nursery:
        connections: trio.Nursery = await nursery.start(server.hold_connections)
        task_status.started()
        try:
            async with listener:
                while True:
                    stream = await _accept(listener)
                    if len(connections.child_tasks) >= MAX_CONNECTIONS:
                        await trio.aclose_forcefully(stream)
                        continue
                    try:
                        address = client_address(stream)
                    except OSError:
                        await trio.aclose_forcefully(stream)  # gone before we looked
                        continue
                    connections.start_soon(server.serve, stream, address)
        finally:
            await server.drain(connections)


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


class _Server:
    """What the connections of one listener share: the app, and hypercorn's settings."""

    def __init__(self, app: ASGIApp, request_time: float) -> None:
        # Starlette and hypercorn name the types of the same messages differently.
        self._app = ASGIWrapper(app)  # type: ignore[arg-type]
        self._request_time = request_time
        self._config = _hypercorn_config(request_time)
        self._context = WorkerContext(None)
        self._draining = trio.Event()

    async def hold_connections(self, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """Be the nursery of the connections, out of reach for who cancels `serve_app`."""
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.shield = True
            task_status.started(nursery)
            await self._draining.wait()

    async def serve(self, stream: trio.abc.Stream, address: HttpAddress) -> None:
        connection = _Connection(stream, address, self._request_time)
        state = ConnectionState(LifespanState({}))
        # It says it wants TLS on a socket, and takes whatever has these methods.
        await _HttpConnection(self._app, self._config, self._context, state, connection)  # type: ignore[arg-type]

    async def drain(self, connections: trio.Nursery) -> None:
        """Let idle connections end now, and the others within `DRAIN_TIME`."""
        connections.cancel_scope.deadline = trio.current_time() + DRAIN_TIME
        with trio.CancelScope(shield=True):
            await self._context.terminated.set()
        self._draining.set()


class _HttpConnection(TCPServer):
    """Hypercorn's side of a connection: HTTP/1.1 alone, and over when its stream is."""

    _ended = False

    async def _read_data(self) -> None:
        # HTTP/2 would bring a hundred requests at once, and pings that pass for progress.
        self.protocol.protocol._check_protocol = _stay  # type: ignore[union-attr,method-assign]
        await super()._read_data()
        # The timer for idle connections would go on else, and keep this task with it.
        self._ended = True
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        if not (self._ended and isinstance(event, Updated)):  # which would start the timer again
            await super().protocol_send(event)


async def _stay(request: object) -> None:
    """Change to no other protocol, whatever the request offers."""


class _Connection:
    """A stream as hypercorn wants it, with limits on time that hypercorn does not set.

    It has a ``socket`` that knows addresses, and no ``do_handshake``, which would mean TLS.
    """

    def __init__(self, stream: trio.abc.Stream, address: HttpAddress, request_time: float) -> None:
        self._stream = stream
        self._request_time = request_time
        self._deadline = trio.current_time() + request_time
        self._stalled = False
        self.socket = _Addresses(address)

    async def send_all(self, data: bytes) -> None:
        if self._stalled:  # hypercorn goes on to send what is left of an answer
            raise trio.BrokenResourceError("an answer stalled before")
        # Hypercorn shields its sends, so nobody else could end one that stalls.
        with trio.move_on_after(WRITE_TIMEOUT) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            self._stalled = True
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError(f"an answer stalled for {WRITE_TIMEOUT} s")
        self._deadline = trio.current_time() + self._request_time

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        while True:
            deadline = self._deadline
            with trio.CancelScope(deadline=deadline):
                return await self._stream.receive_some(max_bytes)
            if deadline == self._deadline:  # nothing was sent meanwhile
                raise trio.BrokenResourceError(f"no request within {self._request_time} s")

    async def aclose(self) -> None:
        with trio.move_on_after(WRITE_TIMEOUT):
            await self._stream.aclose()


class _Addresses:
    """The part of a socket that hypercorn asks; every address passes for one of IPv4."""

    family: Final = socket.AF_INET

    def __init__(self, peer: HttpAddress) -> None:
        self._peer = peer

    def getpeername(self) -> HttpAddress:
        return self._peer

    def getsockname(self) -> HttpAddress:
        return ("", 0)


def _hypercorn_config(request_time: float) -> Config:
    config = Config()
    config.errorlog = logger
    config.accesslog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEAD
    config.keep_alive_timeout = request_time
    config.read_timeout = None
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
