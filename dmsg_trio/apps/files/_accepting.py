"""What a client takes: the headers Accept and Accept-Encoding."""

from __future__ import annotations


def takes_gzip_untrusted(accept_encoding: str) -> bool:
    """Tell whether an answer may be compressed."""
    qualities = _qualities_untrusted(accept_encoding)
    return qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0))) > 0


def prefers_json_untrusted(accept: str) -> bool:
    """Tell whether JSON is asked for by its name, and no less than a page."""
    qualities = _qualities_untrusted(accept)
    return qualities.get("application/json", 0.0) > qualities.get("text/html", 0.0)


def _qualities_untrusted(header: str) -> dict[str, float]:
    """Read ``a, b;q=0.5`` as numbers from 0 to 1."""
    qualities = {}
    for each in header.split(","):
        name, _, parameters = each.partition(";")
        key, _, value = parameters.replace(" ", "").partition("=")
        try:
            quality = float(value) if key.lower() == "q" else 1.0
        except ValueError:
            quality = 0.0
        qualities[name.strip().lower()] = quality
    return qualities
