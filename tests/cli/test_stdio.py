"""Standard input and output: whatever they are, nothing waits for them but who wants to."""

from __future__ import annotations

import os
import pty
import tty
from contextlib import aclosing
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dmsg_trio.cli._stdio import read_input, write_output


async def content(fd: int) -> bytes:
    pieces = [piece async for piece in read_input(fd)]
    assert all(pieces)
    return b"".join(pieces)


async def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    data = os.urandom(200_000)
    (tmp_path / "a").write_bytes(data)
    fd = os.open(tmp_path / "a", os.O_RDONLY)
    assert await content(fd) == data
    os.close(fd)


async def test_a_device_without_anything_ends_at_once() -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    assert await content(fd) == b""
    os.close(fd)


async def test_a_pipe_is_waited_for_without_holding_others_up() -> None:
    near, far = os.pipe()
    found: list[bytes] = []

    async def read() -> None:
        found.append(await content(near))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()  # which would never come while a thread holds the loop
        os.write(far, b"typed")
        await wait_all_tasks_blocked()
        os.close(far)
    assert found == [b"typed"]
    os.close(near)


async def test_a_terminal_is_waited_for_and_the_wait_can_be_given_up() -> None:
    keyboard, terminal = pty.openpty()
    tty.setraw(terminal)
    with trio.move_on_after(0.05) as limit:
        await content(terminal)
    assert limit.cancelled_caught
    os.write(keyboard, b"k")
    async with aclosing(read_input(terminal)) as typed:
        assert await anext(typed) == b"k"
    os.close(keyboard)
    os.close(terminal)


async def test_all_is_written_however_little_the_reader_takes_at_once() -> None:
    near, far = os.pipe()
    data, received = os.urandom(300_000), bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_output, data, far)
        while len(received) < len(data):
            await trio.lowlevel.wait_readable(near)
            received += os.read(near, 1000)
    assert received == data
    os.close(near)
    os.close(far)


async def test_writing_to_nobody_is_an_error() -> None:
    near, far = os.pipe()
    os.close(near)
    with pytest.raises(BrokenPipeError):
        await write_output(b"x", far)
    os.close(far)


async def test_writing_to_who_does_not_read_can_be_given_up() -> None:
    near, far = os.pipe()
    with trio.move_on_after(0.05) as limit:
        await write_output(bytes(1_000_000), far)
    assert limit.cancelled_caught
    os.close(near)  # which wakes the thread that still writes
    with pytest.raises(BrokenPipeError):
        os.write(far, b"x")
