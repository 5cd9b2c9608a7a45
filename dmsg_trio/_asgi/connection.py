"""One connection of HTTP: bytes between a Trio stream and hypercorn's rules, with limits on time.

One task reads. It is ended by its cancel scope alone, whose deadline is the limit that holds at the
time. Answers are sent by the tasks of the app, piece by piece: each piece has its own time, so a
long answer to a slow client is fine, and one that stalls is not.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState

from dmsg_trio._net.resettable import ResettableStream

from .apps import Apps, ClientGoneError
from .files import PIECE
from .protocol import FileData, Http11, WebSocket

WRITE_TIMEOUT: Final = 30.0  # seconds for a piece of an answer; the reader has stalled by then
REQUEST_TIME: Final = 30.0  # seconds from the last byte sent until a request is there
BODY_TIME: Final = 120.0  # seconds between two pieces of a long request
MAX_FILE_READERS: Final = 8  # threads that wait for a disk
LINGER_TIME: Final = 2.0  # seconds for who still sends to see the answer
RECEIVE_SIZE: Final = 256 * 1024

HttpAddress = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Service:
    """What the connections of a listener have in common.

    ``patient`` says that `request_time` is for the head of a request alone, and everything after it
    may take as long as it moves; else it is for all of the request, and for the app.
    """

    app: AppWrapper
    config: Config
    context: WorkerContext
    state: LifespanState
    server_address: HttpAddress | None
    request_time: float
    patient: bool
    websockets: bool
    file_readers: trio.CapacityLimiter = field(
        default_factory=lambda: trio.CapacityLimiter(MAX_FILE_READERS)
    )


class Connection:
    """Serves the requests that come on ``stream``, one after the other."""

    def __init__(self, service: Service, stream: trio.abc.Stream, address: HttpAddress) -> None:
        self._service = service
        self._stream = stream
        self._apps = Apps()
        self._http = Http11(
            *(service.app, service.config, service.context, self._apps),
            client=address,
            server=service.server_address,
            state=ConnectionState(service.state),
            send=self._take,
            websockets=service.websockets,
        )
        self._reading = trio.CancelScope()
        self._receives = False
        self._last_sent = trio.current_time()
        self._sending = trio.Lock()
        self._gone = False  # nothing can be sent any more
        self._linger_until: float | None = None  # set when the last answer was sent too early

    async def run(self) -> None:
        """Serve until one side ends; the stream is closed then."""
        try:
            async with self._apps:
                with self._reading:
                    await self._read()
                if self._timed_out:
                    await self._drop()
                await self._http.handle(Closed())
        finally:
            if self._http.is_mid_answer:
                await self._drop()  # or the client might take what it has for all of it
            await self._stream.aclose()

    async def drain(self) -> None:
        """End now if nothing is under way, and else as soon as that is answered."""
        if self._http.awaits_request:
            self._reading.cancel()
        elif isinstance(self._http.stream, WebSocket):
            await self._http.stream.go_away()

    # ---- in ----

    async def _read(self) -> None:
        try:
            while True:
                data = await self._receive()
                if self._linger_until is None:
                    await self._http.handle(RawData(bytes(data)))
                if not data:
                    return
        except (trio.BrokenResourceError, trio.ClosedResourceError, ClientGoneError):
            self._gone = True

    async def _receive(self) -> bytes | bytearray:
        self._receives = True
        self._renew()
        data = await self._stream.receive_some(RECEIVE_SIZE)
        self._receives = False
        self._renew()
        return data

    def _renew(self) -> None:
        self._reading.deadline = self._deadline()

    def _deadline(self) -> float:
        if self._linger_until is not None:
            return self._linger_until
        if self._http.awaits_request or not self._service.patient:
            return self._last_sent + self._service.request_time
        if self._receives and self._http.awaits_body:
            return trio.current_time() + BODY_TIME
        return math.inf

    @property
    def _timed_out(self) -> bool:
        late = trio.current_time() >= self._reading.deadline
        return late and self._linger_until is None and not self._http.awaits_request

    # ---- out ----

    async def _take(self, event: Event) -> None:
        """Do what hypercorn decided."""
        match event:
            case RawData(data=data):
                if data or self._gone:
                    await self._send(_pieces_of(data))
            case FileData(part=part):
                await self._send(part.pieces(self._service.file_readers))
            case Closed():
                await self._end()
        self._renew()

    async def _send(self, pieces: AsyncGenerator[memoryview]) -> None:
        async with self._sending, aclosing(pieces):
            if self._gone:
                raise ClientGoneError("the client has gone")
            self._gone = True  # unless all of it is sent: nothing can follow half a piece
            try:
                async for piece in pieces:
                    with trio.fail_after(WRITE_TIMEOUT):
                        await self._stream.send_all(piece)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
                await self._drop()
                raise ClientGoneError(f"the client has gone: {error}") from error
            self._gone = False
            self._last_sent = trio.current_time()

    # ---- the end ----

    async def _end(self) -> None:
        """Answer nothing more; who has not finished asking gets time to see the last answer."""
        if self._http.awaits_body and not self._http.is_mid_answer and not self._gone:
            self._linger_until = trio.current_time() + LINGER_TIME
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                try:
                    await self._stream.send_eof()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._reading.cancel()
        else:
            self._reading.cancel()

    async def _drop(self) -> None:
        """Let the client see that something went wrong."""
        self._gone = True
        self._reading.cancel()
        if isinstance(self._stream, ResettableStream):
            self._stream.reset()
        else:
            await trio.aclose_forcefully(self._stream)


async def _pieces_of(data: bytes) -> AsyncGenerator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(data), PIECE):
        yield view[start : start + PIECE]
