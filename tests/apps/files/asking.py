"""Requests to an app without a network, and what came back, byte by byte."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import trio
from starlette.types import Message

from dmsg_trio._keys import SecretKey
from dmsg_trio.apps.files import FilesApp

CLIENT = SecretKey.generate().pk


@dataclass
class Reply:
    """An answer, as far as it got."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    is_whole: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


async def ask(
    app: FilesApp,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: Iterable[bytes] = (),
    client: str = str(CLIENT),
    before_body: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    after_piece: Callable[[int], Awaitable[None]] | None = None,
    goes_early: bool = False,
) -> Reply:
    """Ask for a path, written as on the wire.

    ``before_body`` is called before each piece of the request is there, ``after_piece`` with the number of each piece of the answer; a client that
    ``goes_early`` is gone before the end of its request.
    """
    raw_path, _, query = path.encode("latin-1").partition(b"?")
    messages: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": True} for piece in body
    ]
    if not goes_early:
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    reply = Reply()

    async def receive() -> Message:
        await before_body()
        await trio.lowlevel.checkpoint()
        if messages:
            return messages.pop(0)
        if not goes_early:
            await trio.sleep_forever()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            assert not reply.status
            reply.status = message["status"]
            for name, value in message["headers"]:
                assert name == name.lower()
                assert name.decode() not in reply.headers
                reply.headers[name.decode()] = value.decode("latin-1")
            return
        assert not reply.is_whole
        reply.pieces.append(message["body"])
        reply.is_whole = not message["more_body"]
        if after_piece is not None:
            await after_piece(len(reply.pieces))

    scope = {
        "type": "http",
        "method": method,
        "path": "what servers make of it",
        "raw_path": raw_path,
        "query_string": query,
        "headers": [
            (name.lower().encode(), value.encode("latin-1"))
            for name, value in (headers or {}).items()
        ],
        "client": (client, 49152),
    }
    await app(scope, receive, send)
    if reply.is_whole and "content-length" in reply.headers and method != "HEAD":
        assert len(reply.body) == int(reply.headers["content-length"])
    return reply
