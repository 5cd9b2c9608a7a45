"""One question and its answer, over redirects."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final

import httpx
import trio

from dmsg_trio._errors import DmsgError

from ._bodies import Body, Upload
from ._codes import ExitCode, TransferError, place, translated
from ._cookies import Cookies
from ._names import parse_url
from ._orders import Headers, Order, Report, Watcher
from ._pace import Pace
from ._unpacking import raw_pieces
from ._versions import length_of

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
SHORT: Final = 64 * 1024  # bytes of a redirect's body: reading them takes less than a new stream
OF_BODIES: Final = frozenset({"content-length", "content-type", "transfer-encoding"})


@dataclass(slots=True)
class Asking:
    """Asks what an order says, each time anew; tells a watcher, and writes the report."""

    transport: httpx.AsyncBaseTransport
    order: Order
    watcher: Watcher
    report: Report
    pace: Pace = field(default_factory=Pace)
    heads: bytes = b""  # of all answers to the last question
    _phase: str = field(default="dialing", init=False)

    @asynccontextmanager
    async def answer(self, *extra: tuple[str, str]) -> AsyncIterator[httpx.Response]:
        """Have the answer to a request with these headers added, for the block.

        `TransferError` also for what breaks within the block.
        """
        is_answered = False
        hop = _Hop(self.order, self.order.url, self.order.method, self.order.body)
        self.heads = b""
        try:
            self.report.redirects = 0
            response = await self._ask(hop, extra)
            try:
                while target := self._redirected_to(response, hop.number):
                    self.report.redirects = hop.number + 1
                    self.report.redirected = trio.current_time() - self.report.began
                    await _drain(response)
                    hop = hop.next(target, response.status_code)
                    response = await self._ask(hop, extra)
                is_answered = True
                yield response
            finally:
                await _close(response)
        except TransferError:
            raise
        except (httpx.HTTPError, httpx.InvalidURL, DmsgError) as error:
            raise translated(error, hop.url, is_answered=is_answered) from error

    def doing(self) -> str:
        """Say what takes its time, and with whom."""
        return f"{self._phase} {place(self.report.url)}"

    def _redirected_to(self, response: httpx.Response, followed: int) -> httpx.URL | None:
        """Say which URL is to be asked next, if any."""
        target = _target_of(response)
        self.report.redirect_url = str(target) if target else ""
        limit = self.order.redirects
        if target is None or limit is None:
            return None
        if followed == limit:
            reason = f"more than {limit} redirects, the last one to {target}"
            raise TransferError(ExitCode.TOO_MANY_REDIRECTS, reason)
        return target

    async def _ask(self, hop: _Hop, extra: Headers) -> httpx.Response:
        async def step(name: str, _info: object) -> None:
            await trio.lowlevel.checkpoint()
            self._on_step(name, request)

        request = httpx.Request(
            hop.method,
            hop.url,
            headers=[
                (name.encode(), os.fsencode(value))  # what others gave may be more than ASCII
                for name, value in (
                    *_with_cookies(hop.headers, self.order.cookies, hop.url),
                    *extra,
                )
            ],
            stream=Upload(hop.body, self.pace, self._on_sent),
            extensions={
                "timeout": {"connect": self.order.connect_timeout, "pool": None, "read": None,
                            "write": None},
                "trace": step,
                "dmsg.views": True,  # each piece is used up before the next is asked for
            },
        )  # fmt: skip
        self.report.url, self.report.method = hop.url, hop.method
        self._phase = "dialing"
        response = await self.transport.handle_async_request(request)
        response.request = request
        if self.order.cookies is not None:
            self.order.cookies.take_untrusted(response)
        self.report.response = response
        self._phase = "receiving from"
        self.report.first_byte = trio.current_time() - self.report.began
        head = head_of(response)
        self.heads += head
        self.report.head_size += len(head)
        self.watcher.answers(response, head)
        return response

    def _on_sent(self, count: int) -> None:
        self.report.uploaded += count
        self.watcher.sent(count)

    def _on_step(self, name: str, request: httpx.Request) -> None:
        since = trio.current_time() - self.report.began
        if name == "http11.send_request_headers.started":
            self._phase = "asking"
            self.watcher.asks(request)
        elif name == "connection.connect_tcp.complete":
            self.report.connects += 1
            self.report.connected = since
        elif name == "http11.send_request_body.complete":
            self.report.sent = since
        self.watcher.step(name, place(request.url))


def _with_cookies(
    headers: list[tuple[str, str]], cookies: Cookies | None, url: httpx.URL
) -> list[tuple[str, str]]:
    """Put the cookies that are known in front of those that were named, in one header."""
    line = cookies.header_for(url) if cookies is not None else ""
    if not line:
        return headers
    named = [value for name, value in headers if name.lower() == "cookie"]
    others = [each for each in headers if each[0].lower() != "cookie"]
    return [*others, ("Cookie", "; ".join([line, *named]))]


async def _drain(response: httpx.Response) -> None:
    """End an answer that nobody reads; so far as it is short, its connection is used again."""
    length = length_of(response)
    if length is not None and length <= SHORT:
        async with aclosing(raw_pieces(response)) as pieces:
            async for _ in pieces:
                pass
    await _close(response)


async def _close(response: httpx.Response) -> None:
    # What was wanted of it is here, or an error is on its way. Nothing more is said to the server,
    # so it cannot take long.
    with (
        trio.CancelScope(shield=True),
        suppress(httpx.HTTPError, trio.BrokenResourceError, trio.ClosedResourceError),
    ):
        await response.aclose()


@dataclass(frozen=True, slots=True)
class _Hop:
    """One request of a chain of redirects."""

    order: Order
    url: httpx.URL
    method: str
    body: Body | None
    number: int = 0

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What is sent there: nothing that is meant for others, or for a body that is gone."""
        order = self.order
        is_home = place(self.url) == place(order.url) or order.trusts_redirects
        headers = [*order.headers, *(order.secret_headers if is_home else ())]
        if not is_home:
            headers = [each for each in headers if each[0].lower() != "host"]
        if all(name.lower() != "host" for name, _ in headers):
            headers.insert(0, ("Host", self.url.netloc.decode("ascii")))
        if self.body is None and order.body is not None:
            return [each for each in headers if each[0].lower() not in OF_BODIES]
        names = {name.lower() for name, _ in headers}
        if self.body is not None and not OF_BODIES - {"content-type"} & names:
            size = self.body.size
            chunked = ("Transfer-Encoding", "chunked")
            headers.append(chunked if size is None else ("Content-Length", str(size)))
        return headers

    def next(self, url: httpx.URL, status: int) -> _Hop:
        """Follow a redirect, as browsers and curl do."""
        becomes_get = (status == 303 and self.method != "HEAD") or (
            status in (301, 302) and self.method == "POST"
        )
        if becomes_get:
            method = self.method if self.order.keeps_method else "GET"
            return replace(self, url=url, method=method, body=None, number=self.number + 1)
        if self.body is not None and not self.body.is_repeatable:
            reason = f"redirected to {url}, but what was sent cannot be sent again"
            raise TransferError(ExitCode.SEND_ERROR, reason, may_pass=False)
        return replace(self, url=url, number=self.number + 1)


