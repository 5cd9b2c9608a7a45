"""A person, or a script, and a remote shell: what is typed goes there, what comes is shown here."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import trio

from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.shell import Detached, Errors, Output, TakenOver
from dmsg_trio.apps.pty.remote._remote import (
    AttachedAgain,
    CannotError,
    CommandEnded,
    ConnectionLost,
    GivenUp,
    RemoteShell,
)

from ._raw_terminal import (
    HELP,
    EscapeReader,
    Typed,
    Wish,
    cooked,
    raw,
    suspend,
    window_size,
    window_sizes,
)
from ._run import one_line
from ._screen_modes import ScreenModes
from ._stdio import STDERR, STDIN, STDOUT, OutputFile, open_output, read_input

OWN_FAILURE: Final = 255  # as ssh exits if it is not the command that failed
FIRST_SIGNAL: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How somebody talks to a shell."""

    on_terminal: bool  # the command has one; ours is given over to it if there is one
    escape: str = "~"
    title: str = ""

    @property
    def is_raw(self) -> bool:
        """Whether every key is passed on."""
        return self.on_terminal and os.isatty(STDIN)


async def talk(shell: RemoteShell, manner: Manner) -> int:
    """Be between a shell and whoever sits here until it ends; give the exit code for this program."""
    with ExitStack() as stack:
        if manner.is_raw:
            stack.enter_context(raw())
        if manner.title and os.isatty(STDOUT):
            stack.enter_context(_titled(manner.title))
        output = stack.enter_context(open_output(STDOUT))
        errors = stack.enter_context(open_output(STDERR))
        conversation = _Conversation(shell, manner, output, errors)
        if manner.on_terminal and os.isatty(STDOUT):
            stack.callback(conversation.clear_up)
        async with open_service_nursery() as nursery:
            nursery.start_soon(conversation.pass_input_on)
            if manner.on_terminal and os.isatty(STDOUT):
                nursery.start_soon(conversation.follow_size)
            return await conversation.show()


class _Conversation:
    def __init__(
        self, shell: RemoteShell, manner: Manner, output: OutputFile, errors: OutputFile
    ) -> None:
        self._shell = shell
        self._output = output
        self._errors = errors
        self._manner = manner
        self._leaving = trio.CancelScope()
        self._modes = ScreenModes()

    # ---- from there ----

    async def show(self) -> int:
        """Show what comes until the end of it, or until somebody leaves; give the exit code."""
        with self._leaving:
            return await self._show()
        self._tell_at_the_end("the session is ended")
        return OWN_FAILURE

    async def _show(self) -> int:
        async for event in self._shell:
            match event:
                case Output(data):
                    if self._manner.on_terminal:
                        self._modes.watch(data)
                    await self._output.write(data)
                case Errors(data):
                    await self._errors.write(data)
                case ConnectionLost(reason):
                    self._tell(f"connection lost, trying again: {reason}")
                case AttachedAgain():
                    self._tell("the connection is back")
                case CommandEnded(code, name):
                    if name is None:
                        self._modes.forget()  # it left the terminal as it wanted to
                    elif self._manner.is_raw:
                        self._tell_at_the_end(f"ended by SIG{name}")
                    return exit_code(code, name)
                case Detached():
                    self._tell_at_the_end("detached: the session goes on")
                    return 0
                case TakenOver():
                    self._tell_at_the_end("somebody attached to this session elsewhere")
                    return OWN_FAILURE
                case GivenUp(reason):
                    self._tell_at_the_end(reason)
                    return OWN_FAILURE
        return OWN_FAILURE

    # ---- from here ----

    async def pass_input_on(self) -> None:
        keys = EscapeReader(self._manner.escape if self._manner.is_raw else "")
        try:
            async for data in read_input():
                for said in keys.receive(data):
                    if isinstance(said, Typed):
                        await self._shell.send_input(said.data)
                    else:
                        await self._obey(said)
            await self._shell.end_input()
        except trio.BrokenResourceError:
            return  # it takes no more; how it ended is told by `show`
        except OSError:
            await self._shell.end_input()  # the terminal here is gone

    async def _obey(self, wish: Wish) -> None:
        match wish:
            case Wish.LEAVE:
                # The shell is ended behind the block that it was opened for, without waiting long
                # for a host that may be out of reach.
                self._leaving.cancel()
            case Wish.DETACH:
                try:
                    await self._shell.detach()
                except CannotError as error:
                    self._tell(str(error))
            case Wish.SUSPEND:
                suspend()
                await self._shell.resize(window_size())  # as it may have become meanwhile
            case Wish.HELP:
                with cooked():
                    print(f"\n{HELP}", file=sys.stderr, flush=True)

    async def follow_size(self) -> None:
        async for size in window_sizes():
            await self._shell.resize(size)

    def clear_up(self) -> None:
        """Take back what a program that was cut off left on in the terminal here."""
        with suppress(OSError):  # its window was closed
            os.write(STDOUT, self._modes.undo())
        self._modes.forget()

    def _tell_at_the_end(self, text: str) -> None:
        if self._manner.on_terminal and os.isatty(STDOUT):
            self.clear_up()
        self._tell(text)

    def _tell(self, text: str) -> None:
        """Say something on a line of its own, whatever is on the screen."""
        line = f"[{one_line(text)}]"
        print(f"\r\n{line}\r" if self._manner.is_raw else line, file=sys.stderr, flush=True)


def exit_code(code: int | None, name: str | None) -> int:
    """Give what a shell would exit with: a host that cannot tell is taken for success."""
    if name is None:
        return code or 0
    known = signal.Signals.__members__.get(f"SIG{name}")  # of this system: the host may have others
    number = known.value if known else int(name) if name.isdigit() else 0
    return FIRST_SIGNAL + number if 0 < number < FIRST_SIGNAL - 1 else OWN_FAILURE


@contextmanager
def _titled(title: str) -> Iterator[None]:
    """Give the window another title for the block, where a terminal can do that."""
    if os.environ.get("TERM", "dumb") in ("dumb", "linux"):
        yield
        return
    os.write(STDOUT, f"\x1b[22;0t\x1b]0;{one_line(title)}\x07".encode())
    try:
        yield
    finally:
        with suppress(OSError):  # the window was closed
            os.write(STDOUT, b"\x1b[23;0t")
