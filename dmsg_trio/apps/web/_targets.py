"""Targets of requests that have one place to go to, whatever they say."""

from __future__ import annotations

import re
from typing import Final

import h11

from ._errors import bad_request

_ORIGIN: Final = re.compile(rb"[a-z][a-z0-9+.-]*://[^/?#]*", re.IGNORECASE)


def path_of(request: h11.Request) -> bytes:
    """Give the path of a request; a URL names somebody in vain, and CONNECT has no path."""
    target: bytes = request.target
    if request.method == b"CONNECT":
        raise bad_request("this is no proxy")
    if target.startswith(b"/") or (target == b"*" and request.method == b"OPTIONS"):
        return target
    path, count = _ORIGIN.subn(b"", target, count=1)
    if not count:
        raise bad_request("what it is for is neither a path nor a URL")
    return path if path.startswith(b"/") else b"/" + path


def without_origin(host: bytes, location: bytes) -> bytes:
    """Leave the path of a redirect within the site, which the client knows by another name."""
    for scheme in (b"http://", b"dmsg://"):
        if location.startswith(scheme + host):
            rest = location[len(scheme + host) :]
            if not rest or rest[:1] in b"/?#":
                return rest if rest[:1] == b"/" else b"/" + rest
    return location
