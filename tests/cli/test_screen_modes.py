"""What programs leave on in a terminal when they are cut off, and how it is taken back."""

from __future__ import annotations

import pytest

from dmsg_trio.cli._screen_modes import MAX_KEPT, MAX_SEQUENCE, ScreenModes

# As vim begins and ends in xterm, somewhat shortened.
VIM_BEGINS = b"\x1b[?1049h\x1b[22;0;0t\x1b[22;2t\x1b[22;1t\x1b[>4;2m\x1b[?1h\x1b=\x1b[?2004h\x1b[1;24r\x1b[?25l"
VIM_ENDS = (
    b"\x1b[?25h\x1b[23;2t\x1b[23;1t\x1b[?2004l\x1b[>4;m\x1b[?1l\x1b>\x1b[r\x1b[?1049l\x1b[23;0;0t"
)


def undone(*pieces: bytes) -> bytes:
    modes = ScreenModes()
    for piece in pieces:
        modes.watch(piece)
    return modes.undo()


def test_what_a_program_left_on_is_switched_off_and_its_screen_last() -> None:
    assert undone(b"text", VIM_BEGINS, b"more").split(b"\x1b")[1:] == [
        *(b"[0m", b"[>4m", b">", b"7", b"[r", b"8"),
        *(b"[?1l", b"[?25h", b"[?2004l", b"[?1049l"),
        *(b"[23;1t", b"[23;2t", b"[23;0t"),
    ]


@pytest.mark.parametrize("size", range(1, 12))
def test_pieces_do_not_matter(size: int) -> None:
    data = b"a\x1b[31m" + VIM_BEGINS + b"\x1b[?1000;1006hdrawn"
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert undone(*pieces) == undone(data)


def test_where_nothing_was_said_to_the_terminal_nothing_is_taken_back() -> None:
    assert undone(b"a\r\nb\x07\x9b") == b""


def test_what_a_program_switched_off_itself_is_left_alone() -> None:
    assert undone(VIM_BEGINS, VIM_ENDS) == b"\x1b[0m"
    assert undone(b"\x1b[?1003h\x1b[?25l\x1b[>1u", b"\x1bc") == b""


@pytest.mark.parametrize(
    ("said", "undoing"),
    [
        (b"\x1b[?1000;1002;1006h", b"\x1b[?1000l\x1b[?1002l\x1b[?1006l"),
        (b"\x1b[?7l", b"\x1b[?7h"),
        (b"\x1b[>1u\x1b[>3u\x1b[<u", b"\x1b[<1u"),
        (b"\x1b[23;0t\x1b[22;0t\x1b[22;2t\x1b[23;0t", b"\x1b[23;2t"),
        (b"\x1b[?12;4711h\x1b[?" + b"9" * 10_000 + b"h", b""),
        (b"\x1b[22;0t" * 1000, b"\x1b[23;0t" * MAX_KEPT),
        (b"\x1b[>u" * 1000, b"\x1b[<%du" % MAX_KEPT),
    ],
)
def test_each_kind(said: bytes, undoing: bytes) -> None:
    assert undone(said) == b"\x1b[0m" + undoing


def test_a_beginning_without_an_end_is_not_kept_for_long() -> None:
    modes = ScreenModes()
    for _ in range(1000):
        modes.watch(b"\x1b[" + b"1" * 1000)
    assert len(modes._rest) <= MAX_SEQUENCE
