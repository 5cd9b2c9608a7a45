"""What a line has room for while something is copied or fetched."""

from __future__ import annotations

from typing import Final

from ._run import printable

SHOWN_NAME: Final = 40  # characters of a path, its end


def problem_line(path: str, reason: str) -> str:
    """Say in one line what could not be copied, and why; nothing in it has power."""
    return f"{printable(path)}: {printable(reason)}"


def shortened(path: str) -> str:
    """Give the end of a path, which tells more than its beginning."""
    text = printable(path)
    return text if len(text) <= SHOWN_NAME else "…" + text[1 - SHOWN_NAME :]
