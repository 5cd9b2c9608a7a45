"""Requests of one client on one connection: read strictly, answered in order.

The head of a request is looked at twice. First as bytes, for what proxies have been known to disagree
on: lines that go on in the next one, line feeds alone. Then h11 reads it, which has the rules of
HTTP/1.1. Each request gets an h11 of its own, so that nothing comes to h11 before it was looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import h11
import trio

from dmsg_trio._net.carrying import Carried, reset_when_closed

from ._errors import bad_request, said_of

MAX_HEAD: Final = 64 * 1024  # bytes of a request's line and headers; browsers send many cookies
MAX_AHEAD: Final = 64 * 1024  # bytes of requests that come before the last one was answered
HEAD_TIME: Final = 30.0  # seconds from the first byte of a head to its last one
IDLE_TIME: Final = 120.0  # seconds without a request until a connection is ended
STALL_TIME: Final = 300.0  # seconds for a piece of a body, with a client that has stalled
HALF_CLOSED_TIME: Final = 60.0  # seconds without a byte of an answer for who has ended its side
LINGER_TIME: Final = 2.0  # seconds for who still sends to see the answer
WORTH_JOINING: Final = 32 * 1024  # bytes; more are sent piece by piece rather than copied
RECEIVE_SIZE: Final = 256 * 1024

_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_FOLD: Final = re.compile(rb"\r\n[ \t]")
_VERSIONS: Final = {b"1.0", b"1.1"}

Headers = list[tuple[bytes, bytes]]


class ClientGoneError(Exception):
    """Whoever asked is not there any more, or does not take what comes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is made here."""

    status: HTTPStatus
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = field(default_factory=tuple)


class Near:
    """The side of a connection from which requests come."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, data: bytes = b"") -> None:
        self.stream = stream
        self.carried = Carried()  # of the request that is under way
        self._ahead = bytearray(data)
        self._out: list[bytes] = []
        self._http = h11.Connection(h11.SERVER)
        self._is_head = False  # what is asked for, so the answer has no body

    # ---- in ----

    async def next_request(self) -> h11.Request | None:
        """Wait for the head of the next request; None if there is none. `WebError` if it is wrong."""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._is_head = False
        head = await self._receive_head()
        if not head:
            return None
        self._http.receive_data(head)
        try:
            request = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise bad_request(said_of(error), HTTPStatus(error.error_status_hint)) from error
        if not isinstance(request, h11.Request):
            raise bad_request("there is no request")
        self._is_head = request.method == b"HEAD"
        _check_untrusted(request)
        if not has_body(request):
            self._http.next_event()  # its end, which needs no more bytes
        return request

    async def _receive_head(self) -> bytes:
        seen = 0
        with trio.move_on_after(IDLE_TIME) as scope:
            while True:
                while self._ahead.startswith(b"\r\n"):  # some clients end a body with one
                    del self._ahead[:2]
                end = self._ahead.find(b"\r\n\r\n", max(0, seen - 3))
                head = self._ahead[: end + 4] if end >= 0 else self._ahead
                if _BARE_LF.search(head) or _FOLD.search(head):
                    raise bad_request("lines end with CR LF, and none goes on in the next one")
                if len(head) > MAX_HEAD:
                    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                    raise bad_request(f"its head is larger than {MAX_HEAD} bytes", status)
                if end >= 0:
                    taken = bytes(head)
                    del self._ahead[: end + 4]
                    return taken
                if self._ahead and not seen:
                    scope.deadline = trio.current_time() + HEAD_TIME
                seen = len(self._ahead)
                data = await self.stream.receive_some(RECEIVE_SIZE)
                if not data:
                    return b""
                self._ahead += data
        if self._ahead:
            raise bad_request(
                f"its head was not there in {HEAD_TIME:g} s", HTTPStatus.REQUEST_TIMEOUT
            )
        return b""

    async def next_event(self) -> h11.Data | h11.EndOfMessage:
        """Wait for the next piece of the request that is under way."""
        while self.awaits_body:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise ClientGoneError(str(error)) from error
            if isinstance(event, h11.Data):
                self.carried.to_far += len(event.data)
                return event
            if isinstance(event, h11.EndOfMessage):
                return event
            if event is not h11.NEED_DATA:
                raise ClientGoneError("the request ended within its body")
            if self._ahead:
                data: bytes | bytearray = bytes(self._ahead)
                self._ahead.clear()
            else:
                data = b""
                with trio.move_on_after(STALL_TIME):
                    data = await self._receive()
            self._http.receive_data(bytes(data))
        return h11.EndOfMessage()

    async def wait_gone(self) -> None:
        """Wait until the client is gone: its connection broke, or it ended its side long ago.

        Who has just ended it may be a script that waits for the answer, or a browser that left.
        """
        while len(self._ahead) < MAX_AHEAD:
            data = await self._receive()
            if not data:
                break
            self._ahead += data
        else:
            await trio.sleep_forever()
        before = -1
        while before != self.carried.to_near:
            before = self.carried.to_near
            await trio.sleep(HALF_CLOSED_TIME)

    async def _receive(self) -> bytes | bytearray:
        try:
            return await self.stream.receive_some(RECEIVE_SIZE)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ClientGoneError(str(error)) from error

    @property
    def awaits_body(self) -> bool:
        """Whether more of the request that is under way is to come."""
        return self._http.their_state is h11.SEND_BODY

    @property
    def is_answered(self) -> bool:
        """Whether the head of an answer was sent."""
        return self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    def take_rest(self) -> bytes:
        """Take what came behind the request: another one, or another protocol's bytes."""
        rest = self._http.trailing_data[0] + bytes(self._ahead)
        self._ahead.clear()
        return rest

    # ---- out ----

    def queue(self, event: h11.Event) -> None:
        """Put a piece of an answer behind those that wait to be sent."""
        self._out += self._http.send_with_data_passthrough(event) or ()

    async def flush(self) -> None:
        """Send what was queued."""
        pieces = [piece for piece in self._out if piece]
        self._out.clear()
        if sum(map(len, pieces)) < WORTH_JOINING:
            pieces = [b"".join(pieces)]
        for data in pieces:
            if not data:
                return
            try:
                with trio.fail_after(STALL_TIME):
                    await self.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
                raise ClientGoneError(str(error)) from error
            self.carried.to_near += len(data)

    async def answer(self, answer: Answer, *, to: h11.Request | None) -> None:
        """Send a whole answer; ``to`` None is for what was no request, or a wrong one."""
        headers = [*answer.headers, ("Content-Length", str(len(answer.body)))]
        if to is None or self.awaits_body:
            headers.append(("Connection", "close"))
        self.queue(
            h11.Response(
                status_code=answer.status, reason=answer.status.phrase.encode(), headers=headers
            )
        )
        if not self._is_head:
            self.queue(h11.Data(data=answer.body))
        self.queue(h11.EndOfMessage())
        await self.flush()

    def finish(self) -> bool:
        """Go on to the next request, if one may come."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._ahead = bytearray(self.take_rest())
            return True
        return False

    async def close(self, *, linger: bool = True) -> None:
        """End the connection; who has not finished asking gets time to see the last answer."""
        if self._http.our_state is h11.SWITCHED_PROTOCOL:
            return  # both ends of it have seen how it ended
        if self._http.our_state in (h11.SEND_BODY, h11.SEND_RESPONSE, h11.ERROR):
            self.reset()  # or the client might take what it has for all of it
            return
        try:
            await self.stream.send_eof()
            with trio.move_on_after(LINGER_TIME if linger else 0):
                while await self.stream.receive_some(RECEIVE_SIZE):
                    pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    def reset(self) -> None:
        """Let the client see that something went wrong."""
        reset_when_closed(self.stream)


def has_body(request: h11.Request) -> bool:
    """Tell whether a request has more than a head."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in request.headers
    )


def _check_untrusted(request: h11.Request) -> None:
    """Refuse what h11 lets pass and others may read in another way."""
    names = [name for name, _ in request.headers]
    if request.http_version not in _VERSIONS:
        version = request.http_version.decode()
        raise bad_request(
            f"HTTP/{version} is not spoken here", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
        )
    if b"transfer-encoding" in names:
        if b"content-length" in names:
            raise bad_request("it has two lengths: Content-Length and Transfer-Encoding")
        if request.http_version == b"1.0":
            raise bad_request("there is no Transfer-Encoding in HTTP/1.0")
    if request.method == b"CONNECT" and b"content-length" in names:
        raise bad_request("CONNECT has no body")
