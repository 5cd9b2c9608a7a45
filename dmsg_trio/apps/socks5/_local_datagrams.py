"""UDP at the client: a socket on loopback for one program, whose datagrams go through a stream.

It takes datagrams of the program alone: from the address of its TCP connection, and from one port,
the one that it named or that it sends from first. It is there for as long as that connection is.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._net.carrying import reset_when_closed
from dmsg_trio._wire.socks5 import (
    MAX_DATAGRAM,
    Reply,
    ReplyCode,
    Request,
    SocksReader,
    decode_datagram_untrusted,
    encode,
)
from dmsg_trio.client import DmsgStream

from ._connecting import bound_endpoint
from ._conversation import receive_message
from ._targets import TargetError, is_dmsg_name


@asynccontextmanager
async def open_local_association(
    near: trio.SocketStream, request: Request
) -> AsyncIterator[LocalAssociation]:
    """Open a socket for the program behind ``near``, and tell it where that is."""
    with ExitStack() as stack:
        try:
            host, peer = near.socket.getsockname()[0], near.socket.getpeername()[0]
            family = near.socket.family
            sock = stack.enter_context(trio.socket.socket(family, socket.SOCK_DGRAM))
            await sock.bind((host, 0))
        except OSError as error:  # too few descriptors, or the program is gone
            raise TargetError(ReplyCode.GENERAL_FAILURE, f"no socket for UDP: {error}") from error
        association = LocalAssociation(near, sock, peer, request.target.port)
        await near.send_all(encode(Reply(ReplyCode.SUCCEEDED, bound_endpoint(sock))))
        yield association


class LocalAssociation:
    """The datagrams of one program."""

    def __init__(
        self, near: trio.SocketStream, sock: trio.socket.SocketType, host: str, port: int
    ) -> None:
        self._near = near
        self._sock = sock
        self._host = host
        self._port = port  # 0: not known yet

    async def carry(self, far: DmsgStream, reader: SocksReader) -> None:
        """Carry datagrams both ways until the program's connection or the stream ends."""

        async def until_server_ends() -> None:
            await self._carry_in(far, reader)
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._carry_out, far)
                nursery.start_soon(until_server_ends)
                async for _ in self._near:
                    pass  # nothing more is said there
                nursery.cancel_scope.cancel()
        except* trio.BrokenResourceError:
            for stream in (self._near, far):
                reset_when_closed(stream)

    async def _carry_out(self, far: DmsgStream) -> None:
        while True:
            try:
                data, (host, port, *_) = await self._sock.recvfrom(MAX_DATAGRAM)
            except OSError:  # what the system tells of a datagram that was sent
                continue
            if _may_go(data) and self._is_from_program(host, port):
                await far.send_all(len(data).to_bytes(2) + data)

    def _is_from_program(self, host: str, port: int) -> bool:
        if host != self._host or self._port not in (0, port):
            return False
        self._port = port
        return True

    async def _carry_in(self, far: DmsgStream, reader: SocksReader) -> None:
        while True:
            try:
                frame = await receive_message(far, reader, reader.next_frame_untrusted)
            except RemoteProtocolError:  # frames cannot be wrong, so this is the end
                return
            if self._port:
                await self._send(frame)

    async def _send(self, frame: bytes) -> None:
        try:
            decode_datagram_untrusted(frame)
            await self._sock.sendto(frame, (self._host, self._port))
        except (RemoteProtocolError, OSError):
            return  # it is UDP: what cannot be delivered is lost


def _may_go(data: bytes) -> bool:
    """Tell whether this is a datagram, and not for a name that nobody but us should see."""
    try:
        host = decode_datagram_untrusted(data).remote.host
    except RemoteProtocolError:
        return False
    return not (isinstance(host, str) and is_dmsg_name(host))
