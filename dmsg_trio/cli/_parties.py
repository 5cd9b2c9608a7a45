"""What the commands that dial have in common."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from dmsg_trio._address import Address
from dmsg_trio._errors import ConfigError

ECHO_PORT: Final = 7  # where who echoes does so

DialTimeout = Annotated[
    float,
    typer.Option("--timeout", "-W", min=0.1, help="Seconds to wait for an answer."),
]


def parse_address(text: str, *, default_port: int = 0) -> Address:
    """Read ``PK`` or ``PK:port`` as a person wrote it; without a default the port must be there."""
    try:
        address = Address.parse(text, default_port=default_port)
    except ValueError as error:
        raise ConfigError(f"not an address: {error}") from None
    if not address.port:
        raise ConfigError(f"{text} lacks a port: write {text}:80, say")
    return address
