"""A terminal in which a test runs programs, and types, and reads what they show."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import trio

from dmsg_trio._net.nurseries import open_service_nursery
from tests.waiting import PATIENCE

# Who leads a session gets as its terminal what it opens first.
ON_TERMINAL = 'exec <"$0" >"$0" 2>&1; exec "$@"'


class Terminal:
    """A terminal, from the side of the keyboard and the screen."""

    def __init__(self, keyboard: int, process: trio.Process, path: str) -> None:
        self.process = process
        self.shown = b""
        self._keyboard = keyboard
        self._path = path
        self._read = 0  # how much of it a test has looked at
        self._news = trio.lowlevel.ParkingLot()
        self._is_over = False

    async def watch(self) -> None:
        """Read what is shown, until nobody has the terminal any more."""
        with suppress(OSError):
            while True:
                await trio.lowlevel.wait_readable(self._keyboard)
                self.shown += os.read(self._keyboard, 65536)
                self._news.unpark_all()
        self._is_over = True
        self._news.unpark_all()

    async def type(self, text: str | bytes) -> None:
        """Type, as fast as the terminal takes it."""
        rest = text.encode() if isinstance(text, str) else text
        while rest:
            await trio.lowlevel.wait_writable(self._keyboard)
            with suppress(BlockingIOError):
                rest = rest[os.write(self._keyboard, rest) :]

    async def shows(self, text: str | bytes) -> bytes:
        """Wait until this is shown behind what was waited for before; give what came before it."""
        wanted = text.encode() if isinstance(text, str) else text
        with trio.move_on_after(PATIENCE):
            while (at := self.shown.find(wanted, self._read)) < 0:
                assert not self._is_over, f"ended before {wanted!r}: {self._rest}"
                await self._news.park()
            before, self._read = self.shown[self._read : at], at + len(wanted)
            return before
        raise AssertionError(f"no {wanted!r} within {PATIENCE} s: {self._rest}")

    @property
    def _rest(self) -> str:
        return ascii(self.shown[self._read :][-2000:].decode(errors="replace"))

    def resize(self, rows: int, columns: int) -> None:
        """Change the size, as somebody who pulls at the window."""
        fcntl.ioctl(self._keyboard, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def modes(self) -> list[object]:
        """The settings that programs change."""
        return list(termios.tcgetattr(self._keyboard))

    async def exit_code(self) -> int:
        """Wait for the program's end."""
        with trio.fail_after(PATIENCE):
            return await self.process.wait()

    def close(self) -> None:
        """Close the window."""
        os.close(self._keyboard)
        self._keyboard = -1


@asynccontextmanager
async def open_terminal(
    command: Sequence[str], env: Mapping[str, str], *, rows: int = 24, columns: int = 80
) -> AsyncIterator[Terminal]:
    """Run a program in a window of its own for the block; it is killed with its end."""
    keyboard, fd = pty.openpty()
    os.set_blocking(keyboard, False)
    path = os.ttyname(fd)
    process = await trio.lowlevel.open_process(
        ["sh", "-c", ON_TERMINAL, path, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=sys.stderr.fileno(),
        start_new_session=True,
        env={**env, "TERM": "xterm-256color"},
    )
    terminal = Terminal(keyboard, process, path)
    terminal.resize(rows, columns)
    try:
        # The end of ours that is open keeps the terminal and its settings from ending.
        async with open_service_nursery() as nursery:
            nursery.start_soon(terminal.watch)
            yield terminal
    finally:
        with trio.CancelScope(shield=True):
            if terminal._keyboard >= 0:
                terminal.close()
            process.kill()
            await process.wait()
        os.close(fd)
