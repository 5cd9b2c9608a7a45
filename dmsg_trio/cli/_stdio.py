"""Standard input and output without holding up the program.

What can be waited for is (terminals, pipes, sockets); regular files cannot, and writing may block
for as long as nobody reads, so these go through a thread. The descriptors stay as they are, since
other programs share them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator
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
