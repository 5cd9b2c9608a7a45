"""Connections forwarded between this machine and a host's, either way, as ssh's -L and -R."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from dmsg_trio._errors import DmsgError, RemoteProtocolError
from dmsg_trio._net.borders import serve_each
from dmsg_trio._net.carrying import carry_both_ways, reset_when_closed
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire import forward as wire
from dmsg_trio._wire.forward import FORWARD_URI
from dmsg_trio.apps.pty._forward_messages import ForwardError, receive_untrusted, say
from dmsg_trio.apps.pty._routes import Route

logger = logging.getLogger("dmsg_trio.pty")

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
                    await carry_both_ways(near, far)
            except DmsgError as error:
                reset_when_closed(near)
                report(f"not forwarded to {host}:{port}: {error}")
            except trio.BrokenResourceError as error:
                report(f"a connection to {host}:{port} broke: {error}")

    await serve_each(serve, listeners, logger)


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
                    await carry_both_ways(near, far)
        except (DmsgError, OSError) as error:
            report(f"not forwarded from {host}:{port}, {arrived.peer}: {error}")
        except trio.BrokenResourceError as error:
            report(f"a connection from {host}:{port}, {arrived.peer} broke: {error}")

    async with await route.open(FORWARD_URI) as stream, open_service_nursery() as nursery:
        await say(stream, wire.Listen(host, port))
        opened = await _answered_untrusted(stream, f"{host}:{port}")
        task_status.started(opened.port)
        while True:
            try:
                answer = wire.decode_answer_untrusted(await receive_untrusted(stream))
            except trio.BrokenResourceError as error:
                raise ForwardError(f"{host}:{port} is not forwarded any more: {error}") from error
            if isinstance(answer, wire.Arrived):
                nursery.start_soon(take, answer)


async def _asked(route: Route, request: wire.Request) -> trio.abc.HalfCloseableStream:
    """Open a stream on which the host has said yes."""
    stream = await route.open(FORWARD_URI)
    try:
        await say(stream, request)
        await _answered_untrusted(stream, "the connection")
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _answered_untrusted(stream: trio.abc.ReceiveStream, what: str) -> wire.Opened:
    try:
        answer = wire.decode_answer_untrusted(await receive_untrusted(stream))
    except trio.BrokenResourceError as error:
        raise ForwardError(f"{what}: the host gave no answer: {error}") from error
    match answer:
        case wire.Opened():
            return answer
        case wire.Failed(reason):
            raise ForwardError(reason)
    raise RemoteProtocolError("a connection arrived before the host listens")
