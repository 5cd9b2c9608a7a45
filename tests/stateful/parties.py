"""Who there is in a script, and under which keys."""

from __future__ import annotations

import hashlib
from typing import Final

from dmsg_trio import PublicKey, SecretKey

SERVERS: Final = ("s0", "s1", "s2", "s3")
CLIENTS: Final = ("c0", "c1", "c2")


def _key(name: str) -> SecretKey:
    return SecretKey(hashlib.sha256(name.encode()).digest())


KEYS: Final = {name: _key(name) for name in (*SERVERS, *CLIENTS)}
PKS: Final = {name: sk.pk for name, sk in KEYS.items()}
NAMES: Final[dict[PublicKey, str]] = {pk: name for name, pk in PKS.items()}
