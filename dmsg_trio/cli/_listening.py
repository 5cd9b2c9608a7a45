"""A port of this machine for the programs on it, as tools open one."""

from __future__ import annotations

import ipaddress
import logging
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dmsg_trio._errors import ConfigError

if TYPE_CHECKING:
    import trio

LOOPBACK: Final = "127.0.0.1"

Bind = Annotated[
    str, typer.Option("--bind", help="The address here; others than loopback let others in.")
]

logger = logging.getLogger("dmsg_trio.cli")


async def listen_here(host: str, port: int, *, option: str) -> list[trio.SocketListener]:
    """Listen for programs; ``option`` is the one that names the port."""
    import trio

    try:
        if not ipaddress.ip_address(host).is_loopback:
            logger.warning("%s: whoever can connect there can use this, in your name", host)
        return await trio.open_tcp_listeners(port, host=host)
    except ValueError:
        raise ConfigError(f"--bind: {host!r} is not an address") from None
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {shown_place(host, port)}: {error.strerror or error};"
            f" {option} 0 takes any port that is free"
        ) from error


def shown_place(host: str, port: int) -> str:
    """Write an address and a port as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
