"""Connections forwarded between a client's machine and a host's, either way, as ssh's -L and -R.

The client opens all streams: one for each connection, and for a port of the host's one more on
which the host says who has come.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias, assert_never

import trio

from dmsg_trio._errors import DmsgError, RemoteProtocolError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire import forward as wire
from dmsg_trio._wire.forward import FORWARD_URI

from ._audit import AuditedSession
from ._routes import Route
from ._service import splice

CONNECT_TIME: Final = 20  # seconds to reach where a connection is to go
REQUEST_TIME: Final = 10  # seconds that a client has to say what it wants
TAKE_TIME: Final = 20  # seconds that a connection which arrived waits for the client to take it
MAX_FORWARDED: Final = 512  # connections and ports of one key at once
MAX_WAITING: Final = 64  # connections that arrived for one key and were not taken
FIRST_OPEN_PORT: Final = 1024  # those below are root's

logger = logging.getLogger("dmsg_trio.pty")

Owner: TypeAlias = PublicKey | None  # None: who comes over the local socket


class ForwardError(DmsgError):
    """A forward cannot be made; the message says why."""


# ---- the host's end ----


@dataclass(eq=False, slots=True)
class _Waiting:
    """A connection that arrived, until the client takes it."""

    stream: trio.SocketStream
    taken: trio.Event = field(default_factory=trio.Event)
    done: trio.Event = field(default_factory=trio.Event)


class Forwards:
    """What a host forwards, for all its clients."""

    def __init__(self, *, open_ports_only: bool = False) -> None:
        self._open_ports_only = open_ports_only
        self._waiting: dict[tuple[Owner, str], _Waiting] = {}
        self._counts: dict[Owner, int] = {}

    async def serve(
        self, stream: trio.abc.HalfCloseableStream, owner: Owner, audited: AuditedSession
    ) -> None:
        """Do what the client on ``stream`` wants, until it is done."""
        try:
            with trio.fail_after(REQUEST_TIME):
                request = wire.decode_request_untrusted(await _receive_untrusted(stream))
        except trio.TooSlowError:
            raise RemoteProtocolError(f"no word within {REQUEST_TIME} s") from None
        if self._counts.get(owner, 0) >= MAX_FORWARDED:
            audited.reason = f"{MAX_FORWARDED} are forwarded for this key already"
            await _say(stream, wire.Failed(audited.reason))
            return
        audited.reason = _in_words(request)
        self._counts[owner] = self._counts.get(owner, 0) + 1
        try:
            await self._do(request, stream, owner)
        except ForwardError as error:
            audited.reason += f": {error}"
            await _say(stream, wire.Failed(str(error)))
        finally:
            self._counts[owner] -= 1
            if not self._counts[owner]:
                del self._counts[owner]

    async def _do(
        self, request: wire.Request, stream: trio.abc.HalfCloseableStream, owner: Owner
    ) -> None:
        match request:
            case wire.Connect(host, port):
                async with await _connect(host, port) as far:
                    await _say(stream, wire.Opened())
                    await splice(stream, far, half_close=True)
            case wire.Listen(host, port):
                await self._listen(host, port, stream, owner)
            case wire.Take(connection):
                await self._hand_over((owner, connection), stream)
            case _:
                assert_never(request)

    async def _listen(
        self, host: str, port: int, stream: trio.abc.HalfCloseableStream, owner: Owner
    ) -> None:
        if self._open_ports_only and 0 < port < FIRST_OPEN_PORT:
            raise ForwardError(f"port {port} is for root alone")
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise ForwardError(f"cannot listen on {host}:{port}: {error}") from error
        arrivals, news = trio.open_memory_channel[wire.Arrived](
            math.inf
        )  # at most MAX_WAITING wait
        async with open_service_nursery() as nursery:
            handler = partial(self._offer, owner, arrivals)
            nursery.start_soon(trio.serve_listeners, handler, listeners)
            await _say(stream, wire.Opened(listeners[0].socket.getsockname()[1]))
            nursery.start_soon(_tell, stream, news)
            await _until_end(stream)

    async def _offer(
        self,
        owner: Owner,
        arrivals: trio.MemorySendChannel[wire.Arrived],
        near: trio.SocketStream,
    ) -> None:
        """Have a connection that arrived until it was taken and has ended."""
        async with near:
            waiting = _Waiting(near)
            connection = secrets.token_hex(16)
            key = (owner, connection)
            if sum(who == owner for who, _ in self._waiting) >= MAX_WAITING:
                logger.info("a forwarded connection was dropped: %d wait", MAX_WAITING)
                return
            arrivals.send_nowait(wire.Arrived(connection, _peer(near)))
            self._waiting[key] = waiting
            try:
                with trio.move_on_after(TAKE_TIME):
                    await waiting.taken.wait()
            finally:
                self._waiting.pop(key, None)
            if waiting.taken.is_set():
                # It is up to who took it now, also when nobody listens here any more.
                with trio.CancelScope(shield=True):
                    await waiting.done.wait()

    async def _hand_over(
        self, key: tuple[Owner, str], stream: trio.abc.HalfCloseableStream
    ) -> None:
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            raise ForwardError("that connection is gone, or was taken")
        waiting.taken.set()
        try:
            await _say(stream, wire.Opened())
            await splice(stream, waiting.stream, half_close=True)
        finally:
            waiting.done.set()


def _in_words(request: wire.Request) -> str:
    match request:
        case wire.Connect(host, port):
            return f"connect to {host}:{port}"
        case wire.Listen(host, port):
            return f"listen on {host}:{port}"
        case wire.Take():
            return "take a connection that arrived"


async def _connect(host: str, port: int) -> trio.SocketStream:
    try:
        with trio.fail_after(CONNECT_TIME):
            return await trio.open_tcp_stream(host, port)
    except OSError as error:
        raise ForwardError(f"cannot connect to {host}:{port}: {error}") from error
    except trio.TooSlowError:
        raise ForwardError(f"{host}:{port} did not answer within {CONNECT_TIME} s") from None


def _peer(stream: trio.SocketStream) -> str:
    try:
        host, port = stream.socket.getpeername()[:2]
    except OSError:  # it is gone already
        return ""
    return f"{host}:{port}"


async def _tell(stream: trio.abc.SendStream, news: trio.MemoryReceiveChannel[wire.Arrived]) -> None:
    async for arrived in news:
        await _say(stream, arrived)


# ---- the client's end ----

Report: TypeAlias = Callable[[str], None]


async def forward_here(
    route: Route,
    listeners: list[trio.SocketListener],
    host: str,
    port: int,
    report: Report,
) -> None:
    """Let connections that arrive here go out at the host, until cancelled; faults are reported."""

    async def serve(near: trio.SocketStream) -> None:
        async with near:
            try:
                async with await _asked(route, wire.Connect(host, port)) as far:
                    await splice(near, far, half_close=True)
            except DmsgError as error:
                report(f"not forwarded to {host}:{port}: {error}")
            except trio.BrokenResourceError as error:
                report(f"a connection to {host}:{port} broke: {error}")

    await trio.serve_listeners(serve, listeners)


async def forward_there(
    route: Route,
    host: str,
    port: int,
    connect: Callable[[], Awaitable[trio.SocketStream]],
    report: Report,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Let connections that arrive at the host come out here, until it ends that; tell its port.

    Raises `ForwardError` if the host cannot listen there, and when it stops.
    """

    async def take(arrived: wire.Arrived) -> None:
        try:
            async with await _asked(route, wire.Take(arrived.connection)) as far:
                async with await connect() as near:
                    await splice(near, far, half_close=True)
        except (DmsgError, OSError) as error:
            report(f"not forwarded from {host}:{port}, {arrived.peer}: {error}")
        except trio.BrokenResourceError as error:
            report(f"a connection from {host}:{port}, {arrived.peer} broke: {error}")

    async with await route.open(FORWARD_URI) as stream, open_service_nursery() as nursery:
        await _say(stream, wire.Listen(host, port))
        opened = await _answered_untrusted(stream, f"{host}:{port}")
        task_status.started(opened.port)
        while True:
            try:
                answer = wire.decode_answer_untrusted(await _receive_untrusted(stream))
            except trio.BrokenResourceError as error:
                raise ForwardError(f"{host}:{port} is not forwarded any more: {error}") from error
            if isinstance(answer, wire.Arrived):
                nursery.start_soon(take, answer)


