"""Where a host is unless somebody says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

PTY_PORT: Final = 22  # of the network
SOCKET_NAME: Final = "dmsgpty.sock"
ENV_PREFIX: Final = "DMSGPTY"  # of the variables that say so


def default_socket(environment: Mapping[str, str]) -> str:
    """Say where the local socket is, in a folder of everybody: `host._listening` makes it safe."""
    return str(Path(environment.get("TMPDIR") or "/tmp") / SOCKET_NAME)  # noqa: S108
