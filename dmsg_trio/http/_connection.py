"""A connection of the pool: a stream to a key, and the requests that it carries one after the other."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from enum import Enum, auto
from functools import partial
from typing import Final, Self, cast

import httpcore
import trio

from ._backend import DmsgBackend, NetworkStream
from ._bodies import Piece
from ._exchange import Exchange
from ._steps import Tell, limit_of, tell_of, traced

REPEATABLE: Final = "dmsg.repeatable"  # extension of a request: to send it twice does no harm

BODY: Final = "http11.receive_response_body"  # as a step

_BROKEN: Final = (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError)


class State(Enum):
    """What a connection is there for."""

    NEW = auto()
    ACTIVE = auto()
    IDLE = auto()
    CLOSED = auto()


class Connection(httpcore.AsyncConnectionInterface):
    """A stream to a key, opened for the first request."""

    def __init__(self, backend: DmsgBackend, origin: httpcore.Origin, *, kept_for: float) -> None:
        self._backend = backend
        self._origin = origin
        self._kept_for = kept_for
        self._state = State.NEW
        self._stream: NetworkStream | None = None
        self._expires_at = math.inf
        self._requests = 0

    # ---- requests ----

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request; `httpcore.ConnectionNotAvailable` has the pool try another connection."""
        if self._state not in (State.NEW, State.IDLE):
            raise httpcore.ConnectionNotAvailable
        self._state = State.ACTIVE
        self._requests += 1
        exchange: Exchange | None = None
        try:
            stream = self._stream or await self._open(request)
            exchange = Exchange(stream, request)
            head = await exchange.ask()
        except _BROKEN as error:
            await self._drop()
            if self._requests == 1 or exchange is None or exchange.is_answered:
                raise
            # Without the end of its head nobody has a request, and its body was not touched.
            if request.extensions.get(REPEATABLE) or not exchange.is_asked:
                raise httpcore.ConnectionNotAvailable from error
            raise type(error)(f"{error}; {_what_is_unknown(request)}") from error
        except BaseException:
            await self._drop()
            raise
        return httpcore.Response(
            head.status_code,
            headers=head.headers.raw_items(),
            # Views where an answer is long; the transport knows for whom they are to be copied.
            content=cast("AsyncIterator[bytes]", _Answer(self, exchange, tell_of(request))),
            extensions={
                "http_version": b"HTTP/" + head.http_version,
                "reason_phrase": head.reason,
                "network_stream": stream,
            },
        )

    async def _open(self, request: httpcore.Request) -> NetworkStream:
        connect = partial(
            self._backend.connect_tcp,
            self._origin.host.decode(),
            self._origin.port,
            limit_of(request, "connect"),
        )
        self._stream = await traced(tell_of(request), "connection.connect_tcp", connect)
        return self._stream

    async def finish(self, exchange: Exchange) -> None:
        """Be free for the next request, or close."""
        if exchange.leaves_stream_free and self._state is State.ACTIVE:
            self._state = State.IDLE
            self._expires_at = trio.current_time() + self._kept_for
        else:
            await self.aclose()

    async def aclose(self) -> None:
        """End the stream."""
        self._state = State.CLOSED
        if self._stream is not None:
            await self._stream.aclose()

    async def _drop(self) -> None:
        with trio.CancelScope(shield=True):  # what is raised now is to stay what it is
            await self.aclose()

    # ---- what the pool asks ----

    def can_handle_request(self, origin: httpcore.Origin) -> bool:
        """Whether this leads to the same key and port."""
        return origin == self._origin

    def is_available(self) -> bool:
        """Whether a request can be sent now."""
        return self._state is State.IDLE

    def has_expired(self) -> bool:
        """Whether it was idle for too long, or the server has ended it or said what nobody asked."""
        if self._state is not State.IDLE or self._stream is None:
            return False
        return self._stream.is_ready or trio.current_time() > self._expires_at

    def is_idle(self) -> bool:
        """Whether it waits for a request."""
        return self._state is State.IDLE

    def is_closed(self) -> bool:
        """Whether it is of no use any more."""
        return self._state is State.CLOSED

    def info(self) -> str:
        """Tell the state in words."""
        return f"{self._origin}, {self._state.name}, {self._requests} requests"

    def __repr__(self) -> str:
        return f"<Connection {self.info()}>"


class _Answer(AsyncIterator[Piece]):
    """The body of an answer, as it comes; its connection is free when this is closed."""

    def __init__(self, connection: Connection, exchange: Exchange, tell: Tell) -> None:
        self._connection = connection
        self._exchange = exchange
        self._tell = tell
        self._has_begun = False
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        if not self._has_begun:
            self._has_begun = True
            await self._tell(f"{BODY}.started", {})
        try:
            piece = await self._exchange.next_piece()
        except BaseException as error:
            await self._tell(f"{BODY}.failed", {"exception": error})
            raise
        if piece:
            return piece
        await self._tell(f"{BODY}.complete", {"return_value": None})
        raise StopAsyncIteration

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            finish = partial(self._connection.finish, self._exchange)
            await traced(self._tell, "http11.response_closed", finish)


def _what_is_unknown(request: httpcore.Request) -> str:
    method = request.method.decode("ascii")
    return (
        "the server ended a kept connection as a request was on its way, so it may or may not have"
        f" done it; a {method} with this body is not sent again by itself"
    )
