"""What stands behind -L and -R: ``[bind:]port:host:port``, as ssh has it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from dmsg_trio._errors import ConfigError

LOOPBACK: Final = "127.0.0.1"
_PARTS: Final = re.compile(r"\[([^]]*)\]|([^:\[\]]*)")


@dataclass(frozen=True, slots=True)
class ForwardSpec:
    """Where connections are waited for, and where they go."""

    bind: str
    bind_port: int  # 0: any that is free
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> ForwardSpec:
        """Read it as a person wrote it; IPv6 addresses stand in brackets."""
        parts = _split(text)
        if len(parts) == 3:
            parts = [LOOPBACK, *parts]
        if len(parts) != 4 or not parts[2]:
            raise ConfigError(f"not [bind:]port:host:port: {text!r}")
        bind, bind_port, host, port = parts
        spec = cls(bind or LOOPBACK, _port(text, bind_port), host, _port(text, port))
        if not spec.port:
            raise ConfigError(f"{text}: no port to connect to")
        return spec

    def __str__(self) -> str:
        return f"{self.bind}:{self.bind_port}:{self.host}:{self.port}"


def _split(text: str) -> list[str]:
    parts: list[str] = []
    at = 0
    while True:
        match = _PARTS.match(text, at)
        assert match is not None  # it matches nothing, too  # noqa: S101
        parts.append(match[1] if match[1] is not None else match[2])
        at = match.end()
        if at == len(text):
            return parts
        if text[at] != ":":
            raise ConfigError(f"not [bind:]port:host:port: {text!r}")
        at += 1


def _port(text: str, digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) < 6) or int(digits) > 65535:
        raise ConfigError(f"{text}: a port is a number up to 65535, not {digits!r}")
    return int(digits)
