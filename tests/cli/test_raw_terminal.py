"""The terminal here: given over and given back, its size, and what the escape character means."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Iterator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio.cli._raw_terminal import (
    EscapeReader,
    Typed,
    Wish,
    cooked,
    raw,
    window_size,
    window_sizes,
)
from tests.waiting import PATIENCE


@pytest.fixture
def terminal() -> Iterator[int]:
    keyboard, fd = pty.openpty()
    yield fd
    os.close(fd)
    os.close(keyboard)


def set_size(fd: int, *numbers: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", *numbers))


def local_modes(fd: int) -> int:
    return int(termios.tcgetattr(fd)[3])


# ---- modes ----


def test_a_terminal_is_raw_for_the_block_and_then_as_it_was(terminal: int) -> None:
    before = termios.tcgetattr(terminal)
    with pytest.raises(KeyError), raw(terminal):
        assert not local_modes(terminal) & (termios.ECHO | termios.ICANON | termios.ISIG)
        raise KeyError
    assert termios.tcgetattr(terminal) == before


def test_it_is_itself_again_for_a_while_in_between(terminal: int) -> None:
    with raw(terminal):
        now = termios.tcgetattr(terminal)
        with cooked(terminal):
            wanted = termios.ECHO | termios.ICANON | termios.ISIG
            assert local_modes(terminal) & wanted == wanted
        assert termios.tcgetattr(terminal) == now


def test_a_window_that_was_closed_needs_nothing_back() -> None:
    keyboard, fd = pty.openpty()
    with raw(fd):
        os.close(keyboard)
    with pytest.raises(termios.error):
        termios.tcgetattr(fd)
    os.close(fd)


# ---- size ----


async def test_each_new_size_is_told(terminal: int) -> None:
    set_size(terminal, 24, 80, 640, 480)
    assert window_size(terminal) == WindowSize(24, 80, 640, 480)
    tell, told = trio.open_memory_channel[WindowSize](0)

    async def listen() -> None:
        async for size in window_sizes(terminal):
            await tell.send(size)

    with trio.fail_after(PATIENCE):
        async with open_service_nursery() as nursery:
            nursery.start_soon(listen)
            await wait_all_tasks_blocked()
            for rows in (30, 40):
                set_size(terminal, rows, 100, 0, 0)
                os.kill(os.getpid(), signal.SIGWINCH)
                assert await told.receive() == WindowSize(rows, 100)


# ---- the escape character ----


def said(*typed: bytes, escape: str = "~") -> list[bytes | Wish]:
    """What is meant, with pieces that lie together joined."""
    reader, found = EscapeReader(escape), list[bytes | Wish]()
    for data in typed:
        for each in reader.receive(data):
            if isinstance(each, Wish):
                found.append(each)
            elif found and isinstance(found[-1], bytes):
                found[-1] += each.data
            else:
                found.append(each.data)
    return found


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (b"~.", [Wish.LEAVE]),
        (b"ls\r~.", [b"ls\r", Wish.LEAVE]),
        (b"ls\n~d", [b"ls\n", Wish.DETACH]),
        (b"~?~?x", [Wish.HELP, Wish.HELP, b"x"]),
        (b"~\x1a", [Wish.SUSPEND]),
        (b"~~.", [b"~."]),
        (b"~~\r~.", [b"~\r", Wish.LEAVE]),
        (b"a~.", [b"a~."]),
        (b"~x~.", [b"~x~."]),
        (b"~\r~.", [b"~\r", Wish.LEAVE]),
        ("\r~é".encode(), ["\r~é".encode()]),
    ],
)
def test_an_escape_counts_behind_a_new_line_only(typed: bytes, meant: list[bytes | Wish]) -> None:
    assert said(typed) == meant
    assert said(*(typed[at : at + 1] for at in range(len(typed)))) == meant


def test_the_escape_may_be_another_character_or_none() -> None:
    assert said(b"~.\r^.", escape="^") == [b"~.\r", Wish.LEAVE]
    assert said(b"~.\r~.", escape="") == [b"~.\r~."]
    assert EscapeReader("").receive(b"") == []
    assert EscapeReader("").receive(b"x") == [Typed(b"x")]


@given(st.lists(st.binary(max_size=20) | st.text(alphabet="~.\r\nd", max_size=20).map(str.encode)))
def test_pieces_do_not_matter(typed: list[bytes]) -> None:
    assert said(*typed) == said(b"".join(typed))


@given(st.binary().filter(lambda data: b"~" not in data))
def test_what_has_no_escape_passes_as_it_is(data: bytes) -> None:
    assert said(data) == ([data] if data else [])
