"""Connections over TCP, from the ``host:port`` of an entry or of a setting."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from dmsg_trio._errors import HandshakeError

from .carriers import Carrier, SocketCarrier


def parse_host_port(text: str) -> tuple[str, int]:
    """Read ``host:port``, ``[v6]:port`` or ``:port`` (any host); raise `ValueError` if it is not."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and len(port) < 6):
        raise ValueError(f"{text!r} is not host:port")
    if int(port) > 65535:
        raise ValueError(f"{text!r}: a port is 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets, [::1]:80")
    return host, int(port)


async def connect_tcp(address: str) -> Carrier:
    """Connect to ``host:port``; names are looked up anew each time. Raises `OSError`."""
    try:
        host, port = parse_host_port(address)
    except ValueError as error:
        raise HandshakeError(f"the server's address: {error}") from error
    try:
        stream = await open_stream_to(host or "127.0.0.1", port)
    except OSError as error:
        raise OSError(f"no connection to {address}: {reason_of(error)}") from error
    return SocketCarrier.from_trio(stream)


async def listen_tcp(address: str, *, backlog: int = 1024) -> list[trio.SocketListener]:
    """Listen on ``host:port``, on all addresses that the host has; raises `OSError`."""
    host, port = parse_host_port(address)
    return await open_listeners_at(host or None, port, backlog=backlog)


async def open_stream_to(host: str, port: int) -> trio.SocketStream:
    """Do as `trio.open_tcp_stream`; for what cannot be a name, too, it is an `OSError`."""
    with _checked_name(host):
        return await trio.open_tcp_stream(host, port)


async def open_listeners_at(
    host: str | None, port: int, *, backlog: int | None = None
) -> list[trio.SocketListener]:
    """Do as `trio.open_tcp_listeners`; for what cannot be a name, too, it is an `OSError`."""
    with _checked_name(host):
        return await trio.open_tcp_listeners(port, host=host, backlog=backlog)


@contextmanager
def _checked_name(host: str | None) -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # a label that is empty or too long, a character that is none
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is no name of a host") from error


def ip_of(peer: str) -> bytes:
    """The address in ``host:port`` as 4 or 16 bytes; empty if there is none."""
    host = peer.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return b""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).packed


# ---- why not ----


def cause_of(error: BaseException) -> BaseException:
    """Find what the system said: of several addresses trio tells in a group, and httpx hides that."""
    cause: BaseException | None = error
    while cause is not None and getattr(cause, "errno", None) is None:
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        else:
            cause = cause.__cause__ or cause.__context__
    return cause or error


def reason_of(error: BaseException) -> str:
    """Say what the system said, without the address; what the error says if it was not the system."""
    cause = cause_of(error)
    if isinstance(cause, (socket.gaierror, ssl.SSLError)):  # with numbers of their own
        return cause.strerror or str(cause)
    return os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else str(error)
