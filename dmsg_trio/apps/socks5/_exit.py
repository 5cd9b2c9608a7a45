"""What a server of SOCKS5 does for a client: connect where it wants, and carry its bytes."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.carrying import Carried, reset_when_closed
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.socks5 import (
    AddressTypeError,
    Choice,
    Command,
    Endpoint,
    Method,
    Reply,
    ReplyCode,
    Request,
    SocksReader,
    encode,
)
from dmsg_trio.client import DmsgStream

from ._connecting import Connector, bound_endpoint
from ._conversation import (
    NEGOTIATION_TIME,
    cancel_when_idle,
    carry_while_busy,
    receive_message,
)
from ._datagrams import carry_datagrams, open_udp_sockets
from ._targets import TargetError, TargetRules

logger = logging.getLogger("dmsg_trio.socks5")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitOptions:
    """Where a server connects to for others, how much of it, and how long."""

    targets: TargetRules = field(default_factory=TargetRules)
    connect_timeout: float = 20
    idle_timeout: float = math.inf  # seconds without a byte, after which a connection is ended
    max_connections: int = 2048
    max_per_key: int = 512  # a browser with many tabs has a hundred
    max_associations: int = 64  # for UDP, of one key; each has two sockets and a few buffers


@dataclass(slots=True)
class _Life:
    """A connection, for the line that tells of it."""

    carried: Carried
    end: str = "closed"


class Exit:
    """Serves streams of those who may use it."""

    def __init__(self, options: ExitOptions) -> None:
        self._options = options
        self._connector = Connector(options.targets)
        self._associations: Counter[PublicKey] = Counter()

    async def serve(self, stream: DmsgStream) -> None:
        """Be a SOCKS5 server on one stream."""
        reader = SocksReader()
        with trio.move_on_after(NEGOTIATION_TIME) as limit:
            request = await _receive_request(stream, reader)
        if limit.cancelled_caught:
            raise RemoteProtocolError(f"socks: no request within {NEGOTIATION_TIME} s")
        if request is None:
            return
        try:
            match request.command:
                case Command.CONNECT:
                    await self._connect(stream, request.target, reader)
                case Command.UDP_ASSOCIATE:
                    await self._associate(stream, reader)
                case _:
                    await _refuse(stream, ReplyCode.COMMAND_NOT_SUPPORTED)
        except TargetError as error:
            logger.info("%s to %s: refused, %s", stream.remote.pk, request.target, error)
            await _refuse(stream, error.code)

    # ---- TCP ----

    async def _connect(self, stream: DmsgStream, target: Endpoint, reader: SocksReader) -> None:
        far = await self._connector.connect(target, within=self._options.connect_timeout)
        async with far:
            with _told(stream, target) as life:
                try:
                    bound = bound_endpoint(far.socket)
                    await stream.send_all(encode(Reply(ReplyCode.SUCCEEDED, bound)))
                    await self._carry(stream, far, reader.rest(), life)
                except BaseException:
                    reset_when_closed(far)
                    raise

    async def _carry(
        self, near: DmsgStream, far: trio.SocketStream, early: bytes, life: _Life
    ) -> None:
        await far.send_all(early)
        life.carried.to_far += len(early)
        if await carry_while_busy(near, far, life.carried, self._options.idle_timeout):
            life.end = "idle"

    # ---- UDP ----

    async def _associate(self, stream: DmsgStream, reader: SocksReader) -> None:
        pk = stream.remote.pk
        if self._associations[pk] >= self._options.max_associations:
            fault = f"it has {self._options.max_associations} associations for UDP"
            raise TargetError(ReplyCode.GENERAL_FAILURE, fault)
        with counted(self._associations, pk):
            async with open_udp_sockets() as sockets:
                with _told(stream, "UDP") as life:
                    bound = bound_endpoint(sockets[0])
                    await stream.send_all(encode(Reply(ReplyCode.SUCCEEDED, bound)))
                    await self._carry_datagrams(stream, reader, sockets, life)

    async def _carry_datagrams(
        self,
        stream: DmsgStream,
        reader: SocksReader,
        sockets: list[trio.socket.SocketType],
        life: _Life,
    ) -> None:
        with trio.CancelScope() as scope:
            async with open_service_nursery() as nursery:
                idle = self._options.idle_timeout
                nursery.start_soon(cancel_when_idle, life.carried, idle, scope)
                await carry_datagrams(stream, reader, sockets, self._connector, life.carried)
        if scope.cancelled_caught:
            life.end = "idle"
            stream.reset()


async def _receive_request(stream: DmsgStream, reader: SocksReader) -> Request | None:
    """Agree on the method and wait for the request; None if there can be none."""
    greeting = await receive_message(stream, reader, reader.next_greeting_untrusted)
    if Method.NO_AUTH not in greeting.methods:
        await stream.send_all(encode(Choice(Method.NONE_ACCEPTABLE)))
        return None
    await stream.send_all(encode(Choice()))
    try:
        return await receive_message(stream, reader, reader.next_request_untrusted)
    except AddressTypeError:
        await _refuse(stream, ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED)
        return None
    except RemoteProtocolError:
        if reader.rest():
            raise
        return None  # it wanted to know only whether it would be served


async def _refuse(stream: DmsgStream, code: ReplyCode) -> None:
    await stream.send_all(encode(Reply(code)))
    await stream.send_eof()


@contextmanager
def _told(stream: DmsgStream, target: Endpoint | str) -> Iterator[_Life]:
    """Write the one line about a connection, at its end."""
    began, life = trio.current_time(), _Life(Carried())
    try:
        yield life
    except trio.BrokenResourceError:
        life.end = "reset"
        raise
    except BaseException:
        life.end = "cut off"
        raise
    finally:
        logger.info(
            "%s to %s: %s, %d bytes out, %d in, %.1f s",
            stream.remote.pk,
            target,
            life.end,
            life.carried.to_far,
            life.carried.to_near,
            trio.current_time() - began,
        )


@contextmanager
def counted(counter: Counter[PublicKey], pk: PublicKey) -> Iterator[None]:
    """Count the block for a key."""
    counter[pk] += 1
    try:
        yield
    finally:
        counter[pk] -= 1
        if not counter[pk]:
            del counter[pk]
