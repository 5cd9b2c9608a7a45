"""A remote shell over the calls of the reference: a terminal, and nothing that is told of its end.

A command that is to have pipes gets them from a script that runs there (`_plain_pipes.py`), which
also tells how the command ended.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, Self

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire import gob
from dmsg_trio._wire.pty import END_OF_COMMAND, READ, SET_SIZE, START, WRITE, WindowSize
from dmsg_trio._wire.shell import Output
from dmsg_trio.apps.pty._rpc import RpcClient, RpcEndedError, RpcError, open_rpc

from ._plain_pipes import (
    END_OF_INPUT,
    LEAVE,
    MAX_INPUT,
    Unwrapper,
    input_frame,
    signal_frame,
    wrapped,
)
from ._remote import (
    CannotError,
    CommandEnded,
    Ending,
    GivenUp,
    RemoteEvent,
    RemoteShell,
    ShellRefusedError,
    Wanted,
)

READ_SIZE: Final = 32768  # as the reference's programs ask for
WRITE_SIZE: Final = 32768
USUAL_SHELL: Final = "/bin/bash"  # as the reference's programs name one
USUAL_SIZE: Final = WindowSize(24, 80)
ENDS: Final = frozenset({END_OF_COMMAND, "EOF"})
KEYS: Final[Mapping[str, bytes]] = {"INT": b"\x03", "QUIT": b"\x1c", "TSTP": b"\x1a"}
END_OF_TRANSMISSION: Final = b"\x04"
LEAVE_WITHIN: Final = 1  # seconds for a command to end that nobody wants any more

CANNOT: Final = (
    "tell how the command ended",
    "keep it when the connection is lost",
    "pass on the environment, TERM included",
)
CANNOT_PIPE: Final = (
    "keep errors apart from output",
    "keep the command when the connection is lost",
    "pass on the environment",
)


@asynccontextmanager
async def open_plain_shell(stream: trio.abc.Stream, wanted: Wanted) -> AsyncIterator[RemoteShell]:
    """Start a command on ``stream``, on which the service was granted; raises `ShellRefusedError`.

    To close the stream, which ends the command, is up to its owner.
    """
    if wanted.terminal is not None:
        async with _open_on_terminal(stream, wanted.argv or (USUAL_SHELL,), wanted.size) as shell:
            yield shell
        return
    mark = secrets.token_hex()
    async with _open_on_terminal(stream, wrapped(wanted.argv or (), mark), None) as shell:
        piped = PipedShell(shell, mark)
        await piped.wait_ready()
        try:
            yield piped
        finally:
            await piped.leave()


@asynccontextmanager
async def _open_on_terminal(
    stream: trio.abc.Stream, argv: tuple[str, ...], wanted_size: WindowSize | None
) -> AsyncIterator[PlainShell]:
    size = _as_gob(wanted_size or USUAL_SIZE)
    async with open_rpc(stream) as rpc:
        try:
            await rpc.call(START, {"Name": argv[0], "Arg": list(argv[1:]), "Size": size})
            # On the way through a local host the size that START has is lost.
            await rpc.call(SET_SIZE, size)
        except RpcError as error:
            if str(error) not in ENDS:
                raise ShellRefusedError(str(error)) from error
        yield PlainShell(rpc)


class PlainShell:
    """A `RemoteShell` as far as the reference has one."""

    cannot: tuple[str, ...] = CANNOT

    def __init__(self, rpc: RpcClient) -> None:
        self._rpc = rpc
        self._reading: trio.CancelScope | None = None
        self._has_ended = self._has_told_end = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RemoteEvent:
        """Wait for output, or for its end."""
        if self._has_told_end:
            raise StopAsyncIteration
        ending: CommandEnded | GivenUp = CommandEnded()
        with trio.CancelScope() as self._reading:
            try:
                if not self._has_ended:
                    return Output(await self._read())
            except RpcEndedError:
                # Behind a command the reference says so, and leaves the connection to us.
                ending = GivenUp("the connection to the host is lost")
            except RpcError as error:
                if str(error) not in ENDS:
                    ending = GivenUp(str(error))
        self._has_told_end = True
        return ending

    async def _read(self) -> bytes:
        while True:
            data = await self._rpc.call(READ, READ_SIZE)
            if not isinstance(data, bytes):
                raise RemoteProtocolError(f"output that is {data!r}")
            if data:
                return data

    async def send_input(self, data: bytes) -> None:
        """Send input; wait until the terminal has it."""
        for start in range(0, len(data), WRITE_SIZE):
            try:
                await self._rpc.call(WRITE, data[start : start + WRITE_SIZE])
            except (RpcError, RpcEndedError) as error:
                raise trio.BrokenResourceError("the command takes no input any more") from error

    async def end_input(self) -> None:
        """Type what ends input, which a terminal heeds at the beginning of a line."""
        await self.send_input(END_OF_TRANSMISSION)

    async def resize(self, size: WindowSize) -> None:
        """Change the size of the terminal."""
        with suppress(RpcError, RpcEndedError):  # the iteration tells that it has ended
            await self._rpc.call(SET_SIZE, _as_gob(size))

    async def signal(self, name: str) -> None:
        """Type the key that makes the terminal send the signal, if there is one."""
        if name not in KEYS:
            raise CannotError(f"this host cannot pass on SIG{name}")
        await self.send_input(KEYS[name])

    async def detach(self) -> None:
        """Raise `CannotError`."""
        await trio.lowlevel.checkpoint()
        raise CannotError("on this host a command ends with its connection")

    async def hang_up(self) -> None:
        """End the iteration; the command ends when the stream is closed."""
        # The reference has a call for it, which hangs as long as somebody reads.
        self._has_ended = True
        if self._reading is not None:
            self._reading.cancel()
        await trio.lowlevel.checkpoint()


class PipedShell:
    """A command with pipes, in place of the terminal that it is reached by."""

    cannot: tuple[str, ...] = CANNOT_PIPE

    def __init__(self, shell: PlainShell, mark: str) -> None:
        self._shell = shell
        self._unwrapper = Unwrapper(mark)
        self._found: list[RemoteEvent] = []
        self._ending: Ending | None = None
        self._has_told_end = False

    async def wait_ready(self) -> None:
        """Wait until the command may have input; `ShellRefusedError` if it never will."""
        async for event in self._shell:
            match event:
                case Output(data):
                    if self._unwrap(data):
                        return
                case GivenUp(reason):
                    raise ShellRefusedError(reason)
                case _:
                    raise ShellRefusedError(self._unwrapper.complaint)

    def _unwrap(self, data: bytes) -> bool:
        unwrapped = self._unwrapper.receive_data(data)
        if unwrapped.data:
            self._found.append(Output(unwrapped.data))
        if unwrapped.code is not None:
            self._ending = CommandEnded(unwrapped.code)
        return unwrapped.is_ready

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RemoteEvent:
        """Wait for output, or for its end."""
        while not self._found and self._ending is None:
            event = await anext(self._shell)
            if isinstance(event, Output):
                self._unwrap(event.data)
            elif isinstance(event, CommandEnded):
                # The script would have told of any other end.
                self._ending = GivenUp("the command and all around it was killed")
            elif isinstance(event, GivenUp):
                self._ending = event
        if self._found:
            return self._found.pop(0)
        if self._ending is None or self._has_told_end:
            raise StopAsyncIteration
        self._has_told_end = True
        return self._ending

    async def send_input(self, data: bytes) -> None:
        """Send input; wait until the terminal has it."""
        for start in range(0, len(data), MAX_INPUT):
            await self._shell.send_input(input_frame(data[start : start + MAX_INPUT]))

    async def end_input(self) -> None:
        """Let the command read the end of its input."""
        await self._shell.send_input(END_OF_INPUT)

    async def resize(self, size: WindowSize) -> None:
        """Do nothing: the command has no terminal."""
        await trio.lowlevel.checkpoint()

    async def signal(self, name: str) -> None:
        """Signal the command."""
        await self._shell.send_input(signal_frame(name))

    async def detach(self) -> None:
        """Raise `CannotError`."""
        await self._shell.detach()

    async def hang_up(self) -> None:
        """End the command and the iteration."""
        await self._shell.send_input(signal_frame("HUP") + LEAVE)
        await self._shell.hang_up()

    async def leave(self) -> None:
        """End what still runs there: hosts of the reference let it run when the stream ends."""
        with trio.move_on_after(LEAVE_WITHIN) as scope, suppress(trio.BrokenResourceError):
            scope.shield = True
            hang_up = signal_frame("HUP") if self._ending is None else b""
            await self._shell.send_input(hang_up + LEAVE)
            async for _ in self._shell:
                pass


def _as_gob(size: WindowSize) -> gob.Value:
    return {"X": size.width, "Y": size.height, "Rows": size.rows, "Cols": size.columns}
