"""A server and a client of SOCKS5 on a network in memory, and programs that use them over loopback."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

from dmsg_trio._keys import PublicKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.socks5 import (
    Command,
    Endpoint,
    Greeting,
    Reply,
    Request,
    SocksReader,
    encode,
)
from dmsg_trio.apps.socks5 import (
    SOCKS_PORT,
    Admission,
    Exemption,
    ExitOptions,
    TargetRules,
    serve_local_socks5,
    serve_socks5,
)
from dmsg_trio.apps.socks5._conversation import receive_message
from dmsg_trio.client import Client, DmsgStream
from dmsg_trio.testing import Network

LOOPBACK = ExitOptions(targets=TargetRules(exempt=(Exemption.parse("127.0.0.0/8"),)))


@dataclass
class Parties:
    """Both clients of the network, and where the local proxy is."""

    network: Network
    exit: Client
    user: Client
    port: int
    exit_scope: trio.CancelScope
    streams: list[trio.SocketStream] = field(default_factory=list)

    async def connect(self) -> trio.SocketStream:
        """Connect to the local proxy as a program does; closed with the block at the latest."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self.streams.append(stream)
        return stream

    async def request(
        self, target: Endpoint, command: int = Command.CONNECT
    ) -> tuple[trio.SocketStream, Reply]:
        """Ask the local proxy for something."""
        stream = await self.connect()
        return stream, await ask(stream, target, command)

    async def raw(self) -> DmsgStream:
        """Open a stream to the server past the local proxy."""
        return await self.user.open_stream(self.exit.pk, SOCKS_PORT)


async def ask(stream: trio.abc.Stream, target: Endpoint, command: int = Command.CONNECT) -> Reply:
    """Say both messages at once, and read both answers."""
    reader = SocksReader()
    await stream.send_all(encode(Greeting()) + encode(Request(command, target)))
    choice = await receive_message(stream, reader, reader.next_choice_untrusted)
    assert choice.method == 0
    return await receive_message(stream, reader, reader.next_reply_untrusted)


@asynccontextmanager
async def parties(
    *,
    options: ExitOptions = LOOPBACK,
    allow: Admission | Callable[[Client], Collection[PublicKey]] | None = None,
) -> AsyncIterator[Parties]:
    """Run everything for the block."""
    async with (
        Network() as network,
        network.client() as out,
        network.client() as user,
        open_service_nursery() as nursery,
    ):
        scope = trio.CancelScope()

        async def serve(*, task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await serve_socks5(
                    out,
                    allow=allow(user) if callable(allow) else allow,
                    options=options,
                    task_status=task_status,
                )

        await nursery.start(serve)
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        await nursery.start(partial(serve_local_socks5, user, out.pk, SOCKS_PORT, listeners))
        found = Parties(network, out, user, port, scope)
        try:
            yield found
        finally:
            for stream in found.streams:
                stream.socket.close()


# ---- what is connected to ----


@dataclass
class Target:
    """A server of TCP on loopback."""

    endpoint: Endpoint
    served: list[trio.SocketStream] = field(default_factory=list)


@asynccontextmanager
async def target(
    handler: Callable[[trio.SocketStream], Awaitable[None]],
) -> AsyncIterator[Target]:
    """Serve connections for the block."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    host, port = listeners[0].socket.getsockname()[:2]
    found = Target(Endpoint.of(host, port))

    async def serve(stream: trio.SocketStream) -> None:
        found.served.append(stream)
        try:
            async with stream:
                await handler(stream)
        except trio.BrokenResourceError:
            pass

    async with open_service_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield found


async def echo(stream: trio.SocketStream) -> None:
    """Send everything back."""
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


async def sort_at_end(stream: trio.SocketStream) -> None:
    """Answer only when the other side has ended its own direction."""
    data = b"".join([bytes(piece) async for piece in stream])
    await stream.send_all(bytes(sorted(data)))


@asynccontextmanager
async def udp_echo() -> AsyncIterator[Endpoint]:
    """Send every datagram back, for the block."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))

        async def serve() -> None:
            while True:
                data, sender = await sock.recvfrom(65535)
                await sock.sendto(data, sender)

        async with open_service_nursery() as nursery:
            nursery.start_soon(serve)
            yield Endpoint.of(*sock.getsockname())


class Names(trio.abc.HostnameResolver):
    """The DNS of a test; it remembers what it was asked."""

    def __init__(self, names: dict[str, list[str]]) -> None:
        self.asked: list[str] = []
        self._names = names

    async def getaddrinfo(  # type: ignore[override]
        self,
        host: bytes | None,
        port: int,
        family: int = 0,
        type: int = 0,  # noqa: A002 - as Trio calls it
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        """Answer with what the test says."""
        await trio.lowlevel.checkpoint()
        name = (host or b"").decode() if isinstance(host, bytes) else str(host)
        self.asked.append(name)
        if name not in self._names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                0,
                "",
                (address, port),
            )
            for address in self._names[name]
        ]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        """Nobody asks this."""
        raise NotImplementedError
