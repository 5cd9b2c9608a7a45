"""One request and its answer, on a stream that is free for them.

h11 writes and reads heads, so what is HTTP is decided there. Of all that a server may say, only what
was taken in last is kept: a head has a bound, the heads before it have, and bodies go right through.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Final, cast

import h11
import httpcore
import trio

from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.stream import RECEIVE_SIZE

from ._backend import NetworkStream
from ._bodies import Body, Head, Piece, Sized, body_of
from ._steps import limit_of, tell_of, traced

MAX_HEAD: Final = 64 * 1024  # bytes of an answer's head, and of a chunk's
MAX_INTERIM: Final = 32  # heads that say that the answer is still to come
EXPECT_TIME: Final = 1.0  # seconds that a body waits for the "go on" that its head has asked for
OF_BODIES: Final = (b"content-length", b"transfer-encoding")  # what announces one in a request


class Exchange:
    """Asks once, then gives the body of the answer."""

    def __init__(self, stream: NetworkStream, request: httpcore.Request) -> None:
        self._stream = stream
        self._request = request
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._body: Body = Sized(0)
        self._memory: memoryview | None = None  # for a long body
        self._interim = 0
        self._head: Head | None = None
        self._fault: httpcore.ReadError | httpcore.RemoteProtocolError | None = None
        self.is_answered = False  # at least by a first byte
        self.is_asked = False  # all of the request's head has been sent

    @property
    def leaves_stream_free(self) -> bool:
        """Whether all was said by both sides, and both would go on."""
        return (
            self._http.our_state is h11.DONE  # and nobody has announced an end
            and self._body.is_complete
            and not self._body.has_surplus
        )

    # ---- the request ----

    async def ask(self) -> Head:
        """Send the request, and wait for the head of the answer."""
        tell = tell_of(self._request)
        try:
            await traced(tell, "http11.send_request_headers", self._send_head)
            await traced(tell, "http11.send_request_body", self._send_body)
        except httpcore.WriteError:
            self._http.send_failed()  # but a server that wants no more may have said why
        head = await traced(tell, "http11.receive_response_headers", self._receive_head)
        if is_switch(self._request, head):
            self._stream.unread(self._http.trailing_data[0])
        else:
            self._body = body_of(self._http, self._request.method, head)
        return head

    async def _send_head(self) -> None:
        request = self._request
        with _errors_of_httpcore():
            event = h11.Request(
                method=request.method, target=request.url.target, headers=request.headers
            )
        await self._send(event)
        self.is_asked = True

    async def _send_body(self) -> None:
        if self._http.client_is_waiting_for_100_continue:
            with trio.move_on_after(EXPECT_TIME):
                await self._take_head()
        if not any(name.lower() in OF_BODIES for name, _ in self._request.headers):
            await self._send_parts()
            return
        if self._is_refused:
            return
        is_sent = False
        async with open_service_nursery() as nursery:
            nursery.start_soon(self._listen, nursery.cancel_scope)
            await self._send_parts()
            is_sent = True
        if not is_sent:
            self._http.send_failed()  # the rest is of no use to a server that has answered already

    async def _send_parts(self) -> None:
        body = cast("AsyncIterable[bytes]", self._request.stream)
        async with aclosing(Parts(body.__aiter__())) as parts:
            async for part in parts:
                await self._send(h11.Data(data=part))
        await self._send(h11.EndOfMessage())

    async def _listen(self, sending: trio.CancelScope) -> None:
        """Take in what the server says before it has the whole request."""
        try:
            while self._head is None:
                await self._take_head()
        except (httpcore.ReadError, httpcore.RemoteProtocolError) as error:
            self._fault = error  # for who waits for the answer
        if self._is_refused or self._fault:
            sending.cancel()

    @property
    def _is_refused(self) -> bool:
        return self._head is not None and self._head.status_code >= 300

    async def _send(self, event: h11.Event) -> None:
        with _errors_of_httpcore():
            data = self._http.send(event)
        if data:
            await self._stream.write(data, limit_of(self._request, "write"))

    # ---- the head of the answer ----

    async def _receive_head(self) -> Head:
        while self._head is None:
            if self._fault:
                raise self._fault
            await self._take_head(limit_of(self._request, "read"))
        return self._head

    async def _take_head(self, limit: float | None = None) -> None:
        """Wait for one head; it may be one that comes before the answer's."""
        with _errors_of_httpcore(self._stream.way, "the head of its answer"):
            while not isinstance(
                event := self._http.next_event(), h11.Response | h11.InformationalResponse
            ):
                data = await self._stream.read(RECEIVE_SIZE, limit)
                if not data and not self._http.trailing_data[0]:
                    reason = "closed without sending a response"
                    raise httpcore.RemoteProtocolError(f"{self._stream.way}: {reason}")
                self.is_answered = True
                self._http.receive_data(data)
        if isinstance(event, h11.Response) or event.status_code == 101:
            self._head = event
            return
        self._interim += 1
        if self._interim > MAX_INTERIM:
            reason = f"{self._interim} heads, and none is that of the answer"
            raise httpcore.RemoteProtocolError(f"{self._stream.way}: {reason}")

    # ---- the body of the answer ----

    async def next_piece(self) -> Piece:
        """Wait for more of the body; empty is its end. A view is good until the next call."""
        limit = limit_of(self._request, "read")
        with _errors_of_httpcore(self._stream.way, "the body of its answer"):
            while not (piece := self._body.take()) and not self._body.is_complete:
                self._body.receive(await self._read(limit))
        return piece

    async def _read(self, limit: float | None) -> Piece:
        if not self._body.may_be_long:
            return await self._stream.read(RECEIVE_SIZE, limit)
        # Fresh memory for each piece of a large file takes longer than to read it.
        if self._memory is None:
            self._memory = memoryview(bytearray(RECEIVE_SIZE))
        size = await self._stream.read_into(self._memory, limit)
        return self._memory[:size]


def is_switch(request: httpcore.Request, head: Head) -> bool:
    """Tell whether the stream is not for HTTP any more."""
    is_tunnel = request.method == b"CONNECT" and 200 <= head.status_code < 300
    return head.status_code == 101 or is_tunnel


# ---- around it ----


class Parts(AsyncIterator[bytes]):
    """The parts of a body, of which not all may be taken.

    Whoever has to do with them closes it. A generator would be left to the garbage collector.
    """

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self._parts = parts

    async def __anext__(self) -> bytes:
        return await self._parts.__anext__()

    async def aclose(self) -> None:
        if isinstance(self._parts, AsyncGenerator):
            await self._parts.aclose()


@contextmanager
def _errors_of_httpcore(whose: str = "", what: str = "") -> Iterator[None]:
    try:
        yield
    except h11.LocalProtocolError as error:
        raise httpcore.LocalProtocolError(str(error)) from error
    except h11.RemoteProtocolError as error:
        # h11 takes garbage for a request.
        reason = str(error).replace("request line", "status line")
        raise httpcore.RemoteProtocolError(f"{whose}, {what}: {reason}") from error
    except (httpcore.ReadError, httpcore.ReadTimeout) as error:
        raise type(error)(f"{error} ({what})") from error
