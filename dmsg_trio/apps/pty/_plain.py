"""A remote shell over the calls of the reference: a terminal, and nothing that is told of its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, Self

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire import gob
from dmsg_trio._wire.pty import END_OF_COMMAND, READ, SET_SIZE, START, WRITE, WindowSize
from dmsg_trio._wire.shell import Output

from ._remote import CannotError, CommandEnded, GivenUp, RemoteEvent, ShellRefusedError, Wanted
from ._rpc import RpcClient, RpcEndedError, RpcError, open_rpc

READ_SIZE: Final = 32768  # as the reference's programs ask for
WRITE_SIZE: Final = 32768
USUAL_SHELL: Final = "/bin/bash"  # as the reference's programs name one
USUAL_SIZE: Final = WindowSize(24, 80)
ENDS: Final = frozenset({END_OF_COMMAND, "EOF"})
KEYS: Final[Mapping[str, bytes]] = {"INT": b"\x03", "QUIT": b"\x1c", "TSTP": b"\x1a"}
END_OF_TRANSMISSION: Final = b"\x04"

CANNOT: Final = (
    "tell how the command ended",
    "keep it when the connection is lost",
    "pass on the environment, TERM included",
)
CANNOT_PIPE: Final = (
    "carry bytes as they are: there is a terminal between",
    "keep errors apart from output",
)


@asynccontextmanager
async def open_plain_shell(stream: trio.abc.Stream, wanted: Wanted) -> AsyncIterator[PlainShell]:
    """Start a command on ``stream``, on which the service was granted; raises `ShellRefusedError`.

    To close the stream, which ends the command, is up to its owner.
    """
    argv = wanted.argv or (USUAL_SHELL,)
    size = _as_gob(wanted.size or USUAL_SIZE)
    async with open_rpc(stream) as rpc:
        try:
            await rpc.call(START, {"Name": argv[0], "Arg": list(argv[1:]), "Size": size})
            # On the way through a local host the size that START has is lost.
            await rpc.call(SET_SIZE, size)
        except RpcError as error:
            if str(error) not in ENDS:
                raise ShellRefusedError(str(error)) from error
        yield PlainShell(rpc, is_piped=wanted.terminal is None)


class PlainShell:
    """A `RemoteShell` as far as the reference has one."""

    def __init__(self, rpc: RpcClient, *, is_piped: bool) -> None:
        self.cannot: tuple[str, ...] = CANNOT + (CANNOT_PIPE if is_piped else ())
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
                pass  # the reference may end like this behind a command
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


def _as_gob(size: WindowSize) -> gob.Value:
    return {"X": size.width, "Y": size.height, "Rows": size.rows, "Cols": size.columns}
