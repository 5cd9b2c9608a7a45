"""One session of shell/1 on its host: a command, and what its clients have yet to hear of it.

A session runs without any client as well as with one. It never waits for a stream: it keeps output
up to a limit, and reads no more while that is reached.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.wakeup import Wakeup
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import INPUT_WINDOW, MAX_PAYLOAD, Attach, Refused, SessionInfo, Start
from dmsg_trio.apps.pty._output_log import OutputLog
from dmsg_trio.apps.pty.process import Exit, StartError

from ._audit import AuditedSession
from ._launch import Launch, Running, exit_code_of

LAST_WORDS: Final = 60  # seconds without progress after which a client is not waited for any more
ATTACH_WITHIN: Final = 30  # seconds, for the stream that asked for the session
LISTED_CHARACTERS: Final = 1024  # of a command in a list of sessions
SIGNALS: Final = frozenset(
    [
        *("HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "ALRM"),
        *("TERM", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "WINCH"),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a session lives without a sign of life, in seconds."""

    keep: int  # after its stream was lost
    detached: int  # after its client said that it leaves
    idle: float = math.inf  # without a byte either way


class Viewer(Protocol):
    """Who has the session at the moment."""

    def wake(self) -> None:
        """Look at the session: something is new."""
        ...

    def supersede(self) -> None:
        """Another one has the session now."""
        ...

    def cut(self, *, reset: bool = False) -> None:
        """End at once."""
        ...