async def _asked(route: Route, request: wire.Request) -> trio.abc.HalfCloseableStream:
    """Open a stream on which the host has said yes."""
    stream = await route.open(FORWARD_URI)
    try:
        await _say(stream, request)
        await _answered_untrusted(stream, "the connection")
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _answered_untrusted(stream: trio.abc.ReceiveStream, what: str) -> wire.Opened:
    try:
        answer = wire.decode_answer_untrusted(await _receive_untrusted(stream))
    except trio.BrokenResourceError as error:
        raise ForwardError(f"{what}: the host gave no answer: {error}") from error
    match answer:
        case wire.Opened():
            return answer
        case wire.Failed(reason):
            raise ForwardError(reason)
    raise RemoteProtocolError("a connection arrived before the host listens")


# ---- both ends ----


async def _say(stream: trio.abc.SendStream, message: wire.Request | wire.Answer) -> None:
    await stream.send_all(wire.encode(message))


async def _receive_untrusted(stream: trio.abc.ReceiveStream) -> bytes:
    """Receive the body of one message, and no byte of what follows."""
    length = wire.body_length_untrusted(await _receive_exactly(stream, 2))
    return await _receive_exactly(stream, length)


async def _receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (piece := await stream.receive_some(size - len(data))):
            raise trio.BrokenResourceError("it ended the stream")
        data += piece
    return data


async def _until_end(stream: trio.abc.ReceiveStream) -> None:
    while await stream.receive_some():
        pass
