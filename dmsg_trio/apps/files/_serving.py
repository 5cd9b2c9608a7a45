"""A file as an answer: whole, in parts, compressed, or not at all where it is known already."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from ._accepting import takes_gzip_untrusted
from ._answers import Answer, Exchange, text
from ._conditions import Verdict, Version
from ._ranges import Span, UnsatisfiableError, spans_untrusted
from ._sending import Sender, unless_gone
from ._tree import Opened
from ._types import can_shrink, content_type_of, runs_scripts

MIN_COMPRESSED: Final = 1024  # bytes, below which nothing is gained

# Whoever may upload could write programs for the browsers of the others, in the name of this host.
SANDBOX: Final = "sandbox allow-scripts allow-popups"


class FileServer:
    """Answers with files; ``sandboxed`` pages can do nothing in the name of their host."""

    def __init__(self, sender: Sender, *, sandboxed: bool) -> None:
        self._sender = sender
        self._sandboxed = sandboxed

    async def serve(self, exchange: Exchange, name: bytes, opened: Opened) -> None:
        """Answer with a file, or a part of it, or that nothing new is there."""
        version, size = Version.of(opened.status), opened.status.st_size
        headers = self._headers_of(name, version)
        match version.judge_untrusted(exchange.headers, is_read=True):
            case Verdict.NOT_MODIFIED:
                await exchange.answer(Answer(304, headers=headers))
                return
            case Verdict.FAILED:
                await exchange.answer(text(412, "Precondition Failed"))
                return
        try:
            spans = self._wanted_untrusted(exchange, version, size)
        except UnsatisfiableError as fault:
            await exchange.answer(text(416, str(fault), content_range=f"bytes */{size}"))
            return
        if spans is not None:
            await self._send_spans(exchange, opened, spans, headers)
        elif size >= MIN_COMPRESSED and can_shrink(name) and self._may_compress(exchange):
            headers |= {"content-encoding": "gzip", "etag": version.weak_tag}
            del headers["accept-ranges"]
            with self._sender.compressing():
                await exchange.start(200, headers)
                await self._send(exchange, partial(self._sender.send_compressed, exchange, opened))
        else:
            await exchange.start(200, {"content-length": str(size), **headers})
            await self._send_parts(exchange, opened, [(b"", Span(0, size))] if size else [], b"")

    def _headers_of(self, name: bytes, version: Version) -> dict[str, str]:
        headers = {
            "content-type": content_type_of(name),
            "accept-ranges": "bytes",
            "cache-control": "no-cache",  # without asking whether it has changed
            "etag": version.tag,
            "last-modified": version.date,
            "x-content-type-options": "nosniff",
        }
        if can_shrink(name):
            headers["vary"] = "Accept-Encoding"
        if self._sandboxed and runs_scripts(name):
            headers["content-security-policy"] = SANDBOX
        return headers

    def _wanted_untrusted(
        self, exchange: Exchange, version: Version, size: int
    ) -> list[Span] | None:
        """Say which parts of a file are wanted, None if it is the whole."""
        if (wanted := exchange.headers.get("range")) is None or exchange.method != "GET":
            return None
        if_range = exchange.headers.get("if-range")
        if if_range is not None and not version.is_same_untrusted(if_range):
            return None
        return spans_untrusted(wanted, size)

    def _may_compress(self, exchange: Exchange) -> bool:
        accepted = exchange.headers.get("accept-encoding", "")
        return self._sender.may_compress and takes_gzip_untrusted(accepted)

    async def _send_spans(
        self, exchange: Exchange, opened: Opened, spans: list[Span], headers: dict[str, str]
    ) -> None:
        size = opened.status.st_size
        ranges = [f"bytes {start}-{stop - 1}/{size}" for start, stop in spans]
        if len(spans) == 1:
            parts, end = [(b"", spans[0])], b""
            headers["content-range"] = ranges[0]
        else:
            boundary, content_type = secrets.token_hex(16), headers["content-type"]
            heads = [
                f"--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {each}\r\n\r\n"
                for each in ranges
            ]
            heads[1:] = [f"\r\n{head}" for head in heads[1:]]
            parts = [(head.encode(), span) for head, span in zip(heads, spans, strict=True)]
            end = f"\r\n--{boundary}--\r\n".encode()
            headers["content-type"] = f"multipart/byteranges; boundary={boundary}"
        length = sum(len(head) + span.size for head, span in parts) + len(end)
        await exchange.start(206, {"content-length": str(length), **headers})
        await self._send_parts(exchange, opened, parts, end)

    async def _send_parts(
        self, exchange: Exchange, opened: Opened, parts: list[tuple[bytes, Span]], end: bytes
    ) -> None:
        if parts:
            send = partial(self._sender.send_spans, exchange, opened, parts, end)
            await self._send(exchange, send)
        else:
            await exchange.send(b"", more=False)

    async def _send(self, exchange: Exchange, send: Callable[[], Awaitable[None]]) -> None:
        if exchange.method == "HEAD":
            await exchange.send(b"", more=False)
        else:
            await unless_gone(exchange, send)
