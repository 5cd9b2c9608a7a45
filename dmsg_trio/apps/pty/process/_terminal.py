"""A command on a terminal of its own: a shell, with job control and full-screen programs."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Final

from dmsg_trio._wire.pty import WindowSize

from ._child import Child, open_child
from ._command import Command, starting_to
from ._files import CommandFile
from ._running import RunningCommand

# So that Backspace takes a whole character where the kernel edits the line. On Linux and macOS,
# and of what the module `termios` has no name for.
IUTF8: Final = 0x4000


@asynccontextmanager
async def open_process_on_terminal(
    command: Command, size: WindowSize
) -> AsyncIterator[TerminalProcess]:
    """Start ``command`` on a new terminal, and hang up when the block is left.

    Then its session gets SIGHUP, and what is left of that after the grace time is killed: on Linux
    everything that has not left the session (a ``nohup sleep &`` too), elsewhere the process
    groups of the shell and of what ran in the foreground at the end; the rest loses its terminal.
    What has made a session of its own, as daemons do, goes on.
    """
    with ExitStack() as far_files, ExitStack() as near_files:
        with starting_to("open a terminal"):
            near, far = os.openpty()
        far_files.callback(os.close, far)
        master = CommandFile(near)
        near_files.callback(master.close)
        _speak_utf8(near)
        _set_size(near, size)
        async with open_child(command, (far, far, far), terminal=True) as child:
            far_files.close()
            async with TerminalProcess(child, master).with_files() as process:
                yield process


class TerminalProcess(RunningCommand):
    """A command on a terminal; one task reads it, any number may write."""

    def __init__(self, child: Child, master: CommandFile) -> None:
        super().__init__(child)
        self._master = master

    async def read(self) -> bytes:
        """Read all output that is there, up to 128 KiB; ``b""`` is the end.

        The output ends with the command, also if others that it left behind have the terminal.
        """
        return await self._master.read()

    async def write(self, data: bytes) -> None:
        """Type all of ``data``; wait while the command does not read.

        Raises `trio.BrokenResourceError` when the command has ended.
        """
        await self._master.write(data)

    def resize(self, size: WindowSize) -> None:
        """Change the size of the terminal; what runs in the foreground is told by SIGWINCH."""
        if not self._master.is_closed:
            _set_size(self._master.number, size)

    def signal(self, number: int) -> None:
        """Signal what runs in the foreground."""
        self._child.signal(number, group=self._foreground())

    async def _run(self) -> None:
        await self._child.wait()
        self._master.finish()

    def _foreground(self) -> int | None:
        if self._master.is_closed:
            return None
        try:
            return os.tcgetpgrp(self._master.number) or None
        except OSError:  # nobody has the terminal any more
            return None

    def _close(self) -> None:
        if (group := self._foreground()) is not None:
            self._child.add_group(group)
        self._master.close()


def _set_size(file: int, size: WindowSize) -> None:
    packed = struct.pack("HHHH", size.rows, size.columns, size.width, size.height)
    fcntl.ioctl(file, termios.TIOCSWINSZ, packed)


def _speak_utf8(file: int) -> None:
    modes = termios.tcgetattr(file)
    modes[0] |= IUTF8
    termios.tcsetattr(file, termios.TCSANOW, modes)
