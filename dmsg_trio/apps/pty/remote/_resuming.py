"""A remote shell over shell/1, which outlives the streams that carry it.

One task dials, attaches and reads for as long as it takes; while a stream is there, another one
writes what is due by then. The reader never waits for who iterates over the events: the host sends
only so much ahead.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

import trio

from dmsg_trio._errors import DmsgError, RemoteProtocolError
from dmsg_trio._net.backoff import Backoff
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.wakeup import Wakeup
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import (
    MAX_PAYLOAD,
    OUTPUT_WINDOW,
    Attach,
    Detach,
    Detached,
    Done,
    EndOfInput,
    Errors,
    Event,
    Exited,
    HangUp,
    Input,
    List,
    Output,
    Received,
    Refused,
    Resize,
    SessionInfo,
    Sessions,
    ShellReader,
    Signal,
    Start,
    Started,
    Taken,
    TakenOver,
    Violated,
    encode,
)
from dmsg_trio.apps.pty._output_log import OutputLog

from ._pending_input import PendingInput
from ._remote import (
    AttachedAgain,
    CommandEnded,
    ConnectionLost,
    Dial,
    Ending,
    GivenUp,
    RemoteEvent,
    ShellRefusedError,
    Wanted,
)

ACKNOWLEDGE_EVERY: Final = 64 * 1024  # bytes of output
LEAVE_WITHIN: Final = 2  # seconds
FIRST_DELAY: Final = 0.2  # seconds: somebody sits there and waits
LONGEST_DELAY: Final = 5.0
MAX_SIGNALS: Final = 16  # that wait for a stream
LOSSES: Final = (DmsgError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)


@asynccontextmanager
async def open_resuming_shell(dial: Dial, wanted: Wanted) -> AsyncIterator[ResumingShell]:
    """Start a command; raises `ShellRefusedError`, or what ``dial`` raises the first time."""
    start = Start(
        session=secrets.token_hex(16),
        client=secrets.token_hex(16),
        attempt=0,
        keep=wanted.keep,
        argv=wanted.argv,
        terminal=wanted.terminal,
        size=wanted.size,
        env=wanted.environment,
    )
    async with _open(ResumingShell(dial, start)) as shell:
        yield shell


@asynccontextmanager
async def open_attached_shell(
    dial: Dial, session: str, size: WindowSize | None = None
) -> AsyncIterator[ResumingShell]:
    """Go on with a session that was left, or take it over; raises as `open_resuming_shell`."""
    claim = Attach(session=session, client=secrets.token_hex(16), attempt=0, size=size)
    async with _open(ResumingShell(dial, claim)) as shell:
        yield shell


@asynccontextmanager
async def _open(shell: ResumingShell) -> AsyncIterator[ResumingShell]:
    async with open_service_nursery() as nursery:
        await nursery.start(shell._run)
        shell._life.shield = True  # who is cancelled in the block still says goodbye behind it
        try:
            yield shell
        finally:
            with trio.move_on_after(LEAVE_WITHIN, shield=True):
                await shell._leave()
            shell._life.cancel()


async def list_sessions(stream: trio.abc.Stream) -> list[SessionInfo]:
    """Ask which sessions the host has for this key; raises `ShellRefusedError`."""
    await stream.send_all(encode(List()))
    reader, infos = ShellReader(client=True), list[SessionInfo]()
    while data := await stream.receive_some(MAX_PAYLOAD):
        for event in reader.receive_data(data):
            match event:
                case Sessions(sessions, more):
                    infos += sessions
                    if not more:
                        return infos
                case Refused(reason):
                    raise ShellRefusedError(reason)
                case Violated(reason):
                    raise RemoteProtocolError(reason)
    raise trio.BrokenResourceError("the stream ended within the list")


class ResumingShell:
    """A `RemoteShell` that goes on when its stream is lost."""

    cannot: tuple[str, ...] = ()

    def __init__(self, dial: Dial, claim: Start | Attach) -> None:
        self.session = claim.session
        self._dial = dial
        self._claim = claim
        self._attempt = 0
        self._keep: float = claim.keep if isinstance(claim, Start) else 0
        self._log = OutputLog()  # what nobody has read yet
        self._shown = 0  # up to there somebody is reading
        self._input = PendingInput()
        self._input_ended = False
        self._size = claim.size
        self._signals: list[str] = []
        self._notice: ConnectionLost | AttachedAgain | None = None
        self._ending: Ending | None = None
        self._ending_is_read = False
        self._is_started = False  # once at least
        self._is_attached = False  # at the moment
        self._wants_end = self._wants_detach = self._is_leaving = False
        self._acknowledged = 0
        self._unsaid: set[type[Event]] = set()  # what this stream has not been told of it
        self._finished = trio.Event()
        self._news, self._due_again, self._room = Wakeup(), Wakeup(), Wakeup()
        self._life = trio.CancelScope()
        self._until_attached = trio.CancelScope()

    # ---- for who uses it ----

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RemoteEvent:
        """Wait for what happens next; whoever asks is done with the last."""
        await trio.lowlevel.checkpoint()
        if self._shown > self._log.start:
            self._log.forget(self._shown)
            self._due_again.wake()
        if self._ending_is_read:
            raise StopAsyncIteration
        while True:
            if self._notice is not None:
                notice, self._notice = self._notice, None
                return notice
            if (piece := self._log.read(self._log.start)) is not None:
                self._shown = self._log.start + len(piece.data)
                return piece
            if self._ending is not None:
                self._ending_is_read = True
                self._due_again.wake()
                return self._ending
            await self._news.wait()

    async def send_input(self, data: bytes) -> None:
        """Send input; `trio.BrokenResourceError` if nobody is there any more to read it."""
        await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        while rest:
            if self._ending is not None or self._input_ended:
                raise trio.BrokenResourceError("the command takes no input any more")
            if (room := self._input.room) <= 0:
                await self._room.wait()
                continue
            self._input.put(rest[:room])
            rest = rest[room:]
            self._due_again.wake()

    async def end_input(self) -> None:
        """Let the command read the end of its input."""
        self._input_ended = True
        self._say(EndOfInput)
        await trio.lowlevel.checkpoint()

    async def resize(self, size: WindowSize) -> None:
        """Change the size of the terminal, now or when there is a stream again."""
        self._size = size
        self._say(Resize)
        await trio.lowlevel.checkpoint()

    async def signal(self, name: str) -> None:
        """Signal the command, once at most: what was lost with a stream is not repeated."""
        self._signals = [*self._signals, Signal(name).name][-MAX_SIGNALS:]
        self._say(Signal)
        await trio.lowlevel.checkpoint()

    async def detach(self) -> None:
        """Let the command live on; the iteration ends with `Detached`."""
        self._wants_detach = True
        self._say(Detach)
        await trio.lowlevel.checkpoint()

    async def hang_up(self) -> None:
        """End the command; the iteration says how that went."""
        self._wants_end = True
        self._say(HangUp)
        await trio.lowlevel.checkpoint()

    def _say(self, event: type[Event]) -> None:
        self._unsaid.add(event)
        self._due_again.wake()

    async def _leave(self) -> None:
        """End the command if that has not ended, as far as the host can be told."""
        if self._is_attached:
            self._is_leaving = True
            if self._ending is None:
                self._wants_end = True
                self._say(HangUp)
            self._due_again.wake()
            await self._finished.wait()

    # ---- one stream after the other ----

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self._life:
            await self._live(task_status)

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        backoff, lost_at, reason = Backoff(FIRST_DELAY, LONGEST_DELAY), math.inf, "no answer"
        while True:
            with trio.CancelScope(deadline=lost_at + self._keep) as self._until_attached:
                try:
                    await self._use_stream(task_status)
                    reason = "the stream ended"
                except (ShellRefusedError, RemoteProtocolError) as error:
                    if not self._is_started:
                        raise
                    self._end(GivenUp(str(error)))
                except LOSSES as error:
                    if not self._attempt:
                        raise  # it was never reached
                    reason = str(error) or type(error).__name__
            was_attached, self._is_attached = self._is_attached, False
            if self._ending is not None or self._is_leaving:
                break
            if was_attached or lost_at == math.inf:
                backoff.reset()
                lost_at = trio.current_time()
                if self._keep:
                    self._tell(ConnectionLost(reason))
            if (left := lost_at + self._keep - trio.current_time()) <= 0:
                if not self._is_started:
                    raise trio.BrokenResourceError(reason)
                self._end(GivenUp(reason))
                break
            await trio.sleep(min(backoff.next_delay(), left))
        if not self._is_started:
            task_status.started()
        self._finished.set()

    async def _use_stream(self, task_status: trio.TaskStatus[None]) -> None:
        stream = await self._dial()
        try:
            claim = self._next_claim()
            await stream.send_all(encode(claim))
            async with open_service_nursery() as nursery:
                reader = ShellReader(client=True)
                while data := await stream.receive_some(MAX_PAYLOAD):
                    for event in reader.receive_data(data):
                        if isinstance(event, Started):
                            self._on_started(event, claim)
                            nursery.start_soon(self._send, stream)
                            if not self._is_started:
                                self._is_started = True
                                task_status.started()
                        else:
                            self._on_event(event)
                    if self._ending is not None and not isinstance(self._ending, CommandEnded):
                        return
        finally:
            await trio.aclose_forcefully(stream)

    def _next_claim(self) -> Start | Attach:
        """Say who we are; as long as the first claim was not answered it is made again."""
        attempt, self._attempt = self._attempt, self._attempt + 1
        claim = self._claim
        if not self._is_started and isinstance(claim, Start):
            return Start(
                session=claim.session,
                client=claim.client,
                attempt=attempt,
                keep=claim.keep,
                argv=claim.argv,
                terminal=claim.terminal,
                size=self._size,
                env=claim.env,
            )
        return Attach(
            session=claim.session,
            client=claim.client,
            attempt=attempt,
            output=self._log.end if self._is_started else None,
            size=self._size,
        )

    # ---- in ----

    def _on_started(self, started: Started, claim: Start | Attach) -> None:
        if self._is_attached:
            raise RemoteProtocolError("STARTED twice on one stream")
        if not self._is_started:
            self._log = OutputLog(started.output)
            self._input.begin(started)
            self._input_ended = started.input_ended
            self._acknowledged = started.output
        else:
            if started.output != self._log.end:
                raise RemoteProtocolError(
                    f"output from byte {started.output} on, not from {self._log.end}"
                )
            self._input.go_on(started)
            self._tell(AttachedAgain())
        self._keep = started.keep
        self._is_attached = True
        self._until_attached.deadline = math.inf
        self._unsaid |= {
            event
            for event, is_due in (
                (EndOfInput, self._input_ended),
                (HangUp, self._wants_end),
                (Detach, self._wants_detach),
                (Resize, self._size != claim.size),
                # What was said of it on the stream before may be lost, and the host wait for it.
                (Received, self._is_started),
            )
            if is_due
        }
        self._room.wake()

    def _on_event(self, event: Event | Violated) -> None:
        match event:
            case Refused(reason, code):
                if self._is_attached:
                    raise RemoteProtocolError(f"the host found fault with us: {reason}")
                raise ShellRefusedError(reason, code)
            case TakenOver():
                self._end(event)
            case Violated(reason):
                raise RemoteProtocolError(reason)
            case _ if not self._is_attached:
                raise RemoteProtocolError(f"{type(event).__name__} before STARTED")
            case Output() | Errors():
                self._on_output(event)
            case Taken(count):
                self._input.take(count)
                self._room.wake()
            case Exited(code, signal):
                self._end(CommandEnded(code, signal))
            case Detached():
                self._end(event)
            case _:
                raise RemoteProtocolError(f"{type(event).__name__} within a session")

    def _on_output(self, piece: Output | Errors) -> None:
        ahead = self._log.end + len(piece.data) - self._acknowledged
        # Frames may be cut otherwise than the host keeps its pieces, and so cost more here.
        if ahead > OUTPUT_WINDOW or self._log.cost > 2 * OUTPUT_WINDOW:
            raise RemoteProtocolError(f"{ahead} bytes of output into a window of {OUTPUT_WINDOW}")
        self._log.append(piece)
        self._news.wake()

    def _tell(self, notice: ConnectionLost | AttachedAgain) -> None:
        self._notice = notice  # one that nobody has read is out of date
        self._news.wake()

    def _end(self, ending: Ending) -> None:
        self._ending = self._ending or ending
        self._news.wake()
        self._room.wake()
        self._due_again.wake()

    # ---- out ----

    async def _send(self, stream: trio.abc.HalfCloseableStream) -> None:
        """Write until the last word is said; what goes wrong is for the reader to notice."""
        try:
            await self._say_what_is_due(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.aclose_forcefully(stream)

    async def _say_what_is_due(self, stream: trio.abc.HalfCloseableStream) -> None:
        while True:
            events = self._due()
            if events:
                await stream.send_all(b"".join(map(encode, events)))
            if any(isinstance(event, Done) for event in events):
                await stream.send_eof()
                return
            if not events:
                await self._due_again.wait()

    def _due(self) -> list[Event]:
        """Decide what to send now: one piece of input at most."""
        events: list[Event] = []
        unsaid = self._unsaid
        if HangUp in unsaid:
            events.append(HangUp())
        if Resize in unsaid and self._size is not None:
            events.append(Resize(self._size))
        events += [Signal(name) for name in self._signals]
        self._signals = []
        if piece := self._input.next_piece():
            events.append(Input(piece))
        if EndOfInput in unsaid and self._input.is_sent:
            events.append(EndOfInput())
        read = self._log.start
        if (
            read - self._acknowledged >= ACKNOWLEDGE_EVERY
            or Received in unsaid
            or (Detach in unsaid and read > self._acknowledged)
        ):
            self._acknowledged = read
            events.append(Received(read))
        if Detach in unsaid and self._input.is_sent:
            events.append(Detach())
        if isinstance(self._ending, CommandEnded) and (self._ending_is_read or self._is_leaving):
            events.append(Done())
        unsaid -= {type(event) for event in events} | {Signal}
        return events
