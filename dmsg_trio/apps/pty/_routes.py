"""How to reach a host: as a client of the network, or through the host that runs on this machine.

A route opens streams on which a service was asked for and granted. Hosts of the reference know
fewer services and give no reasons, which shows as a refusal without any.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import DmsgError
from dmsg_trio._net.tcp import reason_of
from dmsg_trio._wire.forward import FORWARD_URI
from dmsg_trio._wire.pty import END_MARKED, PROXY_URI, PTY_URI
from dmsg_trio.client import Client

from ._local import LocalSocket
from ._marked import MarkedStream
from ._requests import PtyRefusedError, request

CONNECT_URI: Final = "dmsgpty/connect"  # ?pk=<hex>&port=<n>, of ours only, over the local socket


class Route(Protocol):
    """A way to one host."""

    async def open(self, uri: str) -> trio.abc.HalfCloseableStream:
        """Open a stream to a service of the host; `PtyRefusedError` if it says no."""
        ...


class DirectRoute:
    """A way as a client of the network, with a key of one's own."""

    def __init__(self, client: Client, host: Address) -> None:
        self._client = client
        self._host = host

    async def open(self, uri: str) -> trio.abc.HalfCloseableStream:
        stream = await self._client.open_stream(self._host.pk, self._host.port)
        async with _closed_unless_granted(stream):
            await request(stream, uri)
        return stream


class LocalRoute:
    """A way through the socket of the host on this machine: to itself, or to another host."""

    def __init__(self, socket: LocalSocket, host: Address | None = None) -> None:
        self._socket = socket
        self._host = host
        self._carries_calls_only = False  # it is a host of the reference

    async def open(self, uri: str) -> trio.abc.HalfCloseableStream:
        # Of all that is said only forwarded bytes do not tell by themselves whether they are whole.
        marked = uri == FORWARD_URI and not self._socket.can_reset
        if self._host is None:
            return await self._open_here(f"{uri}?{END_MARKED}" if marked else uri)
        query = f"?pk={self._host.pk}&port={self._host.port}"
        if not self._carries_calls_only:
            try:
                connect = CONNECT_URI + query
                stream = await self._open_here(f"{connect}&{END_MARKED}" if marked else connect)
            except PtyRefusedError as error:
                if error.reason:
                    raise HostUnreachedError(error.reason) from error
                self._carries_calls_only = True
            else:
                async with _closed_unless_granted(stream):
                    await request(stream, uri)
                return stream
        if uri != PTY_URI:
            raise PtyRefusedError("")
        return await self._open_here(PROXY_URI + query)

    async def _open_here(self, uri: str) -> trio.abc.HalfCloseableStream:
        try:
            stream = await self._socket.connect()
        except OSError as error:
            raise NoLocalHostError(
                f"no host answers at {self._socket}: {reason_of(error)}"
            ) from error
        async with _closed_unless_granted(stream):
            is_marked = await request(stream, uri)
        return MarkedStream(stream) if is_marked else stream


class NoLocalHostError(DmsgError):
    """No host runs on this machine, or not at that socket."""


class HostUnreachedError(DmsgError):
    """The host of this machine does not reach the other one, and says why."""


@asynccontextmanager
async def _closed_unless_granted(stream: trio.abc.Stream) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
