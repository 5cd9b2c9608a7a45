"""Names of files that others chose, made harmless, and URLs as people write them."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

import httpx

from dmsg_trio._address import LAST_PORT

from ._codes import ExitCode, TransferError

LONGEST_NAME: Final = 200  # bytes: what is put behind it while it is incomplete needs room too
SCHEMES: Final = ("dmsg", "http")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_QUOTED = re.compile(r'filename\s*=\s*"((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_PLAIN = re.compile(r"filename\s*=\s*([^\s;\"]+)", re.IGNORECASE)
_EXTENDED = re.compile(r"filename\*\s*=\s*([\w-]+)'[^']*'([^\s;]+)", re.IGNORECASE)


def parse_url(text: str) -> httpx.URL:
    """Read ``dmsg://PK[:port]/path``, the same with ``http://``, or without any scheme."""
    scheme = _SCHEME.match(text)
    if scheme and scheme[1].lower() not in SCHEMES:
        hint = "; streams are encrypted already: write dmsg://" if scheme[1] == "https" else ""
        raise TransferError(ExitCode.UNSUPPORTED, f"no {scheme[1]}:// over dmsg{hint}")
    try:
        url = httpx.URL(text if scheme else f"dmsg://{text}")
    except (httpx.InvalidURL, ValueError) as error:
        raise TransferError(ExitCode.BAD_URL, f"bad URL {text!r}: {error}") from None
    if not url.host:
        raise TransferError(ExitCode.BAD_URL, f"bad URL {text!r}: it names no host")
    if (url.port or 0) > LAST_PORT:
        reason = f"bad URL {text!r}: a port is 0 to {LAST_PORT}, not {url.port}"
        raise TransferError(ExitCode.BAD_URL, reason)
    return url.copy_with(fragment=None)


def name_in_url(url: httpx.URL) -> str:
    """Take the last part of the path, as it is written there, for the name of a file."""
    name = harmless_name(url.raw_path.partition(b"?")[0].decode("ascii").rpartition("/")[2])
    if not name:
        raise TransferError(ExitCode.WRITE_ERROR, f"no file name at the end of {url}: use -o FILE")
    return name


def name_in_header(disposition: str) -> str:
    """Take the name that Content-Disposition proposes, but none of a hidden file; "" if there is none."""
    return harmless_name(_proposed(disposition)).lstrip(".")


def _proposed(disposition: str) -> str:
    if extended := _EXTENDED.search(disposition):
        try:
            return unquote(extended[2], extended[1], errors="strict")
        except (LookupError, UnicodeError):
            pass  # a plain one may stand beside it
    if quoted := _QUOTED.search(disposition):
        return re.sub(r"\\(.)", r"\1", quoted[1])
    plain = _PLAIN.search(disposition)
    return plain[1] if plain else ""


def harmless_name(name: str) -> str:
    """Leave of a name what neither leads to another folder nor acts on a terminal."""
    last = re.split(r"[/\\]", name)[-1]
    shown = "".join(each for each in last if each.isprintable()).strip()
    while len(shown.encode(errors="replace")) > LONGEST_NAME:
        shown = shown[1:]  # the end has the type in it
    return "" if shown in ("", ".", "..") else shown