class ShellSession:
    """A command and all that is to be known of it; its state changes between two awaits only."""

    def __init__(
        self, pk: PublicKey | None, asked: Start, patience: Patience, started: int
    ) -> None:
        self.pk = pk
        self.asked = asked
        self.started = started  # seconds since 1970
        self.begun = trio.Event()  # it runs, or it failed to
        self.failure: Refused | None = None
        self.exit: Exit | None = None
        self.log = OutputLog()
        self.received = 0  # bytes of input that came in
        self.taken = 0  # bytes of those that the command has
        self.input_ended = False
        self.viewer: Viewer | None = None
        self.patience = patience
        self._input = bytearray()
        self._client, self._attempt = asked.client, -1
        # How many seconds it may be without a viewer: who asked for it is not there yet.
        self._alone_for: float = max(patience.keep, ATTACH_WITHIN)
        self._last_sign = self._alone_since = trio.current_time()
        self._process: Running | None = None
        self._reading = trio.CancelScope()
        self._end_reason = ""
        self._is_forgotten = False
        self._more_input, self._room, self._changed = Wakeup(), Wakeup(), Wakeup()

    # ---- the command's life ----

    async def run(self, launch: Launch, audited: AuditedSession) -> None:
        """Run the command to its end, whoever looks on."""
        try:
            async with launch(self.asked) as process:
                self._process = process
                self._alone_since = trio.current_time()
                self.begun.set()
                try:
                    self.exit = await self._run(process)
                finally:
                    self._process = None
                    self._note(audited)
                    self._tell()
        except StartError as error:
            self.failure = Refused(str(error), exit_code_of(error))
            audited.reason = str(error)
        finally:
            self.begun.set()

    async def linger(self) -> None:
        """Wait until somebody knows how it ended, or nobody came to ask."""
        await self._wait_until_given_up()

    @property
    def is_forgotten(self) -> bool:
        """Whether nobody can have it any more."""
        return self._is_forgotten

    async def _run(self, process: Running) -> Exit:
        async with open_service_nursery() as nursery:
            nursery.start_soon(self._feed, process)
            nursery.start_soon(self._end_when_given_up)
            with self._reading:
                await self._read(process)
                return await process.wait()
        return await process.hang_up()

    async def _read(self, process: Running) -> None:
        while True:
            while not self.log.has_room:
                await self._room.wait()
            piece = await process.read()
            if piece is None:
                return
            self.log.append(piece)
            self._last_sign = trio.current_time()
            self._tell()

    async def _feed(self, process: Running) -> None:
        while True:
            while not self._input:
                if self.input_ended:
                    with suppress(trio.BrokenResourceError):
                        await process.end_input()
                    return
                await self._more_input.wait()
            data = bytes(self._input[:MAX_PAYLOAD])
            del self._input[:MAX_PAYLOAD]
            # As with a local pipe it is the command's own affair not to read.
            with suppress(trio.BrokenResourceError):
                await process.write(data)
            self.taken += len(data)
            self._tell()

    async def _end_when_given_up(self) -> None:
        self.end(await self._wait_until_given_up())

    async def _wait_until_given_up(self) -> str:
        """Wait for the time at which nobody cares any more, which moves; say why that is."""
        while not self._is_forgotten:
            at, reason = self._given_up_at()
            if at <= trio.current_time():
                return reason
            with trio.move_on_at(at):
                await self._changed.wait()
        return "its client was done with it"

    def _given_up_at(self) -> tuple[float, str]:
        idle = (self._last_sign + self.patience.idle, f"idle for {self.patience.idle:g} s")
        if self.viewer is None:
            alone = (self._alone_since + self._alone_for, f"alone for {self._alone_for:g} s")
            return min(alone, idle)
        if self.exit is not None:
            return self._last_sign + LAST_WORDS, "its client did not read"
        return idle

    def _note(self, audited: AuditedSession) -> None:
        audited.bytes_in, audited.bytes_out = self.taken, self.log.end
        audited.reason = self._end_reason
        if self.exit is not None:
            audited.exit_code, audited.signal = self.exit.code, self.exit.signal
        self._last_sign = trio.current_time()

    # ---- who has it ----

    def admits(self, claim: Start | Attach) -> bool:
        """Whether ``claim`` is of who may have the session now.

        Who comes back does not take it from somebody who came meanwhile; and a claim that was long
        on its way does not take it from the next attempt of the same client.
        """
        if claim.client == self._client:
            return claim.attempt > self._attempt
        return isinstance(claim, Attach) and claim.output is None

    def attach(self, claim: Start | Attach, viewer: Viewer) -> None:
        """Let ``viewer`` have the session, in place of who has it."""
        if self.viewer is not None:
            self.viewer.supersede()
        self._client, self._attempt = claim.client, claim.attempt
        self.viewer = viewer
        self._alone_for = self.patience.keep
        self._last_sign = trio.current_time()
        self._changed.wake()
        if claim.size is not None:
            if isinstance(claim, Attach) and claim.output is None:
                # Its screen is empty, and a program draws anew when the size has changed.
                self.resize(replace(claim.size, rows=claim.size.rows + 1))
            self.resize(claim.size)

    def leave(self, viewer: Viewer, *, detach: bool = False) -> None:
        """Let ``viewer`` go, if it still has the session."""
        if self.viewer is viewer:
            self.viewer = None
            self._alone_since = trio.current_time()
            if detach:
                self._alone_for = self.patience.detached
            self._changed.wake()

    # ---- what its client says ----

    def take_input(self, data: bytes) -> None:
        """Keep input for the command; `RemoteProtocolError` if it is more than was agreed on."""
        if self.input_ended:
            raise RemoteProtocolError(f"{len(data)} bytes of input behind its end")
        if (ahead := self.received + len(data) - self.taken) > INPUT_WINDOW:
            raise RemoteProtocolError(f"{ahead} bytes of input into a window of {INPUT_WINDOW}")
        self._last_sign = trio.current_time()
        self.received += len(data)
        if self.exit is not None:
            self.taken = self.received  # by nobody
            return
        self._input += data
        self._more_input.wake()

    def end_input(self) -> None:
        """Let the command read the end of its input, once it has read all of it."""
        self.input_ended = True
        self._more_input.wake()

    def acknowledge(self, count: int) -> None:
        """Forget the output that is where the client wanted it."""
        self.log.forget(max(count, self.log.start))
        self._last_sign = trio.current_time()
        self._room.wake()

    def resize(self, size: WindowSize) -> None:
        """Change the size of the terminal."""
        if self._process is not None:
            self._process.resize(size)

    def signal(self, name: str) -> None:
        """Signal the command; names that this system lacks are nobody's fault."""
        if self._process is not None and name in SIGNALS:
            self._process.signal(signal.Signals[f"SIG{name}"])

    # ---- the end ----

    def end(self, reason: str) -> None:
        """End the command, if it still runs."""
        self._end_reason = self._end_reason or reason
        self._reading.cancel()

    def forget(self) -> None:
        """Keep nothing for anybody."""
        self._is_forgotten = True
        self._changed.wake()
        if self.viewer is not None:
            self.viewer.cut()

    def abandon(self, reason: str) -> None:
        """End the command, and wait for nobody who is not there."""
        self.patience = Patience(keep=0, detached=0)
        self._alone_for = 0
        self.end(reason)
        self._changed.wake()

    def info(self) -> SessionInfo:
        """Describe the session in a list."""
        return SessionInfo(
            session=self.asked.session,
            argv=_shortened(self.asked.argv),
            started=self.started,
            attached=self.viewer is not None,
            terminal=self.asked.terminal is not None,
            ended=self.exit is not None,
        )

    def _tell(self) -> None:
        if self.viewer is not None:
            self.viewer.wake()

    def __repr__(self) -> str:
        state = "attached" if self.viewer else "alone"
        return f"<ShellSession {self.asked.session} {state}, {self.exit or 'running'}>"


def _shortened(argv: Sequence[str] | None) -> tuple[str, ...] | None:
    if argv is None:
        return None
    words: list[str] = []
    room = LISTED_CHARACTERS
    for word in argv:
        if len(word) >= room:
            words.append(f"{word[: max(room - 1, 0)]}\u2026")
            break
        words.append(word)
        room -= len(word) + 1
    return tuple(words)
