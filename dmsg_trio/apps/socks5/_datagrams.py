"""UDP at the server: datagrams that a stream brings go out, and the answers to them come back.

On the stream a datagram is two bytes of length and what RFC 1928 puts into a packet. UDP promises
nothing, and neither does this: what is too much, too large or not allowed is left out silently.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Final, TypeAlias, TypeVar

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._net.carrying import Carried, reset_when_closed
from dmsg_trio._wire.socks5 import (
    MAX_DATAGRAM,
    Datagram,
    Endpoint,
    ReplyCode,
    SocksReader,
    decode_datagram_untrusted,
    encode_frame,
)

from ._connecting import Connector, address_of
from ._conversation import receive_message
from ._targets import IpAddress, TargetError

MAX_REMOTES: Final = 1024  # who may answer: those that were sent to last
MAX_FOUND: Final = 256  # targets whose address is kept, so that not each datagram looks one up
FOUND_FOR: Final = 60.0  # seconds
LOOK_UPS: Final = 8  # at once; datagrams for more names are left out
BACKLOG: Final = 64  # answers that wait for the stream
SOURCES: Final = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))  # noqa: S104 - to send from

K = TypeVar("K")
V = TypeVar("V")
UdpSocket: TypeAlias = trio.socket.SocketType


@asynccontextmanager
async def open_udp_sockets() -> AsyncIterator[list[UdpSocket]]:
    """Open sockets to send from, for IPv4 and, where there is such a thing, IPv6."""
    with ExitStack() as stack:
        sockets: list[UdpSocket] = []
        fault: OSError | None = None
        for family, source in SOURCES:
            try:
                sock = stack.enter_context(trio.socket.socket(family, socket.SOCK_DGRAM))
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                await sock.bind((source, 0))
            except OSError as error:
                fault = error
            else:
                sockets.append(sock)
        if not sockets:
            raise TargetError(ReplyCode.GENERAL_FAILURE, f"no socket for UDP: {fault}")
        yield sockets


async def carry_datagrams(
    stream: trio.abc.Stream,
    reader: SocksReader,
    sockets: Sequence[UdpSocket],
    connector: Connector,
    carried: Carried,
) -> None:
    """Carry datagrams both ways until the stream ends."""
    association = _Association(sockets, connector, carried)
    answers, waiting = trio.open_memory_channel[bytes](BACKLOG)
    try:
        async with answers, waiting, trio.open_nursery() as nursery:
            for sock in sockets:
                nursery.start_soon(association.receive, sock, answers)
            nursery.start_soon(association.send_answers, stream, waiting)
            await association.send(stream, reader, nursery)
            nursery.cancel_scope.cancel()
    except* trio.BrokenResourceError:
        reset_when_closed(stream)


class _Association:
    def __init__(
        self, sockets: Sequence[UdpSocket], connector: Connector, carried: Carried
    ) -> None:
        self._sockets = {sock.family: sock for sock in sockets}
        self._connector = connector
        self._carried = carried
        self._remotes: OrderedDict[tuple[IpAddress, int], None] = OrderedDict()
        self._found: OrderedDict[Endpoint, tuple[float, IpAddress | None]] = OrderedDict()
        self._look_ups = 0

    # ---- out ----

    async def send(
        self, stream: trio.abc.Stream, reader: SocksReader, nursery: trio.Nursery
    ) -> None:
        """Send what the stream brings, until it ends."""
        while True:
            try:
                frame = await receive_message(stream, reader, reader.next_frame_untrusted)
            except RemoteProtocolError:  # frames cannot be wrong, so this is the end
                return
            try:
                datagram = decode_datagram_untrusted(frame)
            except RemoteProtocolError:
                continue
            until, address = self._found.get(datagram.remote, (0.0, None))
            if until > trio.current_time():
                await self._send_to(address, datagram)
            elif not isinstance(datagram.remote.host, str):
                await self._find_and_send(datagram)
            elif self._look_ups < LOOK_UPS:
                self._look_ups += 1
                nursery.start_soon(self._look_up_and_send, datagram)

    async def _look_up_and_send(self, datagram: Datagram) -> None:
        try:
            await self._find_and_send(datagram)
        finally:
            self._look_ups -= 1

    async def _find_and_send(self, datagram: Datagram) -> None:
        """Find out where a datagram goes to; that it may go nowhere is kept as well."""
        address: IpAddress | None = None
        try:
            found = await self._connector.addresses_of(datagram.remote, socket.SOCK_DGRAM)
            address = next((each for each in found if _family(each) in self._sockets), None)
        except TargetError:
            pass
        until = trio.current_time() + FOUND_FOR
        _remember(self._found, datagram.remote, (until, address), MAX_FOUND)
        await self._send_to(address, datagram)

    async def _send_to(self, address: IpAddress | None, datagram: Datagram) -> None:
        if address is None or not datagram.remote.port:
            return
        sock = self._sockets[_family(address)]
        _remember(self._remotes, (address, datagram.remote.port), None, MAX_REMOTES)
        try:
            await sock.sendto(datagram.data, (str(address), datagram.remote.port))
        except OSError:
            return  # too large, or no way there
        self._carried.to_far += len(datagram.data)

    # ---- in ----

    async def receive(self, sock: UdpSocket, answers: trio.MemorySendChannel[bytes]) -> None:
        """Take in answers of those that were sent to."""
        while True:
            try:
                data, (host, port, *_) = await sock.recvfrom(MAX_DATAGRAM)
            except OSError:  # what the system tells of a datagram that was sent
                continue
            address = address_of(host)
            if (address, port) not in self._remotes:
                continue
            try:
                answers.send_nowait(encode_frame(Datagram(Endpoint(address, port), data)))
            except (ValueError, trio.WouldBlock):
                continue
            self._carried.to_near += len(data)

    async def send_answers(
        self, stream: trio.abc.Stream, waiting: trio.MemoryReceiveChannel[bytes]
    ) -> None:
        """Pass on what waits, one after the other."""
        async for frame in waiting:
            await stream.send_all(frame)


def _family(address: IpAddress) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _remember(table: OrderedDict[K, V], key: K, value: V, limit: int) -> None:
    """Put something into a table, and forget what has not been used for the longest time."""
    table[key] = value
    table.move_to_end(key)
    if len(table) > limit:
        table.popitem(last=False)
