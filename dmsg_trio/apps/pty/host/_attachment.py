"""One stream of shell/1 on its host: it shows a session to a client, and tells it what that says.

One task reads and one writes. The writer looks at the session for what is due, and so needs no
queue: however slow a client is, nothing piles up for it here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.resettable import ResettableStream
from dmsg_trio._net.wakeup import Wakeup
from dmsg_trio._wire.shell import (
    MAX_PAYLOAD,
    Detach,
    Detached,
    Done,
    EndOfInput,
    Event,
    Exited,
    HangUp,
    Input,
    Received,
    Refused,
    Resize,
    ShellReader,
    Signal,
    Started,
    Taken,
    TakenOver,
    Violated,
    encode,
)
from dmsg_trio.apps.pty._output_log import PIECES_AT_ONCE

from ._shell_session import ShellSession

FAREWELL: Final = 2  # seconds that a client has to read the last word


class Attachment:
    """Shows ``session`` from ``output`` on; a `Viewer`."""

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        reader: ShellReader,
        session: ShellSession,
        output: int,
    ) -> None:
        self._stream = stream
        self._reader = reader
        self._session = session
        self._sent = output
        self._told_taken = session.taken
        self._is_started = False
        self._told_exit = False
        self._last_word: Refused | TakenOver | Detached | None = None
        self._is_done = False
        self._wakeup = Wakeup()
        self._scope = trio.CancelScope()
        self._is_reset = False

    async def run(self, events: Iterable[Event | Violated]) -> None:
        """Serve the client until one side ends; ``events`` were read already."""
        try:
            with self._scope:
                async with open_service_nursery() as nursery:
                    nursery.start_soon(self._send)
                    self._take(events)
                    await self._receive()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # a stream may be lost: that is what sessions are for
        finally:
            self._session.leave(self)
        if self._is_reset:
            await _reset(self._stream)

    # ---- as a viewer ----

    def wake(self) -> None:
        self._wakeup.wake()

    def supersede(self) -> None:
        self._say_last(TakenOver())

    def cut(self, *, reset: bool = False) -> None:
        self._is_reset = self._is_reset or reset
        self._scope.cancel()

    def _say_last(self, word: Refused | TakenOver | Detached) -> None:
        if self._last_word is None:
            self._last_word = word
            # It may be a dead stream on which nobody would ever read the word.
            self._scope.deadline = trio.current_time() + FAREWELL
            self._wakeup.wake()

    # ---- out ----

    async def _send(self) -> None:
        """Write until the last word is said; what goes wrong is for the reader to notice."""
        try:
            await self._say_what_is_due()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.aclose_forcefully(self._stream)

    async def _say_what_is_due(self) -> None:
        while True:
            if data := self._due():
                await self._stream.send_all(data)
            elif self._last_word is not None:
                await self._stream.send_eof()
                return
            else:
                await self._wakeup.wait()

    def _due(self) -> bytes:
        """Decide what to send now: a few pieces of output at most, and numbers before them."""
        session = self._session
        if self._last_word is not None:
            word, self._is_done = (None if self._is_done else self._last_word), True
            return encode(word) if word else b""
        frames: list[bytes] = []
        if not self._is_started:
            self._is_started = True
            self._told_taken = session.taken
            frames.append(encode(self._started()))
        if self._told_taken != session.taken:
            self._told_taken = session.taken
            frames.append(encode(Taken(session.taken)))
        for _ in range(PIECES_AT_ONCE):
            if (piece := session.log.read(self._sent)) is None:
                break
            self._sent += len(piece.data)
            frames.append(encode(piece))
        if self._sent == session.log.end and session.exit is not None and not self._told_exit:
            self._told_exit = True
            frames.append(encode(Exited(session.exit.code, session.exit.signal)))
        return b"".join(frames)

    def _started(self) -> Started:
        session = self._session
        return Started(
            session=session.asked.session,
            input=session.received,
            taken=session.taken,
            output=self._sent,
            keep=session.patience.keep,
            input_ended=session.input_ended,
        )

    # ---- in ----

    async def _receive(self) -> None:
        while data := await self._stream.receive_some(MAX_PAYLOAD):
            self._take(self._reader.receive_data(data))

    def _take(self, events: Iterable[Event | Violated]) -> None:
        for event in events:
            if self._last_word is not None:
                return  # whatever it says now, it has the session no more
            try:
                self._obey(event)
            except RemoteProtocolError as error:
                self._session.leave(self)
                self._say_last(Refused(str(error)))

    def _obey(self, event: Event | Violated) -> None:
        session = self._session
        match event:
            case Input(data):
                session.take_input(data)
            case EndOfInput():
                session.end_input()
            case Received(count):
                if count > self._sent:
                    raise RemoteProtocolError(f"{count} bytes received, {self._sent} were sent")
                session.acknowledge(count)
            case Resize(size):
                session.resize(size)
            case Signal(name):
                session.signal(name)
            case Detach():
                session.leave(self, detach=True)
                self._say_last(Detached(session.patience.detached))
            case HangUp():
                session.abandon("its client hung up")
            case Done():
                if not self._told_exit:
                    raise RemoteProtocolError("done before the exit was told")
                session.forget()
            case Violated(reason):
                raise RemoteProtocolError(reason)
            case _:
                raise RemoteProtocolError(f"{type(event).__name__} on a stream that has a session")


async def _reset(stream: trio.abc.HalfCloseableStream) -> None:
    if isinstance(stream, ResettableStream):
        stream.reset()
    else:
        await trio.aclose_forcefully(stream)
