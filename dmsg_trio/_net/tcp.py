"""Connections over TCP, from the ``host:port`` of an entry or of a setting."""

from __future__ import annotations

import ipaddress

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
    return SocketCarrier.from_trio(await trio.open_tcp_stream(host or "127.0.0.1", port))


async def listen_tcp(address: str, *, backlog: int = 1024) -> list[trio.SocketListener]:
    """Listen on ``host:port``, on all addresses that the host has; raises `OSError`."""
    host, port = parse_host_port(address)
    return await trio.open_tcp_listeners(port, host=host or None, backlog=backlog)


def ip_of(peer: str) -> bytes:
    """The address in ``host:port`` as 4 or 16 bytes; empty if there is none."""
    host = peer.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return b""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).packed
