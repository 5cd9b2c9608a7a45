"""Numbers as people read them."""

from __future__ import annotations


def count(number: int, what: str, many: str = "") -> str:
    """Say how many: ``1 stream``, ``2 streams``."""
    return f"{number} {what if number == 1 else many or what + 's'}"


def age(seconds: float) -> str:
    """Say how long: ``9 s``, ``59 min``, ``23 h``, ``400 d``."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def size(number: float) -> str:
    """Say how many bytes: ``812 B``, ``48.2 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
