"""WebSockets on a Trio stream, once the handshake is done.

No extension is ever agreed on, compression least of all: what a shell shows must not be guessable
from how well it compresses. The code with which the other side closes is kept, since it tells a tab
that was closed from a network that is gone.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import trio
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, TextMessage
from wsproto.events import Event as WebSocketEvent
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from dmsg_trio._errors import DmsgError

MAX_MESSAGE: Final = 1024 * 1024  # bytes or characters of one message that comes in
READ_SIZE: Final = 64 * 1024
CLOSE_TIME: Final = 2.0  # seconds to say goodbye

NORMAL: Final = 1000
GOING_AWAY: Final = 1001  # what a browser says for a tab that is closed or leaves the page
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED: Final = 1003
ABNORMAL: Final = 1006  # never on the wire: the connection broke
POLICY: Final = 1008
TOO_BIG: Final = 1009


class WebSocketClosedError(DmsgError):
    """The other side closed the WebSocket, or it broke; ``code`` is of RFC 6455."""

    def __init__(self, code: int, reason: str = "") -> None:
        self.code = code
        super().__init__(f"the WebSocket was closed with {code} {reason}".rstrip())


class WebSocket:
    """One end of a WebSocket; one task receives, any number of tasks send."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        received: bytes = b"",
        *,
        end: ConnectionType = ConnectionType.SERVER,
    ) -> None:
        self._stream = stream
        self._connection = Connection(end, trailing_data=received)
        self._events = iter(self._connection.events())
        self._sending = trio.Lock()
        self.last_heard = trio.current_time()

    # ---- out ----

    async def send(self, data: str | bytes) -> None:
        """Send a text or a binary message; `WebSocketClosedError` if nobody takes it."""
        message: WebSocketEvent
        message = TextMessage(data=data) if isinstance(data, str) else BytesMessage(data=data)
        await self._send(message)

    async def ping(self) -> None:
        """Ask for a pong, which browsers send even for pages that sleep."""
        await self._send(Ping())

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Say goodbye, once, within `CLOSE_TIME`; and close the stream."""
        with trio.CancelScope(shield=True) as scope:
            scope.deadline = trio.current_time() + CLOSE_TIME
            try:
                await self._send(CloseConnection(code=code, reason=reason[:120] or None))
                while True:
                    await self.receive()
            except WebSocketClosedError:
                pass
        await self.abort()

    async def abort(self) -> None:
        """Break the connection; whoever receives is told."""
        await trio.aclose_forcefully(self._stream)

    async def _send(self, event: WebSocketEvent) -> None:
        async with self._sending:
            try:
                await self._stream.send_all(self._connection.send(event))
            except (trio.BrokenResourceError, trio.ClosedResourceError, LocalProtocolError):
                raise WebSocketClosedError(ABNORMAL) from None

    # ---- in ----

    async def receive(self) -> str | bytes:
        """Receive a whole message; `WebSocketClosedError` when no other comes."""
        pieces: list[str | bytes] = []
        size = 0
        while True:
            event = await self._next_event_untrusted()
            match event:
                case Message():
                    pieces.append(event.data)
                    size += len(event.data)
                    if size > MAX_MESSAGE:
                        await self._refuse(TOO_BIG, f"a message of more than {MAX_MESSAGE} bytes")
                    if event.message_finished:
                        return _joined(pieces, text=isinstance(event, TextMessage))
                case Ping():
                    await self._send(event.response())
                case CloseConnection(code=code, reason=reason):
                    if self._connection.state is ConnectionState.OPEN:  # they were no frames
                        await self._refuse(int(code), reason or "")
                    if self._connection.state is ConnectionState.REMOTE_CLOSING:
                        with suppress(WebSocketClosedError):  # a code that came is what counts
                            await self._send(event.response())
                    raise WebSocketClosedError(int(code), reason or "")

    async def _next_event_untrusted(self) -> WebSocketEvent:
        while True:
            try:
                for event in self._events:
                    return event
                if self._connection.state is ConnectionState.CLOSED:
                    raise WebSocketClosedError(ABNORMAL)
                data = await self._stream.receive_some(READ_SIZE)
                self.last_heard = trio.current_time()
                self._connection.receive_data(bytes(data) or None)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise WebSocketClosedError(ABNORMAL) from None
            except RemoteProtocolError as error:
                await self._refuse(PROTOCOL_ERROR, str(error))
            self._events = iter(self._connection.events())

    async def _refuse(self, code: int, reason: str) -> None:
        with trio.move_on_after(CLOSE_TIME):
            await self._send(CloseConnection(code=code, reason=reason[:120]))
        raise WebSocketClosedError(code, reason)


def _joined(pieces: list[str | bytes], *, text: bool) -> str | bytes:
    if text:
        return "".join(piece for piece in pieces if isinstance(piece, str))
    return b"".join(piece for piece in pieces if not isinstance(piece, str))
