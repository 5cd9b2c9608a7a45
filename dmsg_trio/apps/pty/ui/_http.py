"""HTTP as far as a terminal needs it: one request on a connection, a page or a WebSocket for it.

Hypercorn answers the other programs' requests. Here it will not do: it agrees on compression with
every browser, and does not tell with which code a browser closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import h11
import msgspec
import trio
from wsproto.utilities import generate_accept_token

from dmsg_trio._errors import RemoteProtocolError

from ._websocket import WebSocket

MAX_HEAD: Final = 16 * 1024  # bytes of a request's line and headers
READ_SIZE: Final = 16 * 1024
VERSION: Final = "13"  # of the WebSocket protocol, the only one that was ever in use

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request; of a header that comes twice, what browsers never send, the last."""

    method: str
    target: str  # path and query, as they were sent
    headers: Headers

    @property
    def path(self) -> str:
        """What is in front of the query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What is behind the path."""
        return self.target.partition("?")[2]

    @property
    def wants_websocket(self) -> bool:
        """Whether it asks to go on as a WebSocket."""
        return self.headers.get("upgrade", "").lower() == "websocket"

    @property
    def subprotocols(self) -> list[str]:
        """What the WebSocket may speak, if the client cares."""
        offered = self.headers.get("sec-websocket-protocol", "")
        return [name.strip() for name in offered.split(",") if name.strip()]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer in full."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: Headers = field(default_factory=dict)


def json_error(status: int, message: str) -> Response:
    """Make an error as the reference has it."""
    body = msgspec.json.encode({"error_code": status, "error_msg": message})
    return Response(status, body, "application/json; charset=utf-8")


def text_error(status: int, message: str) -> Response:
    """Make an error for a person to read."""
    return Response(status, f"{message}\n".encode())


class HttpConnection:
    """A stream on which one request comes, and is answered or becomes a WebSocket."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)

    async def receive_request_untrusted(self) -> Request | None:
        """Read the head of the request, None if there is none; `RemoteProtocolError` if it is bad."""
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise RemoteProtocolError(f"not HTTP: {error}") from None
            if event is h11.NEED_DATA:
                self._http.receive_data(bytes(await self._stream.receive_some(READ_SIZE)))
            elif isinstance(event, h11.Request):
                return Request(
                    event.method.decode(),
                    event.target.decode(),
                    {name.decode(): value.decode("latin-1") for name, value in event.headers},
                )
            else:
                return None

    async def respond(self, response: Response) -> None:
        """Answer, and end the connection."""
        headers = {
            "content-type": response.content_type,
            "content-length": str(len(response.body)),
            "connection": "close",
            **response.headers,
        }
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return  # there is nobody who could read it
        await self._stream.send_all(
            (
                self._http.send(
                    h11.Response(status_code=response.status, headers=[*headers.items()])
                )
                or b""
            )
            + (self._http.send(h11.Data(data=response.body)) or b"")
            + (self._http.send(h11.EndOfMessage()) or b"")
        )
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()

    async def upgrade(self, request: Request, subprotocol: str | None) -> WebSocket:
        """Go on as a WebSocket, which `upgrade_fault` found nothing against."""
        headers = {
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-accept": generate_accept_token(
                request.headers["sec-websocket-key"].encode()
            ).decode(),
        }
        if subprotocol is not None:
            headers["sec-websocket-protocol"] = subprotocol
        while self._http.next_event() is not h11.PAUSED:
            pass  # the end of a request without a body
        data = self._http.send(
            h11.InformationalResponse(status_code=101, headers=[*headers.items()])
        )
        await self._stream.send_all(data or b"")
        return WebSocket(self._stream, self._http.trailing_data[0])


def upgrade_fault(request: Request) -> Response | None:
    """Say what is wrong with a request for a WebSocket, None if nothing is."""
    if request.headers.get("sec-websocket-version") != VERSION:
        response = text_error(426, f"only version {VERSION} of the WebSocket protocol is spoken")
        return Response(
            426, response.body, headers={"sec-websocket-version": VERSION, "upgrade": "websocket"}
        )
    connection = request.headers.get("connection", "").lower().split(",")
    if "upgrade" not in [token.strip() for token in connection]:
        return text_error(400, "the header Connection does not say Upgrade")
    if len(request.headers.get("sec-websocket-key", "")) != 24:
        return text_error(400, "the header Sec-WebSocket-Key is missing or malformed")
    if "content-length" in request.headers or "transfer-encoding" in request.headers:
        return text_error(400, "a request for a WebSocket has no body")
    return None
