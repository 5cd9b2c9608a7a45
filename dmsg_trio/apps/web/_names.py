"""Which hosts are on dmsg: ``<PK>.dmsg``, aliases as ``home.dmsg``, and what they stand for.

A label of DNS has 63 characters and a key has 66. Browsers and curl do not mind, as a name for a
proxy is never looked up; for programs that do, dots may stand within the key: ``<33>.<33>.dmsg``.
A key alone is a name as well, since servers that learn their own name from us redirect to it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from dmsg_trio._address import Address
from dmsg_trio._keys import PublicKey
from dmsg_trio._wire.socks5 import ReplyCode

from ._aliases import Aliases
from ._errors import WebError

SUFFIX: Final = ".dmsg"
HTTP_PORT: Final = 80
MAX_HOST: Final = 255
ALMOST_A_KEY: Final = 50  # characters of a name that was meant to be one

_DEFAULT_PORTS: Final = {80, 443}  # that nobody chose: a name that has a port of its own means it
_KEY: Final = re.compile(r"0[23][0-9a-f]{64}")
_HOST: Final = re.compile(
    r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\]|[0-9a-f:.]*:[0-9a-f:.]*"
)


@dataclass(frozen=True, slots=True)
class Names:
    """What names of hosts mean here."""

    suffix: str = SUFFIX
    aliases: Aliases = field(default_factory=Aliases)

    def address_of(self, host: str, port: int) -> Address | None:
        """Give the address that a host and a port mean, None if they are not on dmsg.

        `WebError` if they would be on dmsg, and nobody has that name: it is never looked up elsewhere.
        """
        if not host.endswith((self.suffix, SUFFIX)) and not _KEY.fullmatch(host):
            return None
        name = host.removesuffix(self.suffix if host.endswith(self.suffix) else SUFFIX)
        if not port:
            raise self._unknown(host, "there is no port 0")
        alias = self.aliases.table.get(name)
        if alias is not None:
            return Address(alias.pk, port if port not in _DEFAULT_PORTS else alias.port or port)
        key = name.replace(".", "")
        try:
            return Address(PublicKey.parse(key), port)
        except ValueError as error:
            if self.aliases.path and len(key) < ALMOST_A_KEY:
                raise self._unknown(host, f"{self.aliases.path} has no such name") from None
            raise self._unknown(host, str(error)) from None

    def _unknown(self, host: str, reason: str) -> WebError:
        return WebError(
            HTTPStatus.BAD_GATEWAY,
            "Nobody has this name",
            f"{host[:MAX_HOST]} is no public key with {self.suffix} behind it, and no alias: {reason}",
            reply=ReplyCode.HOST_UNREACHABLE,
        )


def plain_host_untrusted(text: str) -> str:
    """Bring the name of a host into the one form in which names are compared; `ValueError`."""
    host = text.lower().removesuffix(".")
    if len(host) > MAX_HOST or not _HOST.fullmatch(host) or ".." in host.strip("[]"):
        raise ValueError(f"{text[:MAX_HOST]!r} is no name of a host")
    return host[1:-1] if host.startswith("[") else host


def authority_untrusted(text: str, *, default_port: int | None = None) -> tuple[str, int]:
    """Read ``host[:port]``, with IPv6 in brackets; `ValueError` says what is wrong."""
    if "@" in text:
        raise ValueError("there is no place for a user's name before the host")
    host, port = text, ""
    if not text.endswith("]"):
        host, colon, port = text.rpartition(":")
        if not colon:
            host, port = text, ""
    if ":" in host and not host.startswith("["):
        raise ValueError(f"{text[:MAX_HOST]!r}: an IPv6 address stands in brackets")
    if not port and default_port is not None:
        return plain_host_untrusted(host), default_port
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise ValueError(f"{text[:MAX_HOST]!r}: a port is 1 to 65535")
    return plain_host_untrusted(host), int(port)


def shown_authority(host: str, port: int, *, default_port: int = HTTP_PORT) -> str:
    """Write ``host[:port]`` as in a URL."""
    name = f"[{host}]" if ":" in host else host
    return name if port == default_port else f"{name}:{port}"


def is_no_name(host: str) -> bool:
    """Tell whether a host is an address: nobody but us has that, whatever a site's DNS says."""
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
