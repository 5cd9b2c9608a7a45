"""Where somebody is reached: a public key and a port."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ._keys import PublicKey

NO_PORT: Final = 0
FIRST_EPHEMERAL_PORT: Final = 49152
LAST_PORT: Final = 65535

_LONGEST_PORT: Final = 20  # digits; leading zeros are harmless, endless ones are not


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """``pk:port``, as in ``02…ab:80``; port 0 means "no port" and is shown as ``~``."""

    pk: PublicKey
    port: int = NO_PORT

    def __post_init__(self) -> None:
        if not 0 <= self.port <= LAST_PORT:
            raise ValueError(f"a port is 0 to {LAST_PORT}, not {self.port}")

    @classmethod
    def parse(cls, text: str, *, default_port: int = NO_PORT) -> Address:
        """Read ``pk``, ``pk:``, ``pk:~`` or ``pk:port``, with blanks around the parts.

        Raises `ValueError` that says what is wrong.
        """
        pk, _, port = text.partition(":")
        port = port.strip()
        if port in ("", "~"):
            return cls(PublicKey.parse(pk), default_port)
        if not (port.isascii() and port.isdigit() and len(port) <= _LONGEST_PORT):
            shown = port[: 2 * _LONGEST_PORT]
            raise ValueError(f"a port is a number from 0 to {LAST_PORT} or '~', not {shown!r}")
        return cls(PublicKey.parse(pk), int(port))

    def __str__(self) -> str:
        return f"{self.pk}:{self.port or '~'}"
