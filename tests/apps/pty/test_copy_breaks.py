"""Copies that break, are cancelled, and go on: never a wrong file, and nothing twice."""

# ruff: noqa: ASYNC240 - a test may wait for a small file

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.apps.pty.copy import CopyBrokenError, CopyOptions, get, put, serve_files
from tests.apps.pty.copying import EVERYTHING, Copy, Notes, copy, entries, facts, hidden

BOTH_WAYS = pytest.mark.parametrize("operation", [put, get], ids=["put", "get"])
LARGE = 8 * 1024 * 1024 + 777
OLD = b"what was there"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(LARGE))
    return source


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


async def part_of(operation: Copy, source: Path, target: Path) -> Path:
    """Break a copy when half of it is there, and give what that left."""
    with pytest.raises(CopyBrokenError):
        await copy(operation, [source], target, budget=LARGE // 2)
    [part] = hidden(target.parent)
    return part


@BOTH_WAYS
@settings(max_examples=12)
@given(budgets=st.lists(st.integers(0, LARGE + 1000), max_size=3))
async def test_after_breaks_anywhere_it_goes_on_and_arrives(
    operation: Copy, budgets: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("break")
    source, target = folder / "source", folder / "target"
    source.write_bytes(os.urandom(LARGE))
    target.write_bytes(OLD)
    for budget in budgets:
        try:
            await copy(operation, [source], target, budget=budget)
        except CopyBrokenError:
            assert target.read_bytes() in (OLD, source.read_bytes())
    await copy(operation, [source], target)
    assert facts(target) == facts(source)
    assert hidden(folder) == []


@BOTH_WAYS
async def test_what_was_there_is_not_sent_again(
    operation: Copy, source: Path, target: Path
) -> None:
    part = await part_of(operation, source, target)
    kept = part.stat().st_size
    assert kept > LARGE // 4
    notes = Notes()
    await copy(operation, [source], target, progress=notes)
    assert notes.resumed == [kept]
    assert notes.moved == LARGE - kept
    assert facts(target) == facts(source)


@BOTH_WAYS
async def test_a_part_that_was_changed_is_not_gone_on_with(
    operation: Copy, source: Path, target: Path
) -> None:
    part = await part_of(operation, source, target)
    with part.open("r+b") as file:
        file.write(b"wrong")
    notes = Notes()
    await copy(operation, [source], target, progress=notes)
    assert notes.resumed == [0]
    assert facts(target) == facts(source)


@BOTH_WAYS
async def test_a_part_that_is_too_long_is_not_gone_on_with(
    operation: Copy, source: Path, target: Path
) -> None:
    part = await part_of(operation, source, target)
    part.write_bytes(source.read_bytes() + b"more")
    await copy(operation, [source], target)
    assert facts(target) == facts(source)


@BOTH_WAYS
async def test_a_source_that_changed_meanwhile_begins_anew_and_leaves_no_part(
    operation: Copy, source: Path, target: Path, tmp_path: Path
) -> None:
    await part_of(operation, source, target)
    source.write_bytes(os.urandom(LARGE + 1))
    notes = Notes()
    await copy(operation, [source], target, progress=notes)
    assert notes.resumed == [0]
    assert facts(target) == facts(source)
    assert hidden(tmp_path) == []


@BOTH_WAYS
async def test_a_change_that_kept_size_and_time_is_noticed_by_the_digest(
    operation: Copy, source: Path, target: Path
) -> None:
    os.utime(source, ns=(10**18, 10**18))
    await part_of(operation, source, target)
    source.write_bytes(os.urandom(LARGE))
    os.utime(source, ns=(10**18, 10**18))
    await copy(operation, [source], target)
    assert facts(target) == facts(source)


@BOTH_WAYS
async def test_a_file_that_is_there_already_is_not_sent_again(
    operation: Copy, source: Path, target: Path, tmp_path: Path
) -> None:
    await copy(operation, [source], target)
    source.chmod(0o600)
    os.utime(source, ns=(10**18, 10**18))
    outcome = await copy(operation, [source], target)
    assert (outcome.files, outcome.bytes) == (1, 0)
    assert facts(target) == facts(source)
    assert hidden(tmp_path) == []


@BOTH_WAYS
async def test_no_part_stays_if_nobody_wants_to_go_on(
    operation: Copy, source: Path, target: Path, tmp_path: Path
) -> None:
    with pytest.raises(CopyBrokenError):
        options = CopyOptions(resume=False)
        await copy(operation, [source], target, options=options, budget=LARGE // 2)
    assert entries(tmp_path) == {"source"}


@BOTH_WAYS
async def test_a_part_that_a_stranger_made_is_left_alone(
    operation: Copy, source: Path, target: Path, tmp_path: Path
) -> None:
    part = await part_of(operation, source, target)
    part.chmod(0o666)
    await copy(operation, [source], target)
    assert facts(target) == facts(source)
    assert part.exists()
    part.unlink()
    (tmp_path / "precious").write_bytes(OLD)
    part.symlink_to(tmp_path / "precious")
    target.unlink()
    await copy(operation, [source], target)
    assert facts(target) == facts(source)
    assert (tmp_path / "precious").read_bytes() == OLD


class LostStream(trio.abc.HalfCloseableStream):
    """Who sends and who receives wait, and both hear in one moment that the connection is lost."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self._loss = trio.Event()
        self._waiting = 0
        self._allowance = LARGE // 2

    async def _lose(self) -> NoReturn:
        self._waiting += 1
        if self._waiting == 2:
            self._loss.set()
        await self._loss.wait()
        raise trio.BrokenResourceError("no route")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._allowance -= len(data)
        if self._allowance < 0:
            await self._lose()
        await self._stream.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._allowance < LARGE // 4:  # the receiver's answer has come long ago
            await self._lose()
        data: bytes | bytearray = b""
        with trio.move_on_after(0.1):
            data = await self._stream.receive_some(max_bytes)
        if not data:
            await self._lose()
        return data

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_a_loss_that_is_seen_twice_is_told_once(source: Path, target: Path) -> None:
    near, far = memory_stream_pair()

    async def open_stream(_: str) -> LostStream:
        return LostStream(near)

    async with open_service_nursery() as nursery:
        nursery.start_soon(partial(serve_files, far, home=target.parent))
        with pytest.raises(CopyBrokenError, match="the connection was lost: no route"):
            await put(
                open_stream,
                [os.fsencode(source)],
                os.fsencode(target),
                options=EVERYTHING,
                progress=Notes(),
            )
        nursery.cancel_scope.cancel()


@BOTH_WAYS
async def test_two_copies_to_one_target_do_not_mix(
    operation: Copy, source: Path, target: Path, tmp_path: Path
) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(copy, operation, [source], target)
    assert target.read_bytes() == source.read_bytes()
    assert hidden(tmp_path) == []


@BOTH_WAYS
@settings(max_examples=15)
@given(moment=st.floats(0, 0.06))
async def test_a_cancelled_copy_leaves_the_target_as_it_was_or_whole(
    operation: Copy, moment: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cancel")
    source, target = folder / "source", folder / "target"
    source.write_bytes(os.urandom(LARGE))
    target.write_bytes(OLD)
    with trio.move_on_after(moment):
        await copy(operation, [source], target)
    assert target.read_bytes() in (OLD, source.read_bytes())
    assert len(hidden(folder)) <= 1
    await copy(operation, [source], target)
    assert facts(target) == facts(source)


@BOTH_WAYS
async def test_a_copy_that_is_cancelled_leaves_no_descriptor(
    operation: Copy, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    for number in range(30):
        (source / str(number)).mkdir(parents=True)
        (source / str(number) / "file").write_bytes(os.urandom(300_000))
    await copy(operation, [source], tmp_path / "warm")
    before = len(os.listdir("/dev/fd"))
    for number in range(10):
        with trio.move_on_after(number / 500):
            await copy(operation, [source], tmp_path / "target", options=EVERYTHING)
    assert len(os.listdir("/dev/fd")) == before
    found = [path.name for path in (tmp_path / "target").rglob(".dmsg-*")]
    assert found == []
