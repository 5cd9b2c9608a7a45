"""Where a server of SOCKS5 connects to for others, and where it does not.

Addresses that not everybody can reach are no targets: of the machine itself, of the networks it is
in, of the services that clouds give to their machines. What counts is the address that is connected
to, after the look-up of a name, so that no name in the DNS can lead there.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)
from typing import Final, TypeAlias

from dmsg_trio._errors import DmsgError
from dmsg_trio._wire.socks5 import Endpoint, ReplyCode

IpAddress: TypeAlias = IPv4Address | IPv6Address

# IANA's registries of special addresses, and not Python's: what that knows depends on its version.
_NOT_PUBLIC_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's service for its machines; those of others are in the above
    )
)
_UNICAST: Final = IPv6Network("2000::/3")  # all of IPv6 that is given out, but for these:
_NOT_PUBLIC_V6: Final = tuple(
    map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
)
_NAT64: Final = IPv6Network("64:ff9b::/96")  # an IPv4 address in the last 32 bits


class TargetError(DmsgError):
    """A target is not connected to; ``code`` says why to the program, the text to people."""

    def __init__(self, code: ReplyCode, reason: str) -> None:
        self.code = code
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Exemption:
    """A target that is allowed though it is private: a name, an address or a network; maybe a port."""

    where: IPv4Network | IPv6Network | str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Exemption:
        """Read ``nas.lan``, ``192.168.1.7:80``, ``10.0.0.0/8`` or ``[fd00::1]:443``."""
        host, port = text.strip(), ""
        if host.startswith("["):
            host, bracket, port = host[1:].partition("]")
            if not bracket or (port and not port.startswith(":")):
                raise ValueError(f"{text!r} is not [address]:port")
        elif host.count(":") == 1:
            host, colon, port = host.partition(":")
            port = colon + port
        if port and not (port[1:].isascii() and port[1:].isdigit() and 0 < int(port[1:7]) < 65536):
            raise ValueError(f"{text!r}: a port is a number from 1 to 65535")
        return cls(_place(host, text), int(port[1:]) if port else None)

    def matches(self, name: str, address: IpAddress, port: int) -> bool:
        """Tell whether this is about a target, called by a name or by none."""
        if self.port not in (None, port):
            return False
        if isinstance(self.where, str):
            return self.where == plain_name(name)
        return address in self.where


@dataclass(frozen=True, slots=True)
class TargetRules:
    """What may be connected to: everything public, and what is named here."""

    private: bool = False  # whether everything else is allowed, too
    exempt: tuple[Exemption, ...] = ()

    def allow(self, name: str, address: IpAddress, port: int) -> bool:
        """Tell whether to connect to an address, which somebody called by a name or by none."""
        address = _led_to(address)
        return (
            self.private
            or any(each.matches(name, address, port) for each in self.exempt)
            or (is_public(address) and not _is_own(address))
        )


def is_public(address: IpAddress) -> bool:
    """Tell whether an address is of the internet that everybody sees."""
    address = _led_to(address)
    if isinstance(address, IPv4Address):
        return not any(address in each for each in _NOT_PUBLIC_V4)
    return address in _UNICAST and not any(address in each for each in _NOT_PUBLIC_V6)


def plain_name(name: str) -> str:
    """Spell a name in the one way in which names are compared."""
    return name.lower().rstrip(".")


def is_dmsg_name(name: str) -> bool:
    """Tell whether a name is of this network, and none that the DNS should ever hear of."""
    return plain_name(name).rpartition(".")[2] == "dmsg"


def unmapped(address: IpAddress) -> IpAddress:
    """Take out the IPv4 address that ``::ffff:1.2.3.4`` is."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _led_to(address: IpAddress) -> IpAddress:
    """Take out the IPv4 address that is connected to by way of an IPv6 address."""
    is_nat64 = isinstance(address, IPv6Address) and address in _NAT64
    return IPv4Address(address.packed[-4:]) if is_nat64 else unmapped(address)


def _is_own(address: IpAddress) -> bool:
    """Tell whether this machine has the address: what listens there may count on its firewall."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((str(address), 9))  # sends nothing, and chooses the address to send from
            own: str = sock.getsockname()[0]
    except OSError:
        return False
    return own == str(address)


def _place(host: str, text: str) -> IPv4Network | IPv6Network | str:
    try:
        return ip_network(host)
    except ValueError as error:
        if "/" in host or ":" in host or host[-1:].isdigit() or not host:
            raise ValueError(f"{text!r}: {error}") from None
    Endpoint(host, 0)  # which says what is in no name
    return plain_name(host)
