"""What servers tell about themselves at their health endpoints, for `dmsg status`."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import httpx
import msgspec
import trio

from dmsg_trio._errors import ConfigError, RemoteProtocolError
from dmsg_trio._net.tcp import reason_of
from dmsg_trio.discovery._reading import read_untrusted, trusted_by

from ._numbers import age, count, size
from ._run import one_line, printable

TIMEOUT: Final = 5  # seconds for one endpoint
MAX_SIZE: Final = 1024 * 1024  # bytes of an answer; 512 links have 150 kB
MAX_NEARBY: Final = 64  # endpoints taken from a discovery; `dmsg up` has no more servers

_HEADERS: Final = {"Accept-Encoding": "identity"}


# The members of the reference's servers are there, and those that only ours have are missing then.
@dataclass(frozen=True, slots=True, kw_only=True)
class LinkHealth:
    """One link of a server to another one."""

    public_key: str = ""
    state: str = ""
    dialed_here: bool = False
    age_seconds: float = 0
    round_trip_ms: float = 0
    streams: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    reconnects: int = 0

    def words(self) -> str:
        """Say how the link is."""
        traffic = f"{size(self.received_bytes)} in, {size(self.sent_bytes)} out"
        streams = count(self.streams, "stream")
        again = f", {count(self.reconnects, 'reconnect')}" if self.reconnects else ""
        state = f"{printable(self.state)} for {age(self.age_seconds)}"
        return f"{state}, {self.round_trip_ms:.1f} ms, {streams}, {traffic}{again}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContestedKey:
    """A key that two programs seem to have."""

    public_key: str = ""
    replacements: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHealth:
    """One answer; ``error`` says why there is none."""

    url: str = ""
    error: str = ""
    public_key: str = ""
    started_at: str = ""
    sessions: int = 0
    streams: int = 0
    draining: bool = False
    links: list[LinkHealth] = field(default_factory=list)
    servers_missing: list[str] = field(default_factory=list)
    contested_keys: list[ContestedKey] = field(default_factory=list)

    def words(self) -> str:
        """Say how busy the server is."""
        state = ", draining" if self.draining else ""
        sessions, streams = count(self.sessions, "session"), count(self.streams, "stream")
        return f"{sessions}, {streams}, started {printable(self.started_at) or '?'}{state}"


# ---- which ones to ask ----


def named(given: Sequence[str]) -> list[str]:
    """The endpoints that a person names; each word may be several with commas between them."""
    urls = [url.strip() for word in given for url in word.split(",") if url.strip()]
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"--health, DMSG_HEALTH: a URL begins with http:// or https://, not {url!r}"
            )
    return urls


def nearby(discovery: str, told: Sequence[str]) -> list[str]:
    """The endpoints that a discovery on this machine tells of, if they are on it as well.

    Nobody from elsewhere is to make us ask what listens here, or anywhere.
    """
    if not _is_here(discovery):
        return []
    return [url for url in told[:MAX_NEARBY] if _is_here(url)]


def _is_here(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
        if parsed.scheme not in ("http", "https"):
            return False
        return parsed.host == "localhost" or ipaddress.ip_address(parsed.host).is_loopback
    except (httpx.InvalidURL, ValueError):
        return False


# ---- asking ----


async def ask_all(urls: Sequence[str]) -> list[ServerHealth]:
    """Ask all endpoints at once; in the order of their URLs."""
    answers: dict[str, ServerHealth] = {}
    async with (
        httpx.AsyncClient(
            verify=trusted_by(*urls), timeout=TIMEOUT, headers=_HEADERS, trust_env=False
        ) as http,
        trio.open_nursery() as nursery,
    ):

        async def ask(url: str) -> None:
            answers[url] = await _ask(http, url)

        for url in dict.fromkeys(urls):
            nursery.start_soon(ask, url)
    return [answers[url] for url in dict.fromkeys(urls)]


async def _ask(http: httpx.AsyncClient, url: str) -> ServerHealth:
    path = "" if url.rstrip("/").endswith("/health") else "/health"
    try:
        with trio.fail_after(TIMEOUT):
            async with http.stream("GET", url.rstrip("/") + path) as response:
                response.raise_for_status()
                body = await read_untrusted(response, MAX_SIZE)
        return replace(msgspec.json.decode(body, type=ServerHealth), url=url, error="")
    except trio.TooSlowError:
        return ServerHealth(url=url, error=f"no answer within {TIMEOUT} s")
    except (
        httpx.HTTPError, httpx.InvalidURL, RemoteProtocolError, ValueError, RecursionError,
    ) as error:  # fmt: skip
        return ServerHealth(url=url, error=one_line(reason_of(error)) or type(error).__name__)
