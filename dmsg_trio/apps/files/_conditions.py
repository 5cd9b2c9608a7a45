"""Validators of files, and the headers that make a request depend on them (RFC 9110, 13)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from enum import Enum, auto


class Verdict(Enum):
    """What becomes of a request."""

    GO_ON = auto()
    NOT_MODIFIED = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Version:
    """What a file is recognised by when somebody asks again.

    Its tag changes with its size, with the time of its last change, which the system has exactly
    to some milliseconds, and when another file takes its name.
    """

    tag: str
    seconds: int  # since 1970

    @classmethod
    def of(cls, status: os.stat_result) -> Version:
        """Make it of what the system says about a file."""
        tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"'
        return cls(tag, status.st_mtime_ns // 1_000_000_000)

    @property
    def weak_tag(self) -> str:
        """The tag of the same file in another form, as compressed: bytes of it are not the same."""
        return f"W/{self.tag}"

    @property
    def date(self) -> str:
        """When the file was last changed, as headers have it."""
        return formatdate(self.seconds, usegmt=True)

    # ---- what requests say of it ----

    def judge_untrusted(self, headers: Mapping[str, str], *, is_read: bool) -> Verdict:
        """Say whether a request goes on; ``is_read`` if it is a GET or HEAD."""
        if (wanted := headers.get("if-match")) is not None:
            if not self._is_among(wanted, weakly=False):
                return Verdict.FAILED
        elif self._is_newer_than(headers.get("if-unmodified-since"), unread=False):
            return Verdict.FAILED
        if (known := headers.get("if-none-match")) is not None:
            if self._is_among(known, weakly=True):
                return Verdict.NOT_MODIFIED if is_read else Verdict.FAILED
        elif is_read and not self._is_newer_than(headers.get("if-modified-since"), unread=True):
            return Verdict.NOT_MODIFIED
        return Verdict.GO_ON

    def _is_newer_than(self, date: str | None, *, unread: bool) -> bool:
        """Compare with a date; ``unread`` is the answer if there is none that can be read."""
        since = _seconds_untrusted(date)
        return unread if since is None else self.seconds > since

    def is_same_untrusted(self, if_range: str) -> bool:
        """Say whether a part of this file continues what somebody has; a weak tag never does."""
        if if_range.startswith(('"', "W/")):
            return if_range.strip() == self.tag
        return _seconds_untrusted(if_range) == self.seconds

    def _is_among(self, header: str, *, weakly: bool) -> bool:
        if header.strip() == "*":
            return True
        # Our tags have no commas. One of others that has is cut here, and is not ours either way.
        tags = [tag.strip() for tag in header.split(",")]
        if weakly:
            tags = [tag.removeprefix("W/") for tag in tags]
        return self.tag in tags


def _seconds_untrusted(date: str | None) -> int | None:
    """Read a date; None if it is none, which counts as if it were not there."""
    if date is None:
        return None
    try:
        read = parsedate_to_datetime(date)
        # A date of no zone is one of Greenwich.
        return int((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def utc(seconds: float) -> datetime:
    """Make a time of seconds since 1970; those that no calendar has are its edges."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime(9999 if seconds > 0 else 1, 1, 1, tzinfo=UTC)
