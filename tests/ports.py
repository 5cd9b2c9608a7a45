"""Ports of loopback for programs that are started later."""

import socket
from random import SystemRandom
from typing import Final

# Below those that connections get by themselves: nobody else takes one while its program is down.
PORTS: Final = range(20_000, 32_000)

_random: Final = SystemRandom()


def free_port() -> int:
    """A port of loopback that stays free until it is used."""
    while True:
        port = _random.choice(PORTS)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
