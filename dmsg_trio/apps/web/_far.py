"""Connections to those who answer: used again while both sides allow it."""

from __future__ import annotations

import select
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final, cast

import h11
import trio

from dmsg_trio._net.carrying import receive_to, reset_when_closed
from dmsg_trio._net.stream import RECEIVE_SIZE
from dmsg_trio.client import DmsgStream
from dmsg_trio.http._bodies import Body, Piece, body_of

from ._errors import said_of
from ._near import MAX_HEAD
from ._near import RECEIVE_SIZE as READ_SIZE

MAX_IDLE: Final = 128  # connections that wait for another request, to all targets together
KEEP_TIME: Final = 15.0  # seconds that one waits; servers often keep 30


class FarError(Exception):
    """Whoever should answer broke off, or answers something else than HTTP."""


class Far:
    """The side of a connection to which requests go."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self.reused = False
        self.begin()

    def begin(self) -> None:
        """Be ready for a request, and hold nothing of the one before."""
        self._memory: memoryview | None = None  # for long bodies
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._method = b""
        self._body: Body | None = None  # once the answer's head is there
        self.heard = False  # something of an answer came

    async def send(self, *events: h11.Event) -> None:
        """Send pieces of a request; `FarError` if nobody takes them."""
        for event in events:
            if isinstance(event, h11.Request):
                self._method = event.method
        data = b"".join([self._http.send(event) or b"" for event in events])
        if not data:
            return
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise FarError(str(error) or "the connection broke") from error

    def next_event_nowait(self) -> h11.Event | None:
        """Give the next piece of the answer, good until the next `receive`; None if that is needed."""
        with _errors_of_far():
            if self._body is not None:
                return _event_of(self._body)
            event = self._http.next_event()
        if isinstance(event, h11.Response):
            self._body = body_of(self._http, self._method, event)
        if event is h11.NEED_DATA or event is h11.PAUSED:
            return None
        if isinstance(event, h11.ConnectionClosed):
            raise FarError("it ended the connection without an answer")
        return cast(h11.Event, event)

    async def receive(self) -> None:
        """Wait for more of the answer."""
        try:
            data = await self._receive()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise FarError(str(error) or "the connection broke") from error
        self.heard = self.heard or bool(data)
        with _errors_of_far():
            if self._body is None:
                self._http.receive_data(cast(bytes, data))
            else:
                self._body.receive(data)

    async def _receive(self) -> Piece:
        if self._body is None or not self._body.may_be_long:
            return bytes(await self.stream.receive_some(READ_SIZE))
        if self._memory is None:
            self._memory = memoryview(bytearray(RECEIVE_SIZE))
        return await receive_to(self.stream, self._memory)

    def take_rest(self) -> bytes:
        """Take what came behind the answer: bytes of another protocol."""
        return self._http.trailing_data[0]

    @property
    def may_be_used_again(self) -> bool:
        """Whether both sides are done, and nothing came that nobody asked for."""
        body = self._body
        is_over = body is not None and body.is_complete and not body.has_surplus
        return is_over and self._http.our_state is h11.DONE  # and nobody has announced an end

    def reset(self) -> None:
        """Let the other side see that nobody waits for the rest."""
        reset_when_closed(self.stream)


def _event_of(body: Body) -> h11.Data | h11.EndOfMessage | None:
    if piece := body.take():
        return h11.Data(data=cast(bytes, piece))  # h11 only asks for its length
    return h11.EndOfMessage() if body.is_complete else None


@contextmanager
def _errors_of_far() -> Iterator[None]:
    try:
        yield
    except h11.RemoteProtocolError as error:
        raise FarError(f"what it answers is not HTTP: {said_of(error)}") from error


@dataclass(frozen=True, slots=True)
class _Idle:
    key: Hashable
    far: Far
    until: float


class Pool:
    """Connections without a request."""

    def __init__(self) -> None:
        self._idle: OrderedDict[int, _Idle] = OrderedDict()  # the oldest first
        self._numbers = count()
        self._is_over = False

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, key: Hashable) -> Far | None:
        """Give a connection to the same target, the youngest one that is still good."""
        for number in reversed([each for each, idle in self._idle.items() if idle.key == key]):
            far = self._idle.pop(number).far
            if not _has_ended(far.stream):
                far.reused = True
                return far
            far.reset()
        return None

    async def put(self, key: Hashable, far: Far) -> None:
        """Keep a connection for another request."""
        far.begin()
        self._idle[next(self._numbers)] = _Idle(key, far, trio.current_time() + KEEP_TIME)
        if len(self._idle) > MAX_IDLE or self._is_over:
            await self._end_oldest()

    async def run(self) -> None:
        """End what nobody uses, until cancelled; then all of it."""
        try:
            while True:
                await trio.sleep(KEEP_TIME / 4)
                now = trio.current_time()
                while self._idle and next(iter(self._idle.values())).until <= now:
                    await self._end_oldest()
        finally:
            self._is_over = True
            with trio.CancelScope(shield=True):
                while self._idle:
                    await self._end_oldest()

    async def _end_oldest(self) -> None:
        _, idle = self._idle.popitem(last=False)
        await trio.aclose_forcefully(idle.far.stream)


def _has_ended(stream: trio.abc.Stream) -> bool:
    """Tell whether anything came on a connection that should be silent: an end, most often."""
    if isinstance(stream, DmsgStream):
        return stream.is_ready
    if isinstance(stream, trio.SocketStream):
        poll = select.poll()
        poll.register(stream.socket.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    return True
