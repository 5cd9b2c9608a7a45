"""The terminal of whoever sits here, given over to a program elsewhere for a while."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final

import trio

from dmsg_trio._wire.pty import WindowSize

from ._log import on_raw_terminal
from ._stdio import STDIN, STDOUT

ESCAPE: Final = "~"
NEW_LINES: Final = b"\r\n"


def window_size(fd: int = STDOUT) -> WindowSize:
    """The size of a terminal, as it is now."""
    rows, columns, width, height = struct.unpack(
        "HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
    )
    return WindowSize(rows, columns, width, height)


async def window_sizes(fd: int = STDOUT) -> AsyncIterator[WindowSize]:
    """Yield the new size whenever somebody changes it."""
    with trio.open_signal_receiver(signal.SIGWINCH) as signals:
        async for _ in signals:
            yield window_size(fd)


@contextmanager
def raw(fd: int = STDIN) -> Iterator[None]:
    """Pass every key on as it is typed, for the block."""
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)
    try:
        with on_raw_terminal():
            yield
    finally:
        with suppress(termios.error):  # its window was closed
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def cooked(fd: int = STDIN) -> Iterator[None]:
    """Give the terminal back for the block, in the middle of `raw`."""
    now = termios.tcgetattr(fd)
    sane = list(now)
    sane[0] |= termios.ICRNL | termios.IXON
    sane[1] |= termios.OPOST
    sane[3] |= termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN
    termios.tcsetattr(fd, termios.TCSADRAIN, sane)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, now)


# ---- the escape character ----


class Wish(Enum):
    """What a person asks of the program here, not of the one there; by the key behind ``~``."""

    LEAVE = "."
    DETACH = "d"
    SUSPEND = "\x1a"
    HELP = "?"


@dataclass(frozen=True, slots=True)
class Typed:
    """Bytes for the program there."""

    data: bytes


class EscapeReader:
    """Finds wishes in what is typed: ``~`` right behind a new line, and a key."""

    def __init__(self, escape: str = ESCAPE) -> None:
        self._escape = escape.encode()
        self._at_line_start = True
        self._is_pending = False  # an escape was typed, and not yet what follows

    def receive(self, data: bytes) -> list[Typed | Wish]:
        """Take in what was typed; say what it means."""
        if not self._escape:
            return [Typed(data)] if data else []
        found: list[Typed | Wish] = []
        plain = bytearray()
        for key in data:
            byte = bytes((key,))
            if self._is_pending:
                self._is_pending = False
                wish = _WISHES.get(byte)
                if wish:
                    if plain:
                        found.append(Typed(bytes(plain)))
                        plain.clear()
                    found.append(wish)
                    self._at_line_start = True
                    continue
                if byte != self._escape:  # typed twice it means itself
                    plain += self._escape
            elif self._at_line_start and byte == self._escape:
                self._is_pending = True
                continue
            plain += byte
            self._at_line_start = byte in NEW_LINES
        if plain:
            found.append(Typed(bytes(plain)))
        return found


_WISHES: Final = {wish.value.encode(): wish for wish in Wish}

HELP: Final = """\
Behind a new line:
  ~.   end the session
  ~d   detach: the session goes on, and 'attach' comes back to it
  ~^Z  suspend this program
  ~~   the character itself
  ~?   this
"""


def suspend() -> None:
    """Stop this program as Ctrl-Z does, until the shell that it runs in wakes it."""
    with cooked():
        os.kill(os.getpid(), signal.SIGTSTP)
