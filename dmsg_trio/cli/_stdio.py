"""Standard input and output without holding up the program.

What can be waited for is (terminals, pipes, sockets); regular files cannot, and writing may block
for as long as nobody reads, so these go through a thread. The descriptors stay as they are, since
other programs share them: who writes much opens the same terminal or pipe once more, for itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import trio

READ_SIZE: Final = 64 * 1024
STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2


async def read_input(fd: int = STDIN) -> AsyncGenerator[bytes]:
    """Yield what arrives on a descriptor, until its end."""
    while data := await _read(fd):
        yield data


async def _read(fd: int) -> bytes:
    if _can_be_waited_for(fd):
        await trio.lowlevel.wait_readable(fd)
        return os.read(fd, READ_SIZE)
    return await trio.to_thread.run_sync(os.read, fd, READ_SIZE)


def _can_be_waited_for(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)


async def write_output(data: bytes | bytearray | memoryview, fd: int = STDOUT) -> None:
    """Write all of ``data``; cancelled while nobody reads, it leaves the rest unwritten."""
    rest = memoryview(data)
    while rest:
        written = await trio.to_thread.run_sync(os.write, fd, rest, abandon_on_cancel=True)
        rest = rest[written:]


@contextmanager
def open_output(fd: int = STDOUT) -> Iterator[OutputFile]:
    """Have a way to write much to a descriptor, for the block."""
    own = _opened_again(fd)
    try:
        yield OutputFile(fd, own)
    finally:
        if own is not None:
            os.close(own)


class OutputFile:
    """Writes without the detour through a thread where it can; made by `open_output`."""

    def __init__(self, fd: int, own: int | None) -> None:
        self._fd = fd
        self._own = own  # to the same terminal or pipe, and does not block

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of ``data``; cancelled while nobody reads, it leaves the rest unwritten."""
        if self._own is None:
            await write_output(data, self._fd)
            return
        rest = memoryview(data)
        while rest:
            with suppress(BlockingIOError):
                rest = rest[os.write(self._own, rest) :]
            if rest:  # what took a part is full now, so another try would be in vain
                await trio.lowlevel.wait_writable(self._own)


def _opened_again(fd: int) -> int | None:
    """Open what ``fd`` leads to once more, with an offset and a mode of its own; None: cannot."""
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        if os.isatty(fd):
            return os.open(os.ttyname(fd), flags)
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            return os.open(f"/proc/self/fd/{fd}", flags)  # on Linux; elsewhere there is no way
    except OSError:
        pass  # another user's, or closed
    return None
