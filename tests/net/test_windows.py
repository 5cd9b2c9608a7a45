"""Receive windows: they grow with the path and not with the reader, under one budget."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.windows import (
    LARGEST_FOR_TURNS,
    LARGEST_WINDOW,
    SESSION_BUDGET,
    SHORTEST_WAIT,
    TURN,
    TURNS,
    ReceiveWindow,
    WindowBudget,
)
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


async def test_a_short_path_of_little_bandwidth_gets_no_queue(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        carriers = await memory_carriers(latency=0.001, rate=50e6)
        near, far = await open_mux_streams(nursery, carriers)
        nursery.start_soon(_send_for_ever, near)
        rate = await _receive_for(far, 5)
        assert rate > 49e6
        assert far._window.size <= LARGEST_FOR_TURNS
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
    window.received(1)
    window.waited(0.1, now=1.1)
    assert window.size == 2 * INITIAL_WINDOW


def _waited_each(window: ReceiveWindow, *cycles: float) -> None:
    """Let the peer stand at the edge time and again, until our grant has reached it."""
    now = 1.0
    for cycle in cycles:
        window.received(window._to_edge)
        window.granted(0, now)
        window.received(1)
        now += cycle
        window.waited(cycle, now)


def test_a_path_that_takes_as_long_as_ever_makes_a_window_grow() -> None:
    window = ReceiveWindow(WindowBudget())
    _waited_each(window, 0.1, 0.12, 0.19)
    assert window.size == 8 * INITIAL_WINDOW


def test_a_path_that_takes_longer_than_before_is_a_queue() -> None:
    window = ReceiveWindow(WindowBudget())
    _waited_each(window, 0.1, 0.3, 0.21)
    assert window.size == 2 * INITIAL_WINDOW


def test_a_path_that_stays_longer_is_another_path() -> None:
    window = ReceiveWindow(WindowBudget())
    _waited_each(window, 0.1, *[0.4] * 100)
    assert window.size == LARGEST_WINDOW


def test_what_had_been_allowed_before_the_grant_says_nothing_of_the_path() -> None:
    window = ReceiveWindow(WindowBudget())
    window.received(INITIAL_WINDOW - 10)
    window.granted(10, 1.0)
    window.received(5)
    window.waited(0.1, 1.1)
    assert window.size == INITIAL_WINDOW


def _granted_each(window: ReceiveWindow, seconds: float, times: int) -> None:
    for turn in range(times):
        window.granted(INITIAL_WINDOW // 2, now=10 + turn * seconds)


def test_a_quick_reader_on_a_short_path_gets_a_larger_window_and_not_the_largest() -> None:
    window = ReceiveWindow(WindowBudget())
    _granted_each(window, 0.002, 100)
    assert window.size == LARGEST_FOR_TURNS < LARGEST_WINDOW
    window.close()
    assert window.budget.left == SESSION_BUDGET


@pytest.mark.parametrize("seconds", [0.0, SHORTEST_WAIT / 2, TURN, 1.0])
def test_grants_of_one_moment_and_rare_ones_are_no_sign_of_a_quick_reader(seconds: float) -> None:
    window = ReceiveWindow(WindowBudget())
    _granted_each(window, seconds, TURNS + 1)
    assert window.size == INITIAL_WINDOW


def test_a_pause_between_quick_turns_begins_the_count_anew() -> None:
    window = ReceiveWindow(WindowBudget())
    for second in range(10):
        for turn in range(TURNS):
            window.granted(INITIAL_WINDOW // 2, now=1 + second + 0.002 * turn)
    assert window.size == INITIAL_WINDOW


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
