"""Short names for addresses, from a file that is read again when it changes.

    # what follows a # is for people
    home = 0279be66…81798
    wiki = "0279be66…81798:8080"

So a flat TOML file is one, too. A file that is missing or wrong later on changes nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey

MAX_FILE: Final = 1024 * 1024  # bytes; about 12,000 names
LOOK_EVERY: Final = 1.0  # seconds; a look costs a read, so that no change is too quick to be seen

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.IGNORECASE)
_LINE: Final = re.compile(
    r"""\s*"?([^"=\s]+)"?\s*=\s*(?:"([^"]*)"|'([^']*)'|([^"'\s#]+))\s*(?:#.*)?"""
)
_SHOWN: Final = 80  # characters of a line that is wrong

logger = logging.getLogger("dmsg_trio.web")


class Aliases:
    """The names of a file; `ConfigError` if there is something wrong with it at the start."""

    def __init__(self, path: Path | None = None, *, suffix: str = ".dmsg") -> None:
        self.path = path
        self.fault = ""  # of the file as it is now; the table is of the one before
        self._suffix = suffix
        self._data = b"" if path is None else _read(path)
        self.table = parse_aliases(self._data, str(path), suffix=suffix)

    async def watch(self) -> None:
        """Read the file again and again until cancelled."""
        while self.path is not None:
            await trio.sleep(LOOK_EVERY)
            self.reload()

    def reload(self) -> None:
        """Read the file; if it is wrong the names read before still count."""
        if self.path is None:
            return
        try:
            data = _read(self.path)
            if data == self._data and not self.fault:
                return
            table = parse_aliases(data, str(self.path), suffix=self._suffix)
        except ConfigError as error:
            if str(error) != self.fault:
                logger.error("%s; the %d names read before still count", error, len(self.table))
            self.fault = str(error)
            return
        if table != self.table or self.fault:
            logger.info("%s: %d names", self.path, len(table))
        self.fault, self._data, self.table = "", data, table


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


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path} is larger than {MAX_FILE} bytes")
    return data
