"""Much output: to a terminal or a pipe without threads, and without a change for who shares them."""

from __future__ import annotations

import os
import pty
import tty
from pathlib import Path

import pytest
import trio

from dmsg_trio.cli._stdio import open_output

DATA = os.urandom(300_000)


async def test_a_terminal_and_a_pipe_get_all_and_stay_blocking_for_others() -> None:
    keyboard, terminal = pty.openpty()
    tty.setraw(terminal)
    near, far = os.pipe()
    for source, sink in ((keyboard, terminal), (near, far)):
        received = bytearray()
        with open_output(sink) as output:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(output.write, DATA)
                while len(received) < len(DATA):
                    await trio.lowlevel.wait_readable(source)
                    received += os.read(source, 1000)
            assert os.get_blocking(sink)
        assert received == DATA
    for fd in (keyboard, terminal, near, far):
        os.close(fd)


async def test_a_file_goes_on_where_others_left_it(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"before, ")
    with open_output(fd) as output:
        await output.write(b"and after")
    os.close(fd)
    assert (tmp_path / "a").read_bytes() == b"before, and after"


async def test_writing_to_nobody_is_an_error_whenever_they_left() -> None:
    near, far = os.pipe()
    with open_output(far) as output:
        os.close(near)
        with pytest.raises(BrokenPipeError):
            await output.write(b"x")
    with open_output(far) as output, pytest.raises(BrokenPipeError):
        await output.write(b"x")
    os.close(far)


async def test_writing_to_who_does_not_read_can_be_given_up() -> None:
    near, far = os.pipe()
    with trio.move_on_after(0.05) as limit, open_output(far) as output:
        await output.write(bytes(1_000_000))
    assert limit.cancelled_caught
    os.close(near)
    os.close(far)
