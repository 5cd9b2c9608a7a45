"""How a program of the remote shell gets to a host: as a client of its own, or through the one here."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from dmsg_trio._address import Address
from dmsg_trio._errors import ConfigError, DmsgError, UnreachableError
from dmsg_trio.apps.pty._local import LocalSocket, check_socket
from dmsg_trio.apps.pty._places import PTY_PORT, default_socket
from dmsg_trio.apps.pty._routes import DirectRoute, LocalRoute, Route

from ._joining import joined, why
from ._options import HERE, KeyOptions
from ._parties import parse_address

CONFIG: Final = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOptions(KeyOptions):
    """By which way a host is reached. A key makes this program a client of the network itself."""

    discovery: Annotated[
        str,
        typer.Option("--discovery", envvar="DMSG_DISCOVERY", help="With a key: the discovery."),
    ] = HERE
    cliaddr: Annotated[
        str, typer.Option("--cliaddr", help="Without a key: the socket of the host here.")
    ] = ""
    clinet: Annotated[str, typer.Option("--clinet", help="What that is: unix or tcp.")] = ""
    confpath: Annotated[
        str, typer.Option("--confpath", help="The host's configuration, which names it too.")
    ] = ""
    timeout: Annotated[
        float, typer.Option("--timeout", "-W", min=0.1, help="Seconds to wait for an answer.")
    ] = 30.0

    def local_socket(self) -> LocalSocket:
        """Say where the host of this machine listens: flags count over its configuration."""
        network, address = self.clinet, self.cliaddr
        if self.confpath or (not address and Path(CONFIG).exists()):
            given = _settings(Path(self.confpath or CONFIG), must_be_one=bool(self.confpath))
            network, address = (
                network or given.get("clinet", ""),
                address or given.get("cliaddr", ""),
            )
        network = network or "unix"
        if network not in ("unix", "tcp"):
            raise ConfigError(f"--clinet: 'unix' or 'tcp', not {network!r}")
        if network == "tcp" and not address:
            raise ConfigError("--cliaddr: where the host listens, as 127.0.0.1:2222")
        return LocalSocket(network, address or default_socket(os.environ))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortWayOptions(WayOptions):
    """The same with the short names of the reference, where no other option has them."""

    cliaddr: Annotated[
        str, typer.Option("--cliaddr", "-r", help="Without a key: the socket of the host here.")
    ] = ""
    clinet: Annotated[str, typer.Option("--clinet", "-n", help="What that is: unix or tcp.")] = ""
    confpath: Annotated[
        str, typer.Option("--confpath", "-p", help="The host's configuration, which names it too.")
    ] = ""


def _settings(path: Path, *, must_be_one: bool) -> dict[str, str]:
    """Read what a configuration says of the socket; it is never written to."""
    try:
        settings = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError:
        settings = None
    if isinstance(settings, dict):
        named = {name: settings.get(name) for name in ("clinet", "cliaddr")}
        return {name: value for name, value in named.items() if isinstance(value, str)}
    if must_be_one:
        raise ConfigError(f"{path} is not the configuration of a host")
    return {}


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
        return
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
    yield LocalRoute(socket, host)
