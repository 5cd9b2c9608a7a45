"""From the target of a request to a connection: look up, check each address, and try them in turn."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import Final

import trio

from dmsg_trio._net.tcp import reason_of
from dmsg_trio._wire.socks5 import Endpoint, ReplyCode

from ._targets import IpAddress, TargetError, TargetRules, is_dmsg_name, unmapped

NEXT_AFTER: Final = 0.25  # seconds that an address has for itself before the next is tried as well
MAX_ADDRESSES: Final = 16  # of one name that are tried
LOOK_UPS: Final = 32  # at once; each takes a thread

_CODES: Final = {
    # what the reference's server answers; everything else is HOST_UNREACHABLE with it, too
    errno.ECONNREFUSED: ReplyCode.REFUSED,
    errno.ENETUNREACH: ReplyCode.NETWORK_UNREACHABLE,
}


class Connector:
    """Connects to what the rules allow."""

    def __init__(self, rules: TargetRules) -> None:
        self._rules = rules
        self._look_ups = trio.CapacityLimiter(LOOK_UPS)

    async def connect(self, target: Endpoint, *, within: float) -> trio.SocketStream:
        """Connect over TCP; `TargetError` if that is not allowed or does not work."""
        with trio.move_on_after(within):
            addresses = await self.addresses_of(target, socket.SOCK_STREAM)
            return trio.SocketStream(await _first_of(addresses, target.port))
        raise TargetError(ReplyCode.HOST_UNREACHABLE, f"no connection within {within:g} s")

    async def addresses_of(self, target: Endpoint, kind: socket.SocketKind) -> list[IpAddress]:
        """Find the addresses of a target that may be used, at least one; else `TargetError`."""
        name = target.host if isinstance(target.host, str) else ""
        if isinstance(target.host, str):
            found = await self._look_up(target.host, target.port, kind)
        else:
            found = [unmapped(target.host)]
        allowed = [each for each in found if self._rules.allow(name, each, target.port)]
        if not allowed:
            which = ", ".join(map(str, found[:3]))
            raise TargetError(ReplyCode.NOT_ALLOWED, f"{which} is not a public address")
        return allowed[:MAX_ADDRESSES]

    async def _look_up(self, name: str, port: int, kind: socket.SocketKind) -> list[IpAddress]:
        if is_dmsg_name(name):
            raise TargetError(ReplyCode.HOST_UNREACHABLE, "a name of dmsg has no address")
        try:
            async with self._look_ups:
                found = await trio.socket.getaddrinfo(name, port, type=kind)
        except (OSError, UnicodeError) as error:
            raise TargetError(ReplyCode.HOST_UNREACHABLE, f"look-up: {reason_of(error)}") from error
        # A scope, as in fe80::1%eth0, names a network of this machine.
        return [address_of(str(sockaddr[0])) for *_, sockaddr in found]


async def _first_of(addresses: Sequence[IpAddress], port: int) -> trio.socket.SocketType:
    """Connect to whichever address answers first, as `trio.open_tcp_stream` does (RFC 8305)."""
    winners: list[trio.socket.SocketType] = []
    faults: list[OSError] = []

    async def attempt(address: IpAddress, failed: trio.Event) -> None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            sock = trio.socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # no IPv6 here, or no descriptors
            faults.append(error)
            failed.set()
            return
        try:
            await sock.connect((str(address), port))
        except OSError as error:
            faults.append(error)
            failed.set()
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            winners.append(sock)
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for address in _families_in_turn(addresses):
                failed = trio.Event()
                nursery.start_soon(attempt, address, failed)
                with trio.move_on_after(NEXT_AFTER):
                    await failed.wait()
    except BaseException:
        for sock in winners:
            sock.close()
        raise
    for sock in winners[1:]:  # two can win in the same moment
        sock.close()
    if not winners:
        raise _as_target_error(faults)
    winners[0].setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return winners[0]


def _families_in_turn(addresses: Sequence[IpAddress]) -> list[IpAddress]:
    """Put IPv4 and IPv6 in turn, beginning as the list does: either may be dead here."""
    first = type(addresses[0])
    same = [each for each in addresses if isinstance(each, first)]
    other = [each for each in addresses if not isinstance(each, first)]
    return [each for each in chain(*zip_longest(same, other)) if each is not None]


def _as_target_error(faults: Sequence[OSError]) -> TargetError:
    """Say what says most about why none of several addresses could be connected to."""
    known = {error.errno: error for error in reversed(faults)}
    for number, code in _CODES.items():
        if number in known and (code is ReplyCode.REFUSED or len(known) == 1):
            return TargetError(code, reason_of(known[number]))
    return TargetError(ReplyCode.HOST_UNREACHABLE, reason_of(faults[0]))


def bound_endpoint(sock: trio.socket.SocketType) -> Endpoint:
    """Say which address of ours a socket has."""
    host, port = sock.getsockname()[:2]
    return Endpoint(address_of(host), port)


def address_of(host: str) -> IpAddress:
    """Read an address as sockets spell it; one of IPv4 that is spelled as IPv6 is IPv4."""
    return unmapped(ip_address(host.partition("%")[0]))
