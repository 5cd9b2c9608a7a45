"""Cookies: what sites gave, what they get back, and the files that browsers and curl keep them in.

A site is ``PK.dmsg`` here, however its URL was written: so a file of cookies is the same for
this program and for one that comes through dmsgweb. As streams are encrypted, cookies that ask for
that are sent.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from email.message import Message
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final, cast
from urllib.request import Request

import httpx

if TYPE_CHECKING:
    from http.client import HTTPResponse

MAX_COOKIES: Final = 3000  # in all; what sites offer beyond them is not taken
LONGEST: Final = 8192  # bytes of a name and its value
HEAD: Final = "# Netscape HTTP Cookie File\n\n"
HTTP_ONLY: Final = "#HttpOnly_"

_TIME: Final = re.compile(r"[0-9]{1,15}")  # seconds since 1970
_KEY: Final = re.compile(r"\.?[0-9a-f]{66}", re.IGNORECASE)


class Cookies:
    """The cookies of a run, for all whom it asks."""

    def __init__(self) -> None:
        self._jar = CookieJar(_Policy())

    def header_for(self, url: httpx.URL) -> str:
        """Write what a request to this URL takes along; nothing is an empty text."""
        request = _request(url)
        self._jar.add_cookie_header(request)
        return request.get_header("Cookie") or ""

    def take_untrusted(self, response: httpx.Response) -> None:
        """Keep what an answer gives, as far as it is about its own site."""
        room = MAX_COOKIES - len(self._jar)
        given = [
            value
            for value in response.headers.get_list("set-cookie")
            if value.isprintable() and len(value) <= LONGEST
        ][: max(0, room)]
        if given:
            message = Message()
            for value in given:
                message["Set-Cookie"] = value
            request = _request(response.request.url)
            with warnings.catch_warnings(action="ignore"):  # of a line that the library gives up
                self._jar.extract_cookies(cast("HTTPResponse", _Given(message)), request)

    # ---- files ----

    def load(self, text: str, *, ends_sessions: bool = False) -> None:
        """Read a file; lines that are none of its kind do not count."""
        for line in text.splitlines():
            http_only = line.startswith(HTTP_ONLY)
            fields = line.removeprefix(HTTP_ONLY).split("\t")
            if len(fields) != 7 or fields[0].startswith("#") or not _TIME.fullmatch(fields[4]):
                continue
            expires = int(fields[4])
            if expires or not ends_sessions:
                self._jar.set_cookie(_cookie(fields, expires, http_only=http_only))
        self._jar.clear_expired_cookies()

    def dump(self) -> str:
        """Write a file."""
        self._jar.clear_expired_cookies()
        return HEAD + "".join(sorted(_lines(self._jar)))


class _Policy(DefaultCookiePolicy):
    """Takes cookies of who was asked alone: a part of a domain is nobody in dmsg."""

    def __init__(self) -> None:
        super().__init__(strict_domain=True, strict_ns_domain=self.DomainStrict)


class _Given:
    """An answer, as the library wants to see it."""

    def __init__(self, message: Message) -> None:
        self._message = message

    def info(self) -> Message:
        return self._message


def _request(url: httpx.URL) -> Request:
    host = url.host.removesuffix(".dmsg")
    return Request(f"https://{host}.dmsg{url.raw_path.decode('ascii')}")


def _cookie(fields: list[str], expires: int, *, http_only: bool) -> Cookie:
    """Make a cookie of ``domain subdomains path secure expires name value``."""
    domain = f"{fields[0]}.dmsg" if _KEY.fullmatch(fields[0]) else fields[0]
    return Cookie(
        version=0,
        name=fields[5],
        value=fields[6],
        port=None,
        port_specified=False,
        domain=domain,
        domain_specified=domain.startswith("."),
        domain_initial_dot=domain.startswith("."),
        path=fields[2],
        path_specified=True,
        secure=fields[3] == "TRUE",
        expires=expires or None,
        discard=not expires,
        comment=None,
        comment_url=None,
        rest={"HttpOnly": ""} if http_only else {},
    )


def _lines(cookies: Iterable[Cookie]) -> Iterable[str]:
    for each in cookies:
        http_only = HTTP_ONLY if each.has_nonstandard_attr("HttpOnly") else ""
        fields = [
            http_only + each.domain,
            "TRUE" if each.domain_initial_dot else "FALSE",
            each.path,
            "TRUE" if each.secure else "FALSE",
            str(each.expires or 0),
            *((each.name, each.value) if each.value is not None else ("", each.name)),
        ]
        yield "\t".join(fields) + "\n"
