"""Words of a command line: URLs, sizes, headers, names, and what is wrong with them."""

from __future__ import annotations

import base64
import getpass
import os
import re
from typing import Final

import httpx

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey
from dmsg_trio.apps.curl import ExitCode, TransferError, parse_url

from ._curl_bodies import content_of

_SECRET_KEY = re.compile(r"[0-9a-fA-F]{64}")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)b?", re.IGNORECASE)
_UNITS: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_LINE_OF_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*[:;].*")


def url_of(text: str) -> httpx.URL:
    """Read a URL that leads to a key."""
    if _SECRET_KEY.fullmatch(text):
        raise ConfigError(
            "a secret key on a command line can be read by others: put it into a file (--key-file)"
            " or the variable DMSGCURL_SK"
        )
    url = parse_url(text)
    try:
        PublicKey.parse(url.host.removesuffix(".dmsg"))
    except ValueError as error:
        raise TransferError(ExitCode.BAD_URL, f"bad URL {text!r}: no key: {error}") from None
    return url


def filename(text: str) -> str:
    """Take the name of a file; an empty one is none."""
    if not text:
        raise ConfigError("-o: a file needs a name")
    return text


def with_query(url: httpx.URL, query: str) -> httpx.URL:
    """Put more behind the question mark."""
    if not query:
        return url
    return url.copy_with(query=b"&".join(filter(None, [url.query, query.encode()])))


def size_of(text: str, option: str) -> int | None:
    """Read ``500``, ``500K``, ``1.5M``; nothing is no limit."""
    if not text or text == "0":
        return None
    found = _SIZE.fullmatch(text)
    if not found:
        raise ConfigError(f"{option}: a number of bytes as 500, 500K or 2M, not {text!r}")
    return max(1, int(float(found[1]) * _UNITS[found[2].lower()]))


def lines_of(option: str) -> list[str]:
    """Give the line that was said, or those of ``@FILE``."""
    if not option.startswith("@"):
        return [option]
    lines = content_of(option[1:]).decode("latin-1").splitlines()
    return [line for line in lines if line.strip()]


def header_of(line: str) -> tuple[str, str | None]:
    """Read ``Name: value``; ``Name:`` removes it, ``Name;`` sends it empty."""
    if not _LINE_OF_HEADER.fullmatch(line):
        raise ConfigError(f"-H: a header is 'Name: value', not {line!r}")
    name, _, value = line.partition(":")
    if line.rstrip().endswith(";") and ":" not in line:
        return line.rstrip()[:-1].strip(), ""
    return name.strip(), value.strip() or None


def basic(user: str) -> str:
    """Write a name and a password as a header has them; ask for the password if need be."""
    if ":" not in user:
        user = f"{user}:{getpass.getpass(f'password of {user}: ')}"
    return f"Basic {base64.b64encode(os.fsencode(user)).decode()}"
