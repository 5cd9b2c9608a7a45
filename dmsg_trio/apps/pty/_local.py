"""The local socket of a host, as its users see it; `host._listening` makes it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import trio

from dmsg_trio._errors import ConfigError
from dmsg_trio._net.tcp import open_stream_to, parse_host_port


def check_socket(path: Path) -> None:
    """Raise `ConfigError` unless the socket is of this user or of root: others would listen in."""
    try:
        status = path.lstat()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if not stat.S_ISSOCK(status.st_mode):
        raise ConfigError(f"{path} is not a socket")
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigError(f"{path} is a socket of another user ({status.st_uid})")


@dataclass(frozen=True, slots=True)
class LocalSocket:
    """Where the host of a machine listens for its users."""

    network: str  # unix or tcp
    address: str

    @property
    def is_there(self) -> bool:
        """Whether it is worth a try."""
        return self.network != "unix" or Path(self.address).exists()

    @property
    def can_reset(self) -> bool:
        """Whether who is at the other end can tell that a connection broke."""
        return self.network != "unix"

    async def connect(self) -> trio.SocketStream:
        """Connect; raises `OSError`."""
        if self.network == "unix":
            return await trio.open_unix_socket(self.address)
        return await open_stream_to(*parse_host_port(self.address))

    def __str__(self) -> str:
        return self.address
