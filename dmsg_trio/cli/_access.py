"""Who may come to a program, as its options name them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey

MAX_FILE: Final = 1024 * 1024  # bytes; about 15,000 keys


def keys_named(texts: Iterable[str], option: str) -> list[PublicKey]:
    """Read keys, each alone or with commas between them; a wrong one is an error."""
    words = [word.strip() for text in texts for word in text.split(",")]
    try:
        return [PublicKey.parse(word) for word in words if word]
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None


def keys_in_file(path: Path, option: str) -> list[PublicKey]:
    """Read a file with a key on each line; what follows a ``#`` is for people.

    A file without any key is an error: nobody means everybody by it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        lines = data.decode().splitlines()
    except OSError as error:
        raise ConfigError(f"{option}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{option}: {path} is no text") from None
    if len(data) > MAX_FILE:
        raise ConfigError(f"{option}: {path} is larger than {MAX_FILE} bytes")
    keys = []
    for number, line in enumerate(lines, start=1):
        keys += keys_named([line.partition("#")[0]], f"{option}: {path}, line {number}")
    if not keys:
        raise ConfigError(f"{option}: {path} names no key")
    return keys
