"""Which version of a file an answer is of, and which part of it: what makes resuming safe."""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime

import httpx
import msgspec

_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_WHOLE = re.compile(r"bytes \*/(\d{1,19})")


class Version(msgspec.Struct, frozen=True):
    """What tells one content of a URL from another; `is_strong` says if it does so surely."""

    etag: str = ""
    modified: str = ""
    total: int | None = None

    @classmethod
    def of(cls, response: httpx.Response) -> Version:
        """Read the headers of an answer with the whole or with a part."""
        part = part_of(response)
        total = part.total if part else length_of(response)
        etag = response.headers.get("etag", "")
        return cls(
            etag if etag.startswith('"') else "",  # W/"…" does not mean the same bytes
            _settled(response.headers.get("last-modified", ""), response.headers.get("date", "")),
            None if response.headers.get("content-encoding") else total,
        )

    @property
    def validator(self) -> str:
        """What stands behind If-Range; empty if nothing tells versions apart."""
        return self.etag or self.modified

    def is_same(self, other: Version) -> bool:
        """Tell whether bytes of both may stand in one file."""
        if not self.validator or self.total != other.total:
            return False
        return self.etag == other.etag if self.etag else self.modified == other.modified


def _settled(modified: str, date: str) -> str:
    """Take a time of change only if it lies behind: within its second there may be another one."""
    changed, now = moment(modified), moment(date)
    if changed is None or (now is not None and (now - changed).total_seconds() < 1):
        return ""
    return modified


def moment(text: str) -> datetime | None:
    """Read a date of HTTP; None if it is none."""
    try:
        read = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return read if read.tzinfo else None


class Part(msgspec.Struct, frozen=True):
    """What Content-Range says: from ``start`` up to ``stop``, of ``total`` if that is known."""

    start: int
    stop: int
    total: int | None


def part_of(response: httpx.Response) -> Part | None:
    """Read Content-Range of a 206; None if it has none that can be understood."""
    found = _RANGE.fullmatch(response.headers.get("content-range", "").strip())
    if response.status_code != 206 or not found:
        return None
    part = Part(int(found[1]), int(found[2]) + 1, None if found[3] == "*" else int(found[3]))
    return part if part.start < part.stop <= (part.total or part.stop) else None


def total_of_unsatisfiable(response: httpx.Response) -> int | None:
    """Read how long the file is that a 416 speaks of."""
    found = _WHOLE.fullmatch(response.headers.get("content-range", "").strip())
    return int(found[1]) if found else None


def length_of(response: httpx.Response) -> int | None:
    """Read Content-Length; None if there is none or if it does not count."""
    text = response.headers.get("content-length", "")
    is_counted = text.isascii() and text.isdigit() and len(text) < 20
    return int(text) if is_counted and "transfer-encoding" not in response.headers else None
