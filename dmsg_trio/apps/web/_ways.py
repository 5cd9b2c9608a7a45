"""From a host and a port to a connection: over dmsg, directly, or through another proxy.

Which way it is, is decided by the name alone and before anything is looked up. So a name of dmsg
never gets to the system's DNS, nor to another proxy.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Final

import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import DmsgError
from dmsg_trio._net.tcp import cause_of, open_stream_to, reason_of
from dmsg_trio._wire.socks5 import ReplyCode
from dmsg_trio.client import Client

from ._errors import DIAL_TIME, WebError, error_of_dial
from ._names import Names, shown_authority
from ._upstream import Upstream

FarStream = trio.abc.HalfCloseableStream

_LOCAL: Final = {"127.0.0.1", "::1", "0.0.0.0", "::"}  # noqa: S104 - compared, not bound


class Kind(StrEnum):
    """How a target is reached."""

    DMSG = "dmsg"
    DIRECT = "direct"
    PROXY = "proxy"


@dataclass(frozen=True, slots=True)
class Way:
    """A target, and how it is reached."""

    kind: Kind
    host: str
    port: int
    address: Address | None = None

    def __str__(self) -> str:
        return shown_authority(self.host, self.port)


class Ways:
    """Decides on ways, and goes them."""

    def __init__(
        self,
        client: Client,
        names: Names,
        *,
        upstream: Upstream | None = None,
        only_dmsg: bool = False,
        own_ports: Collection[int] = (),
    ) -> None:
        self.names = names
        self.upstream = upstream
        self.only_dmsg = only_dmsg
        self._client = client
        self._own_ports = own_ports

    def way_to(self, host: str, port: int) -> Way:
        """Decide, without waiting; `WebError` if there is no way."""
        address = self.names.address_of(host, port)
        if address is not None:
            return Way(Kind.DMSG, host, port, address)
        if self.only_dmsg:
            raise WebError(
                HTTPStatus.FORBIDDEN,
                "Only names of dmsg lead on from here",
                f"{host} is none, and this proxy runs with --only-dmsg",
                reply=ReplyCode.NOT_ALLOWED,
            )
        return Way(Kind.PROXY if self.upstream else Kind.DIRECT, host, port)

    async def open(self, way: Way, *, for_requests: bool = False) -> FarStream:
        """Connect to the target; `WebError` says why that fails.

        ``for_requests`` of plain HTTP another proxy that speaks it is where they go.
        """
        if way.address is not None:
            return await dial(self._client, way.address)
        try:
            with trio.fail_after(DIAL_TIME):
                if self.upstream and for_requests and self.upstream.takes_requests:
                    return await self.upstream.open()
                if self.upstream:
                    return await self.upstream.connect(way.host, way.port)
                return await self._open_directly(way)
        except trio.TooSlowError:
            through = f" through {self.upstream}" if self.upstream else ""
            raise WebError(
                HTTPStatus.GATEWAY_TIMEOUT,
                "The server did not answer in time",
                f"{way}{through}: no connection within {DIAL_TIME:g} seconds",
                reply=ReplyCode.TTL_EXPIRED,
            ) from None

    async def _open_directly(self, way: Way) -> FarStream:
        try:
            stream = await open_stream_to(way.host, way.port)
        except socket.gaierror as error:
            raise WebError(
                HTTPStatus.BAD_GATEWAY,
                "This name is not known",
                f"{way.host}: {error.strerror}",
                reply=ReplyCode.HOST_UNREACHABLE,
            ) from error
        except OSError as error:
            refused = isinstance(cause_of(error), ConnectionRefusedError)
            raise WebError(
                HTTPStatus.BAD_GATEWAY,
                "The server cannot be reached",
                f"{way}: {reason_of(error)}",
                reply=ReplyCode.REFUSED if refused else ReplyCode.HOST_UNREACHABLE,
            ) from error
        if self._is_own(stream):
            await trio.aclose_forcefully(stream)
            raise WebError(
                HTTPStatus.LOOP_DETECTED, "This leads back to this proxy", str(way),
                reply=ReplyCode.NOT_ALLOWED,
            )  # fmt: skip
        return stream

    def _is_own(self, stream: trio.SocketStream) -> bool:
        host, port = stream.socket.getpeername()[:2]
        own: str = stream.socket.getsockname()[0]
        return port in self._own_ports and (host == own or host in _LOCAL)


async def dial(client: Client, remote: Address) -> FarStream:
    """Open a stream to a key; `WebError` says why that fails."""
    try:
        with trio.fail_after(DIAL_TIME):
            return await client.open_stream(remote.pk, remote.port)
    except (DmsgError, trio.TooSlowError) as error:
        raise error_of_dial(remote, error) from error
