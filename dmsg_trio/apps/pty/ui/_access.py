"""Who may open a shell: whoever brings the token out of the printed link, and nobody else.

The token stands behind the ``#`` of the link, which browsers do not send to anybody. The page takes
it out of the address bar and trades it, once, for a key, which it keeps in the storage of its own
origin. No cookie: those of 127.0.0.1 go to every port of the machine, and come along with requests
that another site makes. So a page from elsewhere has nothing that would let it in, even if a browser
or a proxy got the checks of Origin and Host wrong.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import urlsplit

MAX_TOKENS: Final = 8  # printed and unused; the oldest goes
MAX_KEYS: Final = 256  # browsers that came in; the oldest goes


class Access:
    """The tokens and keys that count, and the names by which this server may be called."""

    def __init__(
        self, *, token_needed: bool = True, own_token: str = "", origins: Iterable[str] = ()
    ) -> None:
        self.token_needed = token_needed
        self._own_token = own_token
        self._origins = frozenset(origins)
        self._hosts = frozenset(urlsplit(origin).netloc.lower() for origin in self._origins)
        self._tokens: deque[str] = deque(maxlen=MAX_TOKENS)
        self._keys: deque[str] = deque(maxlen=MAX_KEYS)

    # ---- tokens and keys ----

    def new_token(self) -> str:
        """Make a token that lets one browser in."""
        token = secrets.token_urlsafe(32)
        self._tokens.append(token)
        return token

    def redeem_untrusted(self, secret: str) -> str | None:
        """Give the key for a token, which is spent by that, or for itself; None for anything else."""
        if not self.token_needed:
            return secret
        if _found(secret, self._keys) is not None:
            return secret
        if self._own_token and _same(secret, self._own_token):
            return secret
        if (token := _found(secret, self._tokens)) is None:
            return None
        self._tokens.remove(token)
        key = secrets.token_urlsafe(32)
        self._keys.append(key)
        return key

    # ---- names ----

    def fault_untrusted(self, host: str, origin: str | None) -> str:
        """Say what is wrong with the Host and the Origin of a request; nothing is ''."""
        if not self._is_own(host):
            return (
                f"this server is not called {host!r}: a name that others chose could point to it;"
                " --allow-origin tells it its names"
            )
        if origin is None or origin in self._origins:
            return ""
        scheme, _, name = origin.lower().partition("://")
        if scheme not in ("http", "https") or name != host.lower():
            return f"pages of {origin!r} have no business here"
        return ""

    def _is_own(self, host: str) -> bool:
        """Tell the addresses, which nobody can make point elsewhere, from names."""
        if host.lower() in self._hosts:
            return True
        name = (_host_of(host) or "").lower()
        if name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def parse_origin(text: str) -> str:
    """Read ``https://name[:port]`` as browsers write it; raise `ValueError` that says what is wrong."""
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/"):
        raise ValueError(f"{text!r} is not http(s)://name or http(s)://name:port")
    if url.query or url.fragment or url.username is not None:
        raise ValueError(f"{text!r} is more than http(s)://name:port")
    return f"{url.scheme}://{url.netloc.lower()}"


def _host_of(netloc: str) -> str | None:
    try:
        url = urlsplit(f"//{netloc}")
        _ = url.port
    except ValueError:
        return None
    return url.hostname if url.netloc == netloc and url.username is None else None


def _found(secret: str, among: Iterable[str]) -> str | None:
    """Look everywhere, so that the time tells nothing."""
    return max(_matches(secret, among), default=None)


def _matches(secret: str, among: Iterable[str]) -> Iterator[str]:
    for each in among:
        if _same(secret, each):
            yield each


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(errors="surrogatepass"), other.encode())
