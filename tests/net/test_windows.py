"""Receive windows: they grow with the path and not with the reader, under one budget."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.windows import LARGEST_WINDOW, SESSION_BUDGET, ReceiveWindow, WindowBudget
from dmsg_trio._wire.yamux import INITIAL_WINDOW
from tests.net.links import leftovers, memory_carriers, open_mux_pair, open_mux_streams, open_on


async def _send_for_ever(stream: MuxStream) -> None:
    while True:
        await stream.send_all(bytes(1024 * 1024))


async def _receive_for(stream: MuxStream, seconds: float, *, pause: float = 0) -> float:
    """Receive, and say how many bytes came per second."""
    began, received = trio.current_time(), 0
    with trio.move_on_after(seconds):
        while True:
            received += len(await stream.receive_some())
            if pause:
                await trio.sleep(pause)
    return received / (trio.current_time() - began)


async def test_one_stream_fills_a_long_path(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        near, far = await open_mux_streams(nursery, await memory_carriers(latency=0.05))
        nursery.start_soon(_send_for_ever, near)
        rate = await _receive_for(far, 5)
        assert rate > 10 * INITIAL_WINDOW / 0.1
        assert far._window.size == LARGEST_WINDOW
        nursery.cancel_scope.cancel()


async def test_a_slow_reader_gets_no_larger_window(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        near, far = await open_mux_streams(nursery, await memory_carriers(latency=0.05))
        nursery.start_soon(_send_for_ever, near)
        await _receive_for(far, 20, pause=0.2)
        assert far._window.size == INITIAL_WINDOW
        nursery.cancel_scope.cancel()


async def test_a_stream_that_sends_little_gets_no_larger_window(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        near, far = await open_mux_streams(nursery, await memory_carriers(latency=0.05))

        async def send_now_and_then() -> None:
            while True:
                await near.send_all(bytes(10_000))
                await trio.sleep(0.1)

        nursery.start_soon(send_now_and_then)
        await _receive_for(far, 20)
        assert far._window.size == INITIAL_WINDOW
        nursery.cancel_scope.cancel()


async def test_all_windows_of_a_session_grow_out_of_one_budget(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        near, far = await open_mux_pair(nursery, await memory_carriers(latency=0.1, rate=2e8))
        pairs = [await open_on(near, far) for _ in range(6)]
        async with trio.open_nursery() as running:
            for sender, receiver in pairs:
                running.start_soon(_send_for_ever, sender)
                running.start_soon(_receive_for, receiver, 10)
            await trio.sleep(4)
            grown = sum(receiver._window.size - INITIAL_WINDOW for _, receiver in pairs)
            assert 0 < grown <= SESSION_BUDGET
            assert far.window_budget.left == SESSION_BUDGET - grown
            running.cancel_scope.cancel()
        for sender, receiver in pairs:
            sender.reset()
            receiver.reset()
        await trio.sleep(1)
        assert not any(leftovers(near, far).values())
        nursery.cancel_scope.cancel()


def test_grants_of_one_moment_count_as_one() -> None:
    window = ReceiveWindow(WindowBudget())
    window.received(INITIAL_WINDOW)
    half = window.due(0, INITIAL_WINDOW // 2)
    window.granted(0, now=1.0)
    assert half == INITIAL_WINDOW // 2
    assert window.due(half, 0) == INITIAL_WINDOW // 2
    window.granted(half, now=1.0)
    assert window.is_waiting_for_path
    window.waited(0.1, now=1.1)
    assert window.size == 2 * INITIAL_WINDOW


@given(
    st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 400_000), st.floats(0, 1))),
)
def test_what_is_granted_and_unread_never_exceeds_the_window(
    steps: list[tuple[int, int, float]],
) -> None:
    budget = WindowBudget()
    window = ReceiveWindow(budget)
    outstanding, buffered, now = INITIAL_WINDOW, 0, 0.0
    for arriving, read, wait in steps:
        now += wait
        size = min(arriving, outstanding)
        outstanding, buffered = outstanding - size, buffered + size
        window.received(size)
        buffered -= min(read, buffered)
        if window.is_waiting_for_path and not buffered:
            window.waited(wait, now)
        if due := window.due(outstanding, buffered):
            window.granted(outstanding, now)
            outstanding += due
        assert outstanding + buffered <= window.size <= LARGEST_WINDOW
        assert budget.left + window.size - INITIAL_WINDOW == SESSION_BUDGET
    window.close()
    assert budget.left == pytest.approx(SESSION_BUDGET)
