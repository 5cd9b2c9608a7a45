"""Remote calls over a Trio stream: `open_rpc` makes them, `serve_rpc` answers them.

One task reads and one writes. Everybody else waits until the queue of the writer has room and then,
without another wait, numbers a call (or an answer) and puts it there as a whole: so calls leave in
the order of their numbers, and a call that is cancelled cannot leave half of itself behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import trio

from dmsg_trio._errors import DmsgError, RemoteProtocolError
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire import gob
from dmsg_trio._wire.rpc import (
    BadCall,
    Call,
    Failure,
    Method,
    Outcome,
    Reply,
    RpcCaller,
    RpcResponder,
)

QUEUE: Final = 128 * 1024  # unsent bytes above which calls and answers wait
CHUNK: Final = 64 * 1024  # what is read from a stream at once
LOST: Final = (trio.BrokenResourceError, trio.ClosedResourceError)  # how streams end badly

Handler: TypeAlias = Callable[[gob.Value], Awaitable[gob.Value]]
Handlers: TypeAlias = Mapping[Method, Handler]


class RpcError(DmsgError):
    """What the side that was called says against it: handlers raise it, and so does `call`."""


class RpcEndedError(DmsgError):
    """The connection ended, and with it all calls that were not answered."""


# ---- calling ----


@asynccontextmanager
async def open_rpc(stream: trio.abc.Stream) -> AsyncIterator[RpcClient]:
    """Call the other end of ``stream`` within the block; to close the stream is up to its owner."""
    client = RpcClient()
    async with open_service_nursery() as nursery:
        nursery.start_soon(client._run, stream)
        try:
            yield client
        finally:
            client._end("it was closed on this side")
            client._carrying.cancel()


class RpcClient:
    """Calls over one connection, any number at a time; made by `open_rpc`.

    An order is kept only between calls of which one was answered before the other was made.
    """

    def __init__(self) -> None:
        self._caller = RpcCaller()
        self._queue = _Queue()
        self._waiting: dict[int, _Answer] = {}
        self._answered = trio.lowlevel.ParkingLot()
        self._end_reason = ""
        # The block may have calls to make when it is cancelled: it alone ends what carries them.
        self._carrying = trio.CancelScope(shield=True)

    async def call(self, method: Method, argument: gob.Value) -> gob.Value:
        """Call ``method`` and wait for what it gives; raises `RpcError` when it fails.

        A call that is cancelled is done all the same, but nobody learns what it gave.
        """
        while True:
            self._check_running()
            if self._caller.is_full:
                await self._answered.park()
            elif self._queue.is_full:
                await self._queue.wait_for_room()
            else:
                break
        seq, data = self._caller.call(method, argument)
        answer = self._waiting[seq] = _Answer()
        self._queue.put(data)
        try:
            await answer.here.wait()
        finally:
            self._waiting.pop(seq, None)
        match answer.outcome:
            case Reply(_, value):
                return value
            case Failure(_, text):
                raise RpcError(text)
        raise self._ended()

    async def _run(self, stream: trio.abc.Stream) -> None:
        """Carry calls and answers until the connection ends, whyever it does."""
        with self._carrying:
            await self._carry(stream)

    async def _carry(self, stream: trio.abc.Stream) -> None:
        async with open_service_nursery() as nursery:
            nursery.start_soon(self._queue.drain, stream, nursery.cancel_scope)
            try:
                await self._receive(stream)
            except (*LOST, RemoteProtocolError) as error:
                self._end(str(error) or type(error).__name__)
        self._end(self._queue.fault or "the other side ended it")

    async def _receive(self, stream: trio.abc.Stream) -> None:
        while data := await stream.receive_some(CHUNK):
            for outcome in self._caller.receive_data(bytes(data)):
                if (answer := self._waiting.get(outcome.seq)) is not None:
                    answer.outcome = outcome
                    answer.here.set()
            self._answered.unpark_all()

    def _end(self, reason: str) -> None:
        """Let all calls fail, those to come too."""
        if not self._end_reason:
            self._end_reason = reason
        self._answered.unpark_all()
        self._queue.end()
        for answer in self._waiting.values():
            answer.here.set()

    def _check_running(self) -> None:
        if self._end_reason:
            raise self._ended()

    def _ended(self) -> RpcEndedError:
        return RpcEndedError(f"the connection is over: {self._end_reason}")


class _Answer:
    """Where a call waits for its answer; without an outcome there will be none."""

    def __init__(self) -> None:
        self.here = trio.Event()
        self.outcome: Outcome | None = None


# ---- answering ----


async def serve_rpc(stream: trio.abc.Stream, handlers: Handlers) -> None:
    """Answer calls until the connection ends; handlers that are not done by then are cancelled.

    Raises `RemoteProtocolError` for bytes that are no calls. To close the stream is up to its owner.
    """
    responder, queue = RpcResponder(handlers), _Queue()

    async def handle(call: Call) -> None:
        try:
            value = await handlers[call.method](call.argument)
        except RpcError as error:
            await queue.wait_for_room()
            queue.put(responder.fail(call, str(error)))
        else:
            await queue.wait_for_room()
            queue.put(responder.answer(call, value))

    async with open_service_nursery() as nursery:
        nursery.start_soon(queue.drain, stream, nursery.cancel_scope)
        while data := await _receive(stream):
            for request in responder.receive_data(data):
                match request:
                    case Call():
                        nursery.start_soon(handle, request)
                    case BadCall():
                        queue.put(responder.refuse(request))
            # Who floods us and does not read the answers is not read any more.
            await queue.wait_for_room()


async def _receive(stream: trio.abc.ReceiveStream) -> bytes:
    """Receive the next bytes; a connection that broke has none any more."""
    try:
        return bytes(await stream.receive_some(CHUNK))
    except LOST:
        return b""


# ---- both ----


class _Queue:
    """What one task has still to write to a stream."""

    def __init__(self) -> None:
        self._unsent = bytearray()
        self._more = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._ended = False
        self.fault = ""  # why nothing can be written any more

    @property
    def is_full(self) -> bool:
        return len(self._unsent) > QUEUE and not self._ended

    async def wait_for_room(self) -> None:
        while self.is_full:
            await self._room.park()

    def put(self, data: bytes) -> None:
        """Leave ``data`` to the writer, behind all that was left before."""
        self._unsent += data
        self._more.unpark()

    async def drain(self, stream: trio.abc.SendStream, scope: trio.CancelScope) -> None:
        """Write what comes until cancelled; cancel ``scope`` when nothing can be written any more."""
        try:
            while True:
                while not self._unsent:
                    await self._more.park()
                data = bytes(self._unsent)
                self._unsent.clear()
                self._room.unpark_all()
                await stream.send_all(data)
        except LOST as error:
            self.fault = str(error) or type(error).__name__
            scope.cancel()

    def end(self) -> None:
        """Keep nobody waiting: there is no writer any more."""
        self._ended = True
        self._room.unpark_all()
