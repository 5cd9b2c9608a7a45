"""By which way a host is reached, as the programs of the remote shell are told."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dmsg_trio._errors import ConfigError
from dmsg_trio.apps.pty._places import default_socket

from ._options import HERE, KeyOptions, discovery_option
from ._parties import DialTimeout

if TYPE_CHECKING:
    from dmsg_trio.apps.pty._local import LocalSocket

CONFIG: Final = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOptions(KeyOptions):
    """By which way a host is reached. A key makes this program a client of the network itself."""

    discovery: Annotated[str, discovery_option(what="With a key: the discovery.")] = HERE
    cliaddr: Annotated[
        str, typer.Option("--cliaddr", help="Without a key: the socket of the host here.")
    ] = ""
    clinet: Annotated[str, typer.Option("--clinet", help="What that is: unix or tcp.")] = ""
    confpath: Annotated[
        str, typer.Option("--confpath", help="The host's configuration, which names it too.")
    ] = ""
    timeout: DialTimeout = 30.0

    def local_socket(self) -> LocalSocket:
        """Say where the host of this machine listens: flags count over its configuration."""
        from dmsg_trio.apps.pty._local import LocalSocket

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
    except (ValueError, RecursionError):
        settings = None
    if isinstance(settings, dict):
        named = {name: settings.get(name) for name in ("clinet", "cliaddr")}
        return {name: value for name, value in named.items() if isinstance(value, str)}
    if must_be_one:
        raise ConfigError(f"{path} is not the configuration of a host")
    return {}
