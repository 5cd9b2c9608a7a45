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
from typing import Final

import trio

from dmsg_trio._errors import DmsgError, RemoteProtocolError
from dmsg_trio._net.backoff import Backoff
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import (
    MAX_PAYLOAD,
    Attach,
    Done,
    List,
    Refused,
    SessionInfo,
    Sessions,
    ShellReader,
    Start,
    Started,
    Violated,
    encode,
)

from ._remote import (
    CommandEnded,
    ConnectionLost,
    Dial,
    GivenUp,
    ShellRefusedError,
    Wanted,
)
from ._session import ResumingShell

LEAVE_WITHIN: Final = 2  # seconds
FIRST_DELAY: Final = 0.2  # seconds: somebody sits there and waits
LONGEST_DELAY: Final = 5.0
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
    async with _open(dial, start) as shell:
        yield shell


@asynccontextmanager
async def open_attached_shell(
    dial: Dial, session: str, size: WindowSize | None = None
) -> AsyncIterator[ResumingShell]:
    """Go on with a session that was left, or take it over; raises as `open_resuming_shell`."""
    claim = Attach(session=session, client=secrets.token_hex(16), attempt=0, size=size)
    async with _open(dial, claim) as shell:
        yield shell


@asynccontextmanager
async def _open(dial: Dial, claim: Start | Attach) -> AsyncIterator[ResumingShell]:
    shell = ResumingShell(claim)
    streams = _Streams(dial, shell)
    async with open_service_nursery() as nursery:
        await nursery.start(streams.run)
        streams.life.shield = True  # who is cancelled in the block still says goodbye behind it
        try:
            yield shell
        finally:
            with trio.move_on_after(LEAVE_WITHIN, shield=True):
                await streams.leave()
            streams.life.cancel()


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


class _Streams:
    """Has one stream after the other for a session, until that ends or nobody can be reached."""

    def __init__(self, dial: Dial, shell: ResumingShell) -> None:
        self.life = trio.CancelScope()
        self._dial = dial
        self._shell = shell
        self._until_attached = trio.CancelScope()
        self._finished = trio.Event()

    async def leave(self) -> None:
        """End the command if that has not ended, as far as the host can be told."""
        if self._shell.is_attached:
            self._shell.leave()
            await self._finished.wait()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run until the session is over; ``task_status`` tells when it began."""
        with self.life:
            await self._live(task_status)

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        shell = self._shell
        backoff, lost_at, reason = Backoff(FIRST_DELAY, LONGEST_DELAY), math.inf, "no answer"
        while True:
            with trio.CancelScope(deadline=lost_at + shell.keep) as self._until_attached:
                try:
                    await self._use_stream(task_status)
                    reason = "the stream ended"
                except (ShellRefusedError, RemoteProtocolError) as error:
                    if not shell.is_started:
                        raise
                    shell.end(GivenUp(str(error)))
                except LOSSES as error:
                    if not shell.attempts:
                        raise  # it was never reached
                    reason = str(error) or type(error).__name__
            was_attached, shell.is_attached = shell.is_attached, False
            if shell.ending is not None or shell.is_leaving:
                break
            if was_attached or lost_at == math.inf:
                backoff.reset()
                lost_at = trio.current_time()
                if shell.keep:
                    shell.tell(ConnectionLost(reason))
            if (left := lost_at + shell.keep - trio.current_time()) <= 0:
                if not shell.is_started:
                    raise trio.BrokenResourceError(reason)
                shell.end(GivenUp(reason))
                break
            await trio.sleep(min(backoff.next_delay(), left))
        if not shell.is_started:
            task_status.started()
        self._finished.set()

    async def _use_stream(self, task_status: trio.TaskStatus[None]) -> None:
        shell = self._shell
        stream = await self._dial()
        try:
            claim = shell.next_claim()
            await stream.send_all(encode(claim))
            async with open_service_nursery() as nursery:
                reader = ShellReader(client=True)
                while data := await stream.receive_some(MAX_PAYLOAD):
                    for event in reader.receive_data(data):
                        if isinstance(event, Started):
                            shell.on_started(event, claim)
                            self._until_attached.deadline = math.inf
                            nursery.start_soon(self._send, stream)
                            if not shell.is_started:
                                shell.is_started = True
                                task_status.started()
                        else:
                            shell.on_event(event)
                    if shell.ending is not None and not isinstance(shell.ending, CommandEnded):
                        return
        finally:
            await trio.aclose_forcefully(stream)

    async def _send(self, stream: trio.abc.HalfCloseableStream) -> None:
        """Write until the last word is said; what goes wrong is for the reader to notice."""
        try:
            await self._say_what_is_due(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.aclose_forcefully(stream)

    async def _say_what_is_due(self, stream: trio.abc.HalfCloseableStream) -> None:
        while True:
            events = self._shell.due()
            if events:
                await stream.send_all(b"".join(map(encode, events)))
            if any(isinstance(event, Done) for event in events):
                await stream.send_eof()
                return
            if not events:
                await self._shell.wait_due()
