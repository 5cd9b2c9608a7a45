"""From what a client asks for to a running command, on a terminal or on pipes alike."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias

import trio

from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import Errors, Output, Start
from dmsg_trio.apps.pty._output_log import Piece
from dmsg_trio.apps.pty.process import (
    Command,
    Exit,
    OutputKind,
    PipedProcess,
    StartError,
    TerminalProcess,
    login_environment,
    open_process_on_pipes,
    open_process_on_terminal,
)

END_OF_TRANSMISSION: Final = b"\x04"  # what a terminal takes for the end of its input
NOT_FOUND: Final = 127  # as shells exit if there is no such command
NOT_RUN: Final = 126  # or it cannot be run
USUAL_SIZE: Final = WindowSize(24, 80)


class Running(Protocol):
    """A command that runs; one task reads it, another one writes."""

    async def read(self) -> Piece | None:
        """Read what is there of the output; None is its end."""
        ...

    async def write(self, data: bytes) -> None:
        """Hand ``data`` over; `trio.BrokenResourceError` if nobody reads it any more."""
        ...

    async def end_input(self) -> None:
        """Let the command read the end of its input."""
        ...

    def resize(self, size: WindowSize) -> None:
        """Change the size of the terminal, if there is one."""
        ...

    def signal(self, number: int) -> None:
        """Signal the command."""
        ...

    async def hang_up(self) -> Exit:
        """End the command."""
        ...

    async def wait(self) -> Exit:
        """Wait for the command's end."""
        ...


Launch: TypeAlias = Callable[[Start], AbstractAsyncContextManager[Running]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Runs commands as this host is told to; a `Launch`."""

    user: str | None = None
    no_new_privileges: bool = False
    shell: str | None = None  # None: the user's login shell

    async def command(
        self, argv: tuple[str, ...], *, terminal: str | None, extra: Mapping[str, str]
    ) -> Command:
        """Say how ``argv`` is run here; empty, it is the shell as a login shell."""
        environment = await trio.to_thread.run_sync(
            partial(login_environment, self.user, term=terminal, extra=extra)
        )
        argv0 = None
        if self.shell is not None:
            environment["SHELL"] = self.shell
            if not argv:
                argv, argv0 = (self.shell,), f"-{os.path.basename(self.shell)}"
        return Command(
            argv=argv,
            argv0=argv0,
            environment=environment,
            user=self.user,
            no_new_privileges=self.no_new_privileges,
        )

    @asynccontextmanager
    async def __call__(self, start: Start) -> AsyncIterator[Running]:
        """Run what ``start`` asks for while the block lasts; raises `StartError`."""
        command = await self.command(start.argv or (), terminal=start.terminal, extra=start.env)
        if start.terminal is None:
            async with open_process_on_pipes(command) as piped:
                yield _OnPipes(piped)
        else:
            async with open_process_on_terminal(command, start.size or USUAL_SIZE) as process:
                yield _OnTerminal(process)


def exit_code_of(error: StartError) -> int:
    """Say what a shell exits with if it cannot start a command."""
    return NOT_FOUND if error.number == errno.ENOENT else NOT_RUN


class _OnTerminal:
    def __init__(self, process: TerminalProcess) -> None:
        self._process = process
        self.write = process.write
        self.resize = process.resize
        self.signal = process.signal
        self.hang_up = process.hang_up
        self.wait = process.wait

    async def read(self) -> Piece | None:
        data = await self._process.read()
        return Output(data) if data else None

    async def end_input(self) -> None:
        await self._process.write(END_OF_TRANSMISSION)


class _OnPipes:
    def __init__(self, process: PipedProcess) -> None:
        self._process = process
        self.write = process.write
        self.end_input = process.end_input
        self.signal = process.signal
        self.hang_up = process.hang_up
        self.wait = process.wait

    async def read(self) -> Piece | None:
        if (found := await self._process.read()) is None:
            return None
        kind, data = found
        return Output(data) if kind is OutputKind.OUTPUT else Errors(data)

    def resize(self, size: WindowSize) -> None:
        """Do nothing: there is no terminal."""
