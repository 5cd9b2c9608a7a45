"""Who a URL means: ``dmsg://PK[:port]/``, ``http://PK[:port]/``, ``http://PK.dmsg[:port]/``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dmsg_trio._address import LAST_PORT, NO_PORT, Address
from dmsg_trio._keys import PUBLIC_KEY_SIZE, PublicKey

DEFAULT_PORT: Final = 80
SUFFIX: Final = ".dmsg"  # what makes a key the name of a host for browsers
Hosts = Mapping[str, Address | str]  # names, and the addresses that they are short for
NO_HOSTS: Final[Hosts] = {}

_SHOWN: Final = 100  # characters of a host that is none


def address_of(host: str, port: int | None = None, hosts: Hosts = NO_HOSTS) -> Address:
    """Give the address that a host and a port of a URL mean; `ValueError` if they mean none.

    ``hosts`` has other names for addresses. Without a port, or with 0, it is 80 or what they say.
    Dots within a key mean nothing: a label of DNS is shorter than a key, and some programs insist.
    """
    name = host.lower().removesuffix(SUFFIX)
    alias = hosts.get(host) or hosts.get(host.lower()) or hosts.get(name)
    if alias is not None:
        alias = Address.parse(alias) if isinstance(alias, str) else alias
        return Address(alias.pk, port or alias.port or DEFAULT_PORT)
    if not 0 <= (port or NO_PORT) <= LAST_PORT:
        raise ValueError(f"a port is 0 to {LAST_PORT}, not {port}")
    key = name.replace(".", "")
    try:
        pk = PublicKey.parse(key if len(key) == 2 * PUBLIC_KEY_SIZE else name)
    except ValueError as error:
        raise ValueError(
            f"{host[:_SHOWN]!r} is neither a public key nor a name that is known here: {error}"
        ) from error
    return Address(pk, port or DEFAULT_PORT)