def _target_of(response: httpx.Response) -> httpx.URL | None:
    """Read where a redirect leads; None if the answer is none."""
    location = response.headers.get("location", "")
    if response.status_code not in REDIRECTS or not location:
        return None
    here = response.request.url
    try:
        if "://" in location.partition("?")[0]:
            target = parse_url(location)
        else:
            # As http, since joining knows nothing of other schemes.
            target = here.copy_with(scheme="http").join(location).copy_with(scheme=here.scheme)
            if not location.startswith("//"):
                target = target.copy_with(netloc=here.netloc)
    except (httpx.InvalidURL, ValueError) as error:
        raise TransferError(ExitCode.BAD_URL, f"redirected to a bad URL: {error}") from None
    except TransferError as error:
        reason = f"{place(here)} redirects to {location}: {error.reason}"
        raise TransferError(error.code, reason) from None
    return target.copy_with(fragment=None)


def head_of(response: httpx.Response) -> bytes:
    """Write the head of an answer as it was sent."""
    version = response.extensions.get("http_version", b"HTTP/1.1")
    reason = response.extensions.get("reason_phrase", response.reason_phrase.encode())
    lines = [b"%s %d %s" % (version, response.status_code, reason)]
    lines += [b"%s: %s" % header for header in response.headers.raw]
    return b"\r\n".join([*lines, b"", b""])
