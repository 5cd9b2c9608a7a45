"""Answers: what is said to a request, and how it went out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import trio
from starlette.types import Message, Receive, Scope, Send

from dmsg_trio._asgi.files import EXTENSION, SENT, FilePartError, Sent

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of which all is known at once."""

    status: int
    body: bytes = b""
    headers: Headers = field(default_factory=dict)


def text(status: int, message: str, **headers: str) -> Answer:
    """Say one line; headers are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = f"{message}\n".encode()
    return Answer(status, body, {"content-type": "text/plain; charset=utf-8", **named})


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a request, for a log; all but the numbers is as the client wrote it."""

    client: str
    method: str
    path: str  # with the query, as it came
    status: int  # 0 if there was no answer
    size: int  # bytes of the body that went out
    seconds: float
    is_whole: bool


OnAnswered = Callable[[Answered], None]


class FileChangedError(Exception):
    """A file is not any more what it was when the answer began."""


class ClientGoneError(Exception):
    """Whoever asked is not there any more."""


@dataclass(frozen=True, slots=True)
class _Numbered:
    """What ASGI takes for a file."""

    number: int

    def fileno(self) -> int:
        return self.number


class Exchange:
    """A request, and the answer to it as far as it got."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.query: str = scope["query_string"].decode("latin-1")
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        self.client: str = scope["client"][0] if scope.get("client") else ""
        self.receive = receive
        self._send = send
        self._began = trio.current_time()
        self._status = 0
        self._sent = Sent()  # of the body
        self._is_whole = False
        self.sends_files = EXTENSION in scope.get("extensions", ())

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers."""
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        self._status = status
        await self._pass_on({"type": "http.response.start", "status": status, "headers": raw})

    async def send(self, body: bytes, *, more: bool = True) -> None:
        """Send a piece of the body, the last one unless there is ``more``."""
        await self._pass_on({"type": "http.response.body", "body": body, "more_body": more})
        self._sent.count += len(body)
        self._is_whole = not more

    async def send_file(self, number: int, start: int, count: int) -> None:
        """Send bytes of an open file, where the server `sends_files`; more is to come after them."""
        try:
            await self._pass_on(
                {"type": EXTENSION, "file": _Numbered(number), "offset": start, "count": count,
                 "more_body": True, SENT: self._sent}
            )  # fmt: skip
        except FilePartError as error:
            raise FileChangedError(str(error)) from error

    async def _pass_on(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError as error:  # so that it is not taken for one of a file
            raise ClientGoneError from error

    async def answer(self, answer: Answer) -> None:
        """Send all of an answer."""
        length = {} if answer.status in (204, 304) else {"content-length": str(len(answer.body))}
        await self.start(answer.status, {**length, **answer.headers})
        await self.send(b"" if self.method == "HEAD" else answer.body, more=False)

    @property
    def has_started(self) -> bool:
        return self._status != 0

    def outcome(self) -> Answered:
        """Tell what became of it so far."""
        return Answered(
            client=self.client,
            method=self.method,
            path=self.raw_path.decode("latin-1") + (f"?{self.query}" if self.query else ""),
            status=self._status,
            size=self._sent.count,
            seconds=trio.current_time() - self._began,
            is_whole=self._is_whole,
        )
