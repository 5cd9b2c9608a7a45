"""A host of shells whose commands are played by tasks, and links to it that break."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.resettable import ResettableStream
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import Errors, Output, Start
from dmsg_trio.apps.pty.host._audit import AuditedSession
from dmsg_trio.apps.pty.host._shells import Limits, Shells
from dmsg_trio.apps.pty.process import Exit, StartError
from dmsg_trio.testing._pipe import MemoryStream, memory_connection

A = SecretKey(b"\x01" * 32).pk
B = SecretKey(b"\x02" * 32).pk


class Played:
    """A command that a test plays: what it wrote, and what it gets to read."""

    def __init__(self) -> None:
        self.sink, self.pieces = trio.open_memory_channel[Output | Errors](0)
        self.typed, self.input = trio.open_memory_channel[bytes](0)
        self.sizes: list[WindowSize] = []
        self.signals: list[int] = []
        self.exit: Exit | None = None
        self.life = trio.CancelScope()
        self.ended = trio.Event()

    # ---- as the host has it ----

    async def read(self) -> Output | Errors | None:
        try:
            return await self.pieces.receive()
        except trio.EndOfChannel:
            return None

    async def write(self, data: bytes) -> None:
        if self.ended.is_set():
            raise trio.BrokenResourceError("the command has ended")
        await self.typed.send(data)

    async def end_input(self) -> None:
        await self.typed.aclose()

    def resize(self, size: WindowSize) -> None:
        self.sizes.append(size)

    def signal(self, number: int) -> None:
        self.signals.append(number)

    async def hang_up(self) -> Exit:
        self.finish(Exit(signal="HUP"))
        return await self.wait()

    async def wait(self) -> Exit:
        await self.ended.wait()
        assert self.exit is not None
        return self.exit

    # ---- as its program ----

    def finish(self, exit: Exit | None = None) -> None:  # noqa: A002 - it is the word
        self.exit = self.exit or exit or Exit(code=0)
        self.life.cancel()
        self.sink.close()
        self.ended.set()


Play = Callable[[Played], Awaitable[None]]


class Notes:
    """The audit lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[PublicKey | None, tuple[str, ...], AuditedSession]] = []

    @contextmanager
    def session(
        self, *, key: PublicKey | None, source: str, command: tuple[str, ...]
    ) -> Iterator[AuditedSession]:
        line = AuditedSession()
        try:
            yield line
        finally:
            self.lines.append((key, command, line))


class FarEnd(ResettableStream):
    """The host's end of a link, which the host may reset."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def reset(self) -> None:
        self._stream.cut()


class Host:
    """Shells that play ``play``, and streams to them."""

    def __init__(self, play: Play, nursery: trio.Nursery, limits: Limits | None = None) -> None:
        self.notes = Notes()
        self.commands: list[Played] = []
        self.asked: list[Start] = []
        self.links: list[MemoryStream] = []
        self.rate = math.inf
        self.is_reachable = True
        self._play = play
        self._nursery = nursery
        self._allowed: dict[PublicKey, list[trio.CancelScope]] = {}
        self.shells = Shells(self._launch, self.notes, limits, while_allowed=self._while_allowed)

    @contextmanager
    def _while_allowed(self, pk: PublicKey) -> Iterator[trio.CancelScope]:
        with trio.CancelScope() as scope:
            self._allowed.setdefault(pk, []).append(scope)
            yield scope

    def remove(self, pk: PublicKey) -> None:
        """Take a key off the list."""
        for scope in self._allowed.pop(pk):
            scope.cancel()

    @asynccontextmanager
    async def _launch(self, start: Start) -> AsyncIterator[Played]:
        if start.argv == ("nothing",):
            raise StartError("fork/exec nothing: no such file or directory", 2)
        command = Played()
        self.commands.append(command)
        self.asked.append(start)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._live, command)
            try:
                yield command
            finally:
                command.finish(Exit(signal="HUP"))

    async def _live(self, command: Played) -> None:
        with command.life:
            await self._play(command)

    def dial_as(self, pk: PublicKey = A) -> Callable[[], Awaitable[MemoryStream]]:
        async def dial() -> MemoryStream:
            await trio.lowlevel.checkpoint()
            if not self.is_reachable:
                raise OSError("no way there")
            near, far = memory_connection(rate=self.rate)
            self.links.append(near)
            self._nursery.start_soon(self._serve, FarEnd(far), pk)
            return near

        return dial

    async def _serve(self, stream: FarEnd, pk: PublicKey) -> None:
        async with stream:
            await self.shells.serve(stream, pk)


@asynccontextmanager
async def open_host(play: Play, limits: Limits | None = None) -> AsyncIterator[Host]:
    async with trio.open_nursery() as nursery:
        host = Host(play, nursery, limits)
        await nursery.start(host.shells.run)
        yield host
        nursery.cancel_scope.cancel()


async def echo(command: Played) -> None:
    """Write what is read, and exit with 7 at its end."""
    async for data in command.input:
        await command.sink.send(Output(data))
    command.finish(Exit(code=7))
