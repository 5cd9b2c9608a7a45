"""What servers tell about themselves at their health endpoints, for `dmsg status`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import httpx
import msgspec
import trio

from dmsg_trio._errors import ConfigError

from ._run import one_line, printable

TIMEOUT: Final = 5  # seconds for one endpoint
MAX_SIZE: Final = 1024 * 1024  # bytes of an answer; 512 links have 150 kB


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

    def lines(self) -> Iterator[str]:
        """Show the link: the key of the other server, and how it is."""
        traffic = f"{size(self.received_bytes)} in, {size(self.sent_bytes)} out"
        streams = count(self.streams, "stream")
        again = f", {count(self.reconnects, 'reconnect')}" if self.reconnects else ""
        state = f"{printable(self.state)} for {age(self.age_seconds)}"
        yield f"  link    {printable(self.public_key)}"
        yield f"          {state}, {self.round_trip_ms:.1f} ms, {streams}, {traffic}{again}"


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

    def lines(self) -> Iterator[str]:
        """Show it, below the server that it is of."""
        state = ", draining" if self.draining else ""
        sessions, streams = count(self.sessions, "session"), count(self.streams, "stream")
        since = printable(self.started_at) or "?"
        yield f"        since {since}, {sessions}, {streams}{state}"
        for link in self.links:
            yield from link.lines()
        for pk in self.servers_missing:
            yield f"  no link {printable(pk)}"
        for key in self.contested_keys:
            yield f"  twice   {printable(key.public_key)}"
            often = count(key.replacements, "change")
            yield f"          two programs seem to have this key: {often} within 10 minutes"


async def ask_all(urls: Sequence[str]) -> list[ServerHealth]:
    """Ask all endpoints at once; in the order of their URLs."""
    answers: dict[str, ServerHealth] = {}
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"--health: a URL begins with http:// or https://, not {url!r}")
    async with httpx.AsyncClient(timeout=TIMEOUT) as http, trio.open_nursery() as nursery:

        async def ask(url: str) -> None:
            answers[url] = await _ask(http, url)

        for url in dict.fromkeys(urls):
            nursery.start_soon(ask, url)
    return [answers[url] for url in dict.fromkeys(urls)]


async def _ask(http: httpx.AsyncClient, url: str) -> ServerHealth:
    path = "" if url.rstrip("/").endswith("/health") else "/health"
    try:
        with trio.fail_after(TIMEOUT):
            body = await _read_untrusted(http, url.rstrip("/") + path)
        return replace(msgspec.json.decode(body, type=ServerHealth), url=url, error="")
    except trio.TooSlowError:
        return ServerHealth(url=url, error=f"no answer within {TIMEOUT} s")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError) as error:
        return ServerHealth(url=url, error=one_line(str(error)) or type(error).__name__)


async def _read_untrusted(http: httpx.AsyncClient, url: str) -> bytes:
    body = bytearray()
    async with http.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
        response.raise_for_status()
        with trio.CancelScope() as enough:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_SIZE:
                    # To leave the loop instead would leave httpx's generators half run.
                    enough.cancel()
    if len(body) > MAX_SIZE:
        raise ValueError(f"the answer has more than {MAX_SIZE} bytes")
    return bytes(body)


# ---- numbers for people ----


def count(number: int, what: str) -> str:
    """Say how many: ``1 stream``, ``2 streams``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def age(seconds: float) -> str:
    """Say how long in three characters or a few more: ``9s``, ``59m``, ``23h``, ``400d``."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def size(number: float) -> str:
    """Say how many bytes: ``812 B``, ``48.2 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
