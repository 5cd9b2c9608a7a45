"""One session of shell/1 as its client has it: what came of it, and what is yet to be said.

It knows no stream: `_resuming` has one after the other for it, and asks it what to write.
"""

from __future__ import annotations

from typing import Final, Self

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._net.wakeup import Wakeup
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import (
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
    Output,
    Received,
    Refused,
    Resize,
    Signal,
    Start,
    Started,
    Taken,
    TakenOver,
    Violated,
)
from dmsg_trio.apps.pty._output_log import OutputLog

from ._pending_input import PendingInput
from ._remote import (
    AttachedAgain,
    CommandEnded,
    ConnectionLost,
    Ending,
    RemoteEvent,
    ShellRefusedError,
)

ACKNOWLEDGE_EVERY: Final = 256 * 1024  # bytes of output, a quarter of the window
MAX_SIGNALS: Final = 16  # that wait for a stream


class ResumingShell:
    """A `RemoteShell` that goes on when its stream is lost."""

    cannot: tuple[str, ...] = ()

    def __init__(self, claim: Start | Attach) -> None:
        self.session = claim.session
        self.keep: float = claim.keep if isinstance(claim, Start) else 0  # seconds
        self.ending: Ending | None = None
        self.is_started = False  # once at least
        self.is_attached = False  # at the moment
        self.is_leaving = False
        self._claim = claim
        self._attempt = 0
        self._log = OutputLog()  # what nobody has read yet
        self._shown = 0  # up to there somebody is reading
        self._input = PendingInput()
        self._input_ended = False
        self._size = claim.size
        self._signals: list[str] = []
        self._notice: ConnectionLost | AttachedAgain | None = None
        self._ending_is_read = False
        self._wants_end = self._wants_detach = False
        self._acknowledged = 0
        self._unsaid: set[type[Event]] = set()  # what this stream has not been told of it
        self._news, self._due_again, self._room = Wakeup(), Wakeup(), Wakeup()

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
            if self.ending is not None:
                self._ending_is_read = True
                self._due_again.wake()
                return self.ending
            await self._news.wait()

    async def send_input(self, data: bytes) -> None:
        """Send input; `trio.BrokenResourceError` if nobody is there any more to read it."""
        await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        while rest:
            if self.ending is not None or self._input_ended:
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

    # ---- for the streams that carry it ----

    @property
    def attempts(self) -> int:
        """How often it was claimed."""
        return self._attempt

    def leave(self) -> None:
        """End the command if that has not ended, and say goodbye on the stream that is there."""
        self.is_leaving = True
        if self.ending is None:
            self._wants_end = True
            self._say(HangUp)
        self._due_again.wake()

    async def wait_due(self) -> None:
        """Wait until `due` may have something to say."""
        await self._due_again.wait()

    def next_claim(self) -> Start | Attach:
        """Say who we are; as long as the first claim was not answered it is made again."""
        attempt, self._attempt = self._attempt, self._attempt + 1
        claim = self._claim
        if not self.is_started and isinstance(claim, Start):
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
            output=self._log.end if self.is_started else None,
            size=self._size,
        )

    # ---- in ----

    def on_started(self, started: Started, claim: Start | Attach) -> None:
        """Have the session on a stream, on which ``claim`` was made; `RemoteProtocolError`."""
        if self.is_attached:
            raise RemoteProtocolError("STARTED twice on one stream")
        if not self.is_started:
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
            self.tell(AttachedAgain())
        self.keep = started.keep
        self.is_attached = True
        self._unsaid |= {
            event
            for event, is_due in (
                (EndOfInput, self._input_ended),
                (HangUp, self._wants_end),
                (Detach, self._wants_detach),
                (Resize, self._size != claim.size),
                # What was said of it on the stream before may be lost, and the host wait for it.
                (Received, self.is_started),
            )
            if is_due
        }
        self._room.wake()

    def on_event(self, event: Event | Violated) -> None:
        """Take in what the host says; `ShellRefusedError`, `RemoteProtocolError`."""
        match event:
            case Refused(reason, code):
                if self.is_attached:
                    raise RemoteProtocolError(f"the host found fault with us: {reason}")
                raise ShellRefusedError(reason, code)
            case TakenOver():
                self.end(event)
            case Violated(reason):
                raise RemoteProtocolError(reason)
            case _ if not self.is_attached:
                raise RemoteProtocolError(f"{type(event).__name__} before STARTED")
            case Output() | Errors():
                self._on_output(event)
            case Taken(count):
                self._input.take(count)
                self._room.wake()
            case Exited(code, signal):
                self.end(CommandEnded(code, signal))
            case Detached():
                self.end(event)
            case _:
                raise RemoteProtocolError(f"{type(event).__name__} within a session")

    def _on_output(self, piece: Output | Errors) -> None:
        ahead = self._log.end + len(piece.data) - self._acknowledged
        # Frames may be cut otherwise than the host keeps its pieces, and so cost more here.
        if ahead > OUTPUT_WINDOW or self._log.cost > 2 * OUTPUT_WINDOW:
            raise RemoteProtocolError(f"{ahead} bytes of output into a window of {OUTPUT_WINDOW}")
        self._log.append(piece)
        self._news.wake()

    def tell(self, notice: ConnectionLost | AttachedAgain) -> None:
        """Let who iterates know of it."""
        self._notice = notice  # one that nobody has read is out of date
        self._news.wake()

    def end(self, ending: Ending) -> None:
        """Let this be the end, if there was none before."""
        self.ending = self.ending or ending
        self._news.wake()
        self._room.wake()
        self._due_again.wake()

    # ---- out ----

    def due(self) -> list[Event]:
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
        if isinstance(self.ending, CommandEnded) and (self._ending_is_read or self.is_leaving):
            events.append(Done())
        unsaid -= {type(event) for event in events} | {Signal}
        return events
