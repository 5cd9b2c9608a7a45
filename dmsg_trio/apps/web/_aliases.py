"""Short names for addresses, from a file that is read again when it changes.

    # what follows a # is for people
    home = 0279be66…81798
    wiki = "0279be66…81798:8080"

So a flat TOML file is one, too. A file that is missing or wrong later on changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from dmsg_trio._address import Address
from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey
from dmsg_trio.apps.access import WatchedFile

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.IGNORECASE)
_LINE: Final = re.compile(
    r"""\s*"?([^"=\s]+)"?\s*=\s*(?:"([^"]*)"|'([^']*)'|([^"'\s#]+))\s*(?:#.*)?"""
)
_SHOWN: Final = 80  # characters of a line that is wrong


class Aliases:
    """The names of a file; `ConfigError` if there is something wrong with it at the start."""

    def __init__(self, path: Path | None = None, *, suffix: str = ".dmsg") -> None:
        self.path = path
        parse = partial(parse_aliases, where=str(path), suffix=suffix)
        self._file = None if path is None else WatchedFile(path, parse, things="names")

    @property
    def table(self) -> Mapping[str, Address]:
        """The names and what they stand for."""
        return {} if self._file is None else self._file.value

    @property
    def fault(self) -> str:
        """What is wrong with the file as it is now; the table is of the one before."""
        return "" if self._file is None else self._file.fault

    async def watch(self) -> None:
        """Read the file whenever it changes, until cancelled."""
        if self._file is not None:
            await self._file.watch()

    def reload(self) -> None:
        """Read the file; if it is wrong the names read before still count."""
        if self._file is not None:
            self._file.reload()


def parse_aliases(data: bytes, where: str, *, suffix: str = ".dmsg") -> Mapping[str, Address]:
    """Read a file of names; `ConfigError` says which line is wrong. Names are in lower case."""
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"{where} is no text") from None
    table: dict[str, Address] = {}
    for number, name, value in _pairs(lines, where):
        place = f"{where}, line {number}"
        plain = name.lower().removesuffix(suffix)
        if _is_key(plain):
            raise ConfigError(f"{place}: a key is no name for something else")
        if not _NAME.fullmatch(plain):
            raise ConfigError(f"{place}: {name[:_SHOWN]!r} is no name of a host")
        if plain in table:
            raise ConfigError(f"{place}: {plain} was named before")
        try:
            table[plain] = Address.parse(value)
        except ValueError as error:
            raise ConfigError(f"{place}: {error}") from None
    return table


def _pairs(lines: list[str], where: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#") or text == "[aliases]":
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise ConfigError(f"{where}, line {number}: not name = PK[:port]: {text[:_SHOWN]!r}")
        name, *values = found.groups()
        yield number, name, next(each for each in values if each is not None)


def _is_key(name: str) -> bool:
    try:
        PublicKey.parse(name.replace(".", ""))
    except ValueError:
        return False
    return True
