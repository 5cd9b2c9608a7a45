"""A site in memory for transfers to ask: files with versions and ranges, and ways to go wrong."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import trio

from dmsg_trio.apps.curl import Order, Report, ToFile, ToStream, Transfer, Watcher, parse_url

PK = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
OTHER_PK = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5"
SITE = f"dmsg://{PK}/"
PIECE = 1000
DATE = "Mon, 23 Nov 2026 04:00:00 GMT"
BEFORE = "Mon, 23 Nov 2026 03:00:00 GMT"


class Flow(httpx.AsyncByteStream):
    """A body in pieces, which may break, end early, or stall."""

    def __init__(self, data: bytes, *, breaks: bool = False, stalls: bool = False) -> None:
        self._data = data
        self._breaks = breaks
        self._stalls = stalls

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._data), PIECE):
            await trio.lowlevel.checkpoint()
            yield self._data[at : at + PIECE]
        if self._stalls:
            await trio.sleep_forever()
        if self._breaks:
            raise httpx.ReadError("the stream was reset")


@dataclass
class Site:
    """What is served, and what was asked."""

    content: bytes = b""
    etag: str = '"one"'
    modified: str = ""
    takes_ranges: bool = True
    heeds_if_range: bool = True
    breaks_after: list[int] = field(default_factory=list)  # of each answer in turn; -1: not
    ends_early: bool = False  # instead of breaking
    stalls: bool = False
    extra: dict[str, str] = field(default_factory=dict)
    asked: list[httpx.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    answer: Callable[[httpx.Request], httpx.Response | None] = lambda _: None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        assert isinstance(request.stream, httpx.AsyncByteStream)
        self.bodies.append(b"".join([piece async for piece in request.stream]))
        return self.answer(request) or self._file(request)

    def _file(self, request: httpx.Request) -> httpx.Response:
        headers = {"Date": DATE, **self.extra}
        if self.etag:
            headers["ETag"] = self.etag
        if self.modified:
            headers["Last-Modified"] = self.modified
        total, start, stop, status = len(self.content), 0, len(self.content), 200
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        condition = request.headers.get("if-range", "")
        is_same = condition in ("", self.etag, self.modified) or not self.heeds_if_range
        if span and is_same and self.takes_ranges:
            start, stop = int(span[1]), min(total, int(span[2] or total) + 1 if span[2] else total)
            if start >= total:
                return httpx.Response(416, headers={**headers, "Content-Range": f"bytes */{total}"})
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
        body = self.content[start:stop]
        headers["Content-Length"] = str(len(body))
        limit = self.breaks_after.pop(0) if self.breaks_after else -1
        broken = 0 <= limit < len(body)
        flow = Flow(
            body[:limit] if broken else body,
            breaks=broken and not self.ends_early and not self.stalls,
            stalls=broken and self.stalls,
        )
        return httpx.Response(status, headers=headers, stream=flow)

    @property
    def ranges(self) -> list[str]:
        """The ranges that were asked for, an empty one for all."""
        return [each.headers.get("range", "") for each in self.asked]


@dataclass
class Heard(Watcher):
    """What was told of a transfer."""

    notes: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def tries_again(self, error: Exception, pause: float, left: float) -> None:
        self.pauses.append(pause)


async def transfer(
    site: Site,
    output: ToFile | ToStream,
    path: str = "file",
    *,
    heard: Watcher | None = None,
    **options: object,
) -> Report:
    """Ask a site, and give what became of it."""
    order = Order(url=parse_url(SITE + path), **options)  # type: ignore[arg-type]
    transport = httpx.MockTransport(site)
    return await Transfer(transport, order, output, heard or Heard()).run()


class Collected:
    """An output that keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""

    async def write(self, data: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.data += bytes(data)

    @property
    def output(self) -> ToStream:
        return ToStream(self.write)


def code(report: Report) -> int:
    """The exit code of a transfer."""
    return int(report.error.code) if report.error else 0


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())
