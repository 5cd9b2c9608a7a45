"""The header Range: which bytes of a file somebody wants.

Ranges that touch are one, in the order of the file: so an answer is never longer than the file and
a few headers, and no more is done for many ranges than sorting `MAX_RANGES` numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

MAX_RANGES: Final = 100  # in one request; who wants more gets the whole file

_UNIT: Final = re.compile(r"[ \t]*bytes[ \t]*=", re.IGNORECASE)
_RANGE: Final = re.compile(r"[ \t]*([0-9]{0,19})[ \t]*-[ \t]*([0-9]{0,19})[ \t]*")

INVALID: Final = "invalid range"
NO_OVERLAP: Final = "invalid range: failed to overlap"


class Span(NamedTuple):
    """Bytes of a file, from ``start`` to before ``stop``."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


class UnsatisfiableError(ValueError):
    """There is nothing of what is wanted; the text is what the reference says."""


def spans_untrusted(header: str, size: int) -> list[Span] | None:
    """Say which parts of a file are wanted, None if it is the whole; `UnsatisfiableError`."""
    if not (unit := _UNIT.match(header)) or not size:
        return None  # of an empty file everything is wanted, as the reference has it
    wanted = header[unit.end() :]
    if wanted.count(",") >= MAX_RANGES:
        return None
    spans = [_span_untrusted(each, size) for each in wanted.split(",") if each.strip(" \t")]
    if not spans:
        raise UnsatisfiableError(INVALID)
    merged = _merged(span for span in spans if span is not None)
    if not merged:
        raise UnsatisfiableError(NO_OVERLAP)
    return merged


def _span_untrusted(text: str, size: int) -> Span | None:
    """Read ``2-5``, ``2-`` or ``-5``, the last five; None is behind the end of the file."""
    if not (found := _RANGE.fullmatch(text)):
        raise UnsatisfiableError(INVALID)
    first, last = found.groups()
    if first:
        if last and int(last) < int(first):
            raise UnsatisfiableError(INVALID)
        span = Span(int(first), min(int(last) + 1, size) if last else size)
    elif last:
        span = Span(max(0, size - int(last)), size)
    else:
        raise UnsatisfiableError(INVALID)
    return span if span.start < span.stop else None


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.start <= merged[-1].stop:
            merged[-1] = Span(merged[-1].start, max(merged[-1].stop, span.stop))
        else:
            merged.append(span)
    return merged
