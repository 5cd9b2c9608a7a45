"""Hypercorn's HTTP/1.1 and WebSockets, with the few rules of ours that differ.

HTTP stays at version 1.1: HTTP/2 would bring a hundred requests at once, and pings that pass for
progress. WebSockets come where they are wanted, uncompressed: what compresses a message keeps memory
for each connection.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, cast

import h11
import trio
import wsproto.connection
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body, Data, Request, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.typing import (
    AppWrapper,
    ASGIReceiveEvent,
    ASGISendEvent,
    ConnectionState,
    TaskGroup,
    WebsocketAcceptEvent,
    WorkerContext,
)
from hypercorn.utils import UnexpectedMessageError, suppress_body
from wsproto.events import CloseConnection
from wsproto.events import Event as WebSocketEvent
from wsproto.frame_protocol import CloseReason

from .files import EXTENSION, FilePart

Sendable = h11.Response | h11.InformationalResponse | h11.Data | h11.EndOfMessage

REASONS: Final = {each.value: each.phrase.encode() for each in HTTPStatus}
_AUTHORITY: Final = re.compile(rb"https?://[^/?]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FileData(Event):
    """A part of a file is to be sent."""

    part: FilePart


class Http11(H11Protocol):
    """HTTP/1.1 on one connection: bytes in, events for streams out."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        task_group: TaskGroup,
        *,
        client: tuple[str, int],
        server: tuple[str, int] | None,
        state: ConnectionState,
        send: Callable[[Event], Awaitable[None]],
        websockets: bool,
    ) -> None:
        super().__init__(
            *(app, config, context, task_group, state),
            ssl=False,
            client=client,
            server=server,
            send=send,
        )
        self._websockets = websockets

    @property
    def awaits_request(self) -> bool:
        """Whether no request is there, or not all of its head."""
        return self.stream is None

    @property
    def awaits_body(self) -> bool:
        """Whether more of a request is to come."""
        return self.connection.their_state is h11.SEND_BODY

    @property
    def is_mid_answer(self) -> bool:
        """Whether an answer was begun and lacks its end, or goes against the rules."""
        return self.connection.our_state in (h11.SEND_BODY, h11.ERROR)

    async def stream_send(self, event: StreamEvent) -> None:
        """Send what belongs to an answer."""
        if not isinstance(event, FileBody):
            await super().stream_send(event)
            return
        connection = cast(h11.Connection, self.connection)
        data = cast(bytes, event.part)  # h11 only asks for its length
        for piece in connection.send_with_data_passthrough(h11.Data(data=data)) or []:
            await self.send(FileData(event.part) if piece is data else RawData(bytes(piece)))

    async def _check_protocol(self, event: h11.Request) -> None:
        """Change to no other version, whatever the request offers."""

    async def _send_h11_event(self, event: Sendable) -> None:
        if type(event) is h11.Response and (reason := REASONS.get(event.status_code)):
            # No program needs it, but people who look at an answer do.
            event = h11.Response(
                status_code=event.status_code, headers=event.headers, reason=reason
            )
        await super()._send_h11_event(event)

    async def _create_stream(self, request: h11.Request) -> None:
        if _size_of(request) > self.config.h11_max_incomplete_size:  # it came at once: h11 lets it
            await self._send_error_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            await self.send(Closed())
            return
        ws = self._websockets and _asks_for_websocket(request)
        kind = WebSocket if ws else HttpStream
        self.stream = kind(
            self.app, self.config, self.context, self.task_group, self.ssl, self.client, self.server,
            self.stream_send, STREAM_ID,
        )  # fmt: skip
        if ws:
            self.connection = H11WSConnection(cast(h11.Connection, self.connection))
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=_origin_form(request.target),
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1


@dataclass(frozen=True, slots=True)
class FileBody(StreamEvent):
    """A part of a file, as a piece of a body."""

    part: FilePart


