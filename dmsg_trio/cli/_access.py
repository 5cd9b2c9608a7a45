"""Who may come to a program, as its options name them."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey

from ._numbers import count

if TYPE_CHECKING:
    from dmsg_trio.apps.access import AllowList

AllowedKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--wl", "-w", metavar="PK,…", help="Keys that may come, with commas; again for more."
    ),
]
AllowFile = Annotated[
    Path | None,
    typer.Option(
        "--allow-file", help="File with such keys, one on each line; read again when it changes."
    ),
]


def keys_named(texts: Iterable[str], option: str) -> list[PublicKey]:
    """Read keys, each alone or with commas between them; a wrong one is an error."""
    words = [word.strip() for text in texts for word in text.split(",")]
    try:
        return [PublicKey.parse(word) for word in words if word]
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None


def allow_list(file: Path | None, given: Iterable[PublicKey]) -> AllowList:
    """Make the list of both; a file without a key would be a mistake."""
    from dmsg_trio.apps.access import AllowList

    allowed = AllowList(file, given=given)
    if not allowed.keys:
        raise ConfigError(f"--allow-file: {file} names no key")
    return allowed


def audience(allowed: Sized | None) -> str:
    """Say who may come, in a word to those who started the program; None is everybody."""
    if allowed is None:
        return "everybody who has the key"
    return count(len(allowed), "key")
