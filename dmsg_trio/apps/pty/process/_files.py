"""Descriptors that a command is at the other end of: a terminal's master, or an end of a pipe."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
from contextlib import suppress
from typing import Final

import trio

LARGEST_READ: Final = 128 * 1024  # bytes; a terminal gives 4 KiB at a time, so they are gathered

FLOOD: Final = 4095  # bytes of a read at once after which more are on their way
LOOKS: Final = 4  # in vain, until what there is has to do

_BUFFER: Final = memoryview(bytearray(LARGEST_READ))


class CommandFile:
    """A descriptor that never blocks the event loop; it belongs to this object."""

    def __init__(self, number: int) -> None:
        os.set_blocking(number, False)
        self.number = number
        self.is_closed = False
        self._ended = False  # the other side is gone, or is not waited for any more
        self._owed: int | None = None  # bytes that are read at most from now on
        self._writing = trio.Lock()

    # ---- reading ----

    async def read(self) -> bytes:
        """Read all that is there, up to 128 KiB; nothing means that there never will be more.

        When it is cancelled, nothing is lost.
        """
        await trio.lowlevel.checkpoint()
        while not self.is_closed:
            try:
                data = self._gather(LARGEST_READ)
            except BlockingIOError:
                if self._ended:
                    break
                with suppress(trio.ClosedResourceError):  # look again: see `finish`
                    await trio.lowlevel.wait_readable(self.number)
            else:
                return data if len(data) < FLOOD else await self._wait_for_more(data)
        return b""

    async def _wait_for_more(self, data: bytes) -> bytes:
        """Look a few times more: in a flood the system refills its 4 KiB while others run here."""
        pieces, size, looks = [data], len(data), LOOKS
        while looks and size < LARGEST_READ:
            await trio.lowlevel.cancel_shielded_checkpoint()  # what was read must not be lost
            if self.is_closed:
                break
            try:
                more = self._gather(LARGEST_READ - size)
            except BlockingIOError:
                looks -= 1
                continue
            if not more:
                break
            pieces.append(more)
            size += len(more)
        return b"".join(pieces)

    def _gather(self, room: int) -> bytes:
        if self._owed is not None:
            room = min(room, self._owed)
        # Straight into one buffer, which nobody else uses: nothing here waits.
        buffer, size = _BUFFER, 0
        try:
            while size < room and (count := os.readv(self.number, [buffer[size:room]])):
                size += count
        except BlockingIOError:
            if not size:
                raise
        except OSError as error:
            if error.errno != errno.EIO:  # with that Linux says that nobody has the terminal
                raise
        if self._owed is not None:
            self._owed -= size
        return bytes(buffer[:size])

    # ---- writing ----

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of ``data``; when it is cancelled, a part may have been written."""
        async with self._writing:
            rest = memoryview(data)
            while rest:
                self._check_open()
                try:
                    rest = rest[os.write(self.number, rest) :]
                except BlockingIOError:
                    with suppress(trio.ClosedResourceError):
                        await trio.lowlevel.wait_writable(self.number)
                except OSError as error:
                    raise trio.BrokenResourceError("the command has ended") from error
            self._check_open()

    async def close_behind_writes(self) -> None:
        """Close, but not before what is being written now."""
        async with self._writing:
            self.close()

    def _check_open(self) -> None:
        if self._ended or self.is_closed:
            raise trio.BrokenResourceError("the command takes no input any more")

    # ---- ending ----

    def finish(self) -> None:
        """Wait for nothing any more: reads give what is there, and writes break."""
        self._ended = True
        self._wake()

    def finish_with_what_is_there(self) -> None:
        """Finish, whatever is written from now on: for a pipe that strangers still write to."""
        if not self.is_closed:
            count = fcntl.ioctl(self.number, termios.FIONREAD, bytes(4))
            (self._owed,) = struct.unpack("i", count)
            self.finish()

    def close(self) -> None:
        """Close the descriptor; whoever waits for it is woken, and may read its end."""
        if not self.is_closed:
            self._wake()
            self.is_closed = True
            os.close(self.number)

    def _wake(self) -> None:
        if not self.is_closed:
            trio.lowlevel.notify_closing(self.number)
