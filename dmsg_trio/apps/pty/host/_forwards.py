"""Connections forwarded for the clients of a host, as sshd does it for ssh's -L and -R.

The client opens all streams: one for each connection, and for a port of the host's one more on
which the host says who has come.
"""

from __future__ import annotations

import logging
import math
import secrets
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias, assert_never

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.borders import serve_each
from dmsg_trio._net.carrying import Carried, carry_both_ways
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.tcp import open_listeners_at, open_stream_to
from dmsg_trio._wire import forward as wire
from dmsg_trio.apps.pty._forward_messages import ForwardError, receive_untrusted, say

from ._audit import AuditedSession

CONNECT_TIME: Final = 20  # seconds to reach where a connection is to go
REQUEST_TIME: Final = 10  # seconds that a client has to say what it wants
TAKE_TIME: Final = 20  # seconds that a connection which arrived waits for the client to take it
MAX_FORWARDED: Final = 512  # connections and ports of one key at once
MAX_WAITING: Final = 64  # connections that arrived for one key and were not taken
FIRST_OPEN_PORT: Final = 1024  # those below are root's

logger = logging.getLogger("dmsg_trio.pty")

Owner: TypeAlias = PublicKey | None  # None: who comes over the local socket


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
                request = wire.decode_request_untrusted(await receive_untrusted(stream))
        except trio.TooSlowError:
            raise RemoteProtocolError(f"no word within {REQUEST_TIME} s") from None
        if self._counts.get(owner, 0) >= MAX_FORWARDED:
            audited.reason = f"{MAX_FORWARDED} are forwarded for this key already"
            await say(stream, wire.Failed(audited.reason))
            return
        audited.reason = _in_words(request)
        self._counts[owner] = self._counts.get(owner, 0) + 1
        carried = Carried()
        try:
            await self._do(request, stream, owner, carried)
        except ForwardError as error:
            audited.reason += f": {error}"
            await say(stream, wire.Failed(str(error)))
        finally:
            audited.bytes_in, audited.bytes_out = carried.to_far, carried.to_near
            self._counts[owner] -= 1
            if not self._counts[owner]:
                del self._counts[owner]

    async def _do(
        self,
        request: wire.Request,
        stream: trio.abc.HalfCloseableStream,
        owner: Owner,
        carried: Carried,
    ) -> None:
        match request:
            case wire.Connect(host, port):
                async with await _connect(host, port) as far:
                    await say(stream, wire.Opened())
                    await carry_both_ways(stream, far, carried=carried)
            case wire.Listen(host, port):
                await self._listen(host, port, stream, owner)
            case wire.Take(connection):
                await self._hand_over((owner, connection), stream, carried)
            case _:
                assert_never(request)

    async def _listen(
        self, host: str, port: int, stream: trio.abc.HalfCloseableStream, owner: Owner
    ) -> None:
        if self._open_ports_only and 0 < port < FIRST_OPEN_PORT:
            raise ForwardError(f"port {port} is for root alone")
        try:
            listeners = await open_listeners_at(host, port)
        except OSError as error:
            raise ForwardError(f"cannot listen on {host}:{port}: {error}") from error
        arrivals, news = trio.open_memory_channel[wire.Arrived](
            math.inf
        )  # at most MAX_WAITING wait
        async with open_service_nursery() as nursery:
            handler = partial(self._offer, owner, arrivals)
            nursery.start_soon(serve_each, handler, listeners, logger)
            await say(stream, wire.Opened(listeners[0].socket.getsockname()[1]))
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
        self, key: tuple[Owner, str], stream: trio.abc.HalfCloseableStream, carried: Carried
    ) -> None:
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            raise ForwardError("that connection is gone, or was taken")
        waiting.taken.set()
        try:
            await say(stream, wire.Opened())
            await carry_both_ways(stream, waiting.stream, carried=carried)
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
            return await open_stream_to(host, port)
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
        await say(stream, arrived)


async def _until_end(stream: trio.abc.ReceiveStream) -> None:
    while await stream.receive_some():
        pass