class HttpStream(HTTPStream):
    """A request and its answer, of which parts may be files."""

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """Take what the app says."""
        sent = cast("Mapping[str, object] | None", message)
        if sent is None or sent["type"] != EXTENSION:
            await super().app_send(message)
            return
        if self.state is not ASGIHTTPState.RESPONSE:
            raise UnexpectedMessageError(self.state, EXTENSION)
        part = FilePart.of(sent)
        if part and not suppress_body(self.scope["method"], int(self.response["status"])):
            await self.send(FileBody(stream_id=self.stream_id, part=part))
        if not sent.get("more_body", False):
            await super().app_send({"type": "http.response.body", "body": b"", "more_body": False})


class WebSocket(WSStream):
    """A WebSocket that agrees to no compression, and knows the code that its client closed with.

    What a client says before it is one waits for the app's word: hypercorn would answer at once, and
    so perhaps twice.
    """

    _close_code: int | None = None
    _decided: trio.Event

    async def handle(self, event: StreamEvent) -> None:
        """Take in what the client sent."""
        if isinstance(event, Request):
            self._decided = trio.Event()
            headers = [each for each in event.headers if each[0] != b"sec-websocket-extensions"]
            event = dataclasses.replace(event, headers=headers)
        elif isinstance(event, Body | Data) and not self.closed and not self.handshake.accepted:
            await self._decided.wait()
            if not self.handshake.accepted:
                return
        elif isinstance(event, StreamClosed) and self.app_put is not None:
            self.app_put = _with_code(self.app_put, self._close_code)
        await super().handle(event)

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """Take what the app says."""
        try:
            await super().app_send(message)
        finally:
            if message is None or message["type"] != "websocket.http.response.start":
                self._decided.set()

    async def go_away(self) -> None:
        """Tell the client that the server ends; it closes then, and the app hears of that."""
        if self.handshake.accepted and not self.closed:
            await self._send_wsproto_event(CloseConnection(code=CloseReason.GOING_AWAY))

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        await super()._accept(message)
        self.connection = cast(wsproto.connection.Connection, _Watched(self.connection, self))

    def note(self, event: WebSocketEvent) -> None:
        """Remember the code of a close."""
        if isinstance(event, CloseConnection):
            self._close_code = int(event.code)


class _Watched:
    """A connection of wsproto whose events are shown to the stream first."""

    def __init__(self, connection: wsproto.connection.Connection, stream: WebSocket) -> None:
        self._connection = connection
        self._stream = stream
        self.receive_data = connection.receive_data
        self.send = connection.send

    @property
    def state(self) -> wsproto.connection.ConnectionState:
        return self._connection.state

    def events(self) -> Iterator[WebSocketEvent]:
        for event in self._connection.events():
            self._stream.note(event)
            yield event


def _with_code(
    put: Callable[[ASGIReceiveEvent], Awaitable[None]], code: int | None
) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
    async def put_with_code(message: ASGIReceiveEvent) -> None:
        if message["type"] == "websocket.disconnect" and code is not None:
            message["code"] = code
        await put(message)

    return put_with_code


def _size_of(request: h11.Request) -> int:
    return len(request.target) + sum(len(name) + len(value) for name, value in request.headers)


def _asks_for_websocket(request: h11.Request) -> bool:
    values = {name: value.lower() for name, value in request.headers}
    tokens = {token.strip() for token in values.get(b"connection", b"").split(b",")}
    return (
        request.method == b"GET"
        and request.http_version == b"1.1"
        and b"upgrade" in tokens
        and values.get(b"upgrade", b"").strip() == b"websocket"
    )


def _origin_form(target: bytes) -> bytes:
    """Cut off the scheme and the authority: who is asked is who was dialed."""
    rest = _AUTHORITY.sub(b"", target, count=1) if not target.startswith(b"/") else target
    return rest if rest[:1] in (b"/", b"*") or rest == target else b"/" + rest
