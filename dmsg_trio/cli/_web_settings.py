"""What dmsgweb should do, from flags, variables and the file: the first that says something counts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dmsg_trio._address import Address
from dmsg_trio._errors import ConfigError, IdentityError
from dmsg_trio._keys import PublicKey, SecretKey

from . import _secrets
from ._access import allow_list
from ._numbers import count
from ._options import DEFAULT_VARIABLE, KeyOptions
from ._parties import parse_address
from ._web_conf import Value, read_conf

if TYPE_CHECKING:
    from dmsg_trio.apps.access import AllowList

HTTP_PORT: Final = 80
EVERYBODY: Final = "*"

_TRUE: Final = {"true", "1", "t", "yes"}
_FALSE: Final = {"false", "0", "f", "no"}
_NO_KEY: Final = "0" * 64  # what the reference calls none


class Conf:
    """The file that a variable names, or none."""

    def __init__(self, variable: str) -> None:
        path = os.environ.get(variable)
        self._settings: Mapping[str, Value] = read_conf(Path(path)) if path else {}

    def words(self, name: str, given: Sequence[str] | None, default: Sequence[str]) -> list[str]:
        """Give a list: words with commas between them, as often as they were given."""
        if given:
            return _split(given)
        value = self._settings.get(name) or ()
        return _split((value,) if isinstance(value, str) else value) or list(default)

    def text(self, name: str, given: str | None, default: str = "") -> str:
        """Give one word."""
        if given is not None:
            return given
        value = self._settings.get(name, "")
        if not isinstance(value, str):
            raise ConfigError(f"{name} is one value, and no list")
        return value or default

    def number(self, name: str, given: int | None, default: int, *, most: int = 65535) -> int:
        """Give one number."""
        if given is not None:
            return given
        return number(self.text(name, None, str(default)), name, most=most)

    def secret_key(self, keys: KeyOptions, variable: str) -> SecretKey:
        """Find the key, in that order: an option, a variable, the file; a fresh one else."""
        sk = keys.secret_key()
        if sk is None or (keys.key_env == DEFAULT_VARIABLE and not _names_file(keys)):
            if os.environ.get(variable) in ("", _NO_KEY):
                del os.environ[variable]
            sk = _secrets.key_from_environment(variable, keys.passphrase) or sk
        return sk or self._own_key(variable) or SecretKey.generate()

    def _own_key(self, name: str) -> SecretKey | None:
        value = self.text(name, None)
        if value in ("", _NO_KEY):
            return None
        try:
            return SecretKey.parse(value)
        except ValueError:
            raise IdentityError(f"{name} in the file is no secret key of 64 hex digits") from None


def _names_file(keys: KeyOptions) -> bool:
    return keys.key_file is not None or keys.key_fd is not None or keys.key_stdin


def _split(texts: Iterable[str]) -> list[str]:
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]


# ---- words ----


def number(text: str, name: str, *, least: int = 0, most: int = 65535) -> int:
    """Read a number within bounds."""
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise ConfigError(f"{name}: {text[:20]!r} is not a number from {least} to {most}")
    return int(text)


def ports(
    words: Sequence[str], name: str, *, least: int = 1, may_repeat: bool = False
) -> list[int]:
    """Read ports; none of them twice, where one can be taken only once."""
    found = [number(word, name, least=least) for word in words]
    twice = [port for port in found if port and found.count(port) > 1 and not may_repeat]
    if twice:
        raise ConfigError(f"{name}: port {twice[0]} is there twice")
    return found


def flags(words: Sequence[str], wanted: int, name: str) -> list[bool]:
    """Read as many yes or no as there are ports; those that are not said are no."""
    if len(words) > wanted:
        raise ConfigError(f"{name}: {count(len(words), 'value')} for {count(wanted, 'port')}")
    found = []
    for word in words:
        if word.lower() not in _TRUE | _FALSE:
            raise ConfigError(f"{name}: true or false, not {word[:20]!r}")
        found.append(word.lower() in _TRUE)
    return found + [False] * (wanted - len(found))


def forwards(words: Sequence[str], local: Sequence[int]) -> list[tuple[int, Address]]:
    """Pair local ports with addresses."""
    if len(words) != len(local):
        raise ConfigError(
            f"{count(len(words), 'address', 'addresses')} (--resolve) and"
            f" {count(len(local), 'local port')} (--port): they are pairs"
        )
    return [
        (port, parse_address(word, default_port=HTTP_PORT))
        for port, word in zip(local, words, strict=True)
    ]


def allowed(
    words: Sequence[str], files: Sequence[str], dports: Sequence[int]
) -> list[AllowList | None]:
    """Say for each port who may come; None is everybody.

    A word is a key for all ports, or ``80=key`` for one; ``80=*`` is everybody. A file with keys is
    for all ports or for one in the same way. Once anybody is named, a port for which nobody is named
    is an error: it would be open, or closed, by mistake.
    """
    if not words and not files:
        return [None] * len(dports)
    file_of = _files(files, dports)
    everywhere: set[PublicKey] = set()
    by_port: dict[int, set[PublicKey]] = {}
    open_ports: set[int] = set()
    last: int | None = None
    for word in words:
        port, sign, key = word.partition("=")
        if sign:
            last = _dport(port, "--wl", dports)
        else:
            key = word  # of 80=PK,PK the second one is for that port as well
        if key == EVERYBODY and last is not None:
            open_ports.add(last)
            continue
        (everywhere if last is None else by_port.setdefault(last, set())).add(_key(key))
    found: list[AllowList | None] = []
    for port_ in dports:
        keys, file = everywhere | by_port.get(port_, set()), file_of.get(port_)
        if port_ in open_ports:
            if file:
                raise ConfigError(
                    f"--wl {port_}=* lets everybody come, and --allow-file only some: which one?"
                )
            found.append(None)
        elif keys or file:
            found.append(allow_list(file, keys))
        else:
            option = "--wl" if words else "--allow-file"
            raise ConfigError(
                f"{option} names nobody for port {port_}; --wl {port_}=* lets everybody come"
            )
    return found


def _files(texts: Sequence[str], dports: Sequence[int]) -> dict[int, Path]:
    """Find the file of each port: ``FILE`` is for all ports, ``80=FILE`` for one."""
    found: dict[int, Path] = {}
    for text in texts:
        port, sign, path = text.partition("=")
        is_for_one = bool(sign) and port.isascii() and port.isdigit()
        for each in [_dport(port, "--allow-file", dports)] if is_for_one else dports:
            if each in found:
                raise ConfigError(f"--allow-file: port {each} has two files")
            found[each] = Path(path if is_for_one else text)
    return found


def _dport(text: str, option: str, dports: Sequence[int]) -> int:
    port = number(text, option, least=1)
    if port not in dports:
        raise ConfigError(f"{option}: nothing is at port {port}")
    return port


def _key(text: str) -> PublicKey:
    try:
        return PublicKey.parse(text)
    except ValueError as error:
        raise ConfigError(f"--wl: {error}") from None
