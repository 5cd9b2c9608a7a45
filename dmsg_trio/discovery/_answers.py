"""What the answers of a discovery mean to who asked: an error of its own for each cause."""

from __future__ import annotations

from typing import Final

from dmsg_trio._errors import DiscoveryError, DmsgError, ErrorCode, UnreachableError

from ._interface import SequenceError
from ._rules import NOT_FOUND, OLD_SEQUENCE, OLD_TIMESTAMP

MAX_SHOWN: Final = 200  # characters of a stranger's words in an error of ours


class NotOfferedError(DiscoveryError):
    """This discovery does not have what was asked of it; an older one, perhaps."""


def refused(where: str, status: int, text: str, *, retry_after: str = "") -> DmsgError:
    """Say in an error that the discovery refused, and why; ``text`` is its own."""
    shown = printable(text)
    if text == NOT_FOUND:
        return UnreachableError(ErrorCode.ENTRY_NOT_FOUND, f"{where}: {shown}")
    if text in (OLD_SEQUENCE, OLD_TIMESTAMP):
        return SequenceError(f"{where}: {shown}")
    if status == 429:
        wait = f"after {printable(retry_after)} s" if retry_after else "later"
        return DiscoveryError(f"{where}: too many requests; it asks to come back {wait}")
    if status in (404, 405):
        return NotOfferedError(f"{where}: answered {status}: {shown or 'nothing'}")
    return DiscoveryError(f"{where}: answered {status}: {shown or 'nothing'}")


def printable(text: str) -> str:
    """A stranger's words, cut short and without what a terminal would act on."""
    cut = text[:MAX_SHOWN] + ("…" if len(text) > MAX_SHOWN else "")
    return "".join(char if char.isprintable() else "·" for char in cut).strip("· ")
