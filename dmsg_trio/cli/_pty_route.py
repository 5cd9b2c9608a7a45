"""How a program of the remote shell gets to a host: as a client of its own, or through the one here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dmsg_trio._address import Address
from dmsg_trio._errors import ConfigError, DmsgError, UnreachableError
from dmsg_trio.apps.pty._local import check_socket
from dmsg_trio.apps.pty._places import PTY_PORT
from dmsg_trio.apps.pty._routes import DirectRoute, LocalRoute, Route

from ._joining import joined, why
from ._parties import parse_address
from ._pty_way import WayOptions


def parse_host(text: str) -> Address:
    """Read ``PK`` or ``PK:port`` of a host."""
    return parse_address(text, default_port=PTY_PORT)


@asynccontextmanager
async def routed(host: str, way: WayOptions) -> AsyncIterator[Route]:
    """Have a way to ``PK[:port]``, or to this machine's host if it is empty, for the block."""
    async with open_route(parse_host(host) if host else None, way) as route:
        try:
            yield route
        except UnreachableError as error:
            raise DmsgError(why(error)) from error


@asynccontextmanager
async def open_route(host: Address | None, way: WayOptions) -> AsyncIterator[Route]:
    """Have a way to ``host`` for the block, or to the host of this machine if it is None."""
    sk = way.secret_key() if host is not None else None
    if host is not None and sk is not None:
        async with joined(sk, way.discovery, way.timeout) as client:
            yield DirectRoute(client, host)
    else:
        yield local_route(host, way)


def local_route(host: Address | None, way: WayOptions) -> LocalRoute:
    """Give the way that the host of this machine is; `ConfigError` if there is none to trust."""
    socket = way.local_socket()
    if not socket.is_there:
        if host is None:
            raise ConfigError(f"no host runs on this machine: {socket} is not there")
        raise ConfigError(
            f"no key to go by, and no host runs on this machine ({socket} is not there):"
            " give a key with --key-file ('dmsg keys new FILE' makes one), or start dmsgpty-host"
        )
    if socket.network == "unix":
        check_socket(Path(socket.address))
    return LocalRoute(socket, host)
