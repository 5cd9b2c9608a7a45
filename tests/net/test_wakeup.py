"""One task waits, others wake it."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dmsg_trio._net.wakeup import Wakeup


async def test_who_waits_is_woken_once_per_wait() -> None:
    wakeup, woken = Wakeup(), 0

    async def wait_twice() -> None:
        nonlocal woken
        for _ in range(2):
            await wakeup.wait()
            woken += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_twice)
        for expected in (1, 2):
            await wait_all_tasks_blocked()
            wakeup.wake()
            wakeup.wake()
            await wait_all_tasks_blocked()
            assert woken == expected


async def test_a_wake_that_nobody_waits_for_is_forgotten() -> None:
    wakeup = Wakeup()
    wakeup.wake()
    with trio.move_on_after(0.01) as limit:
        await wakeup.wait()
    assert limit.cancelled_caught


async def test_who_was_cancelled_leaves_the_place_to_the_next() -> None:
    wakeup = Wakeup()
    with trio.CancelScope() as scope:
        scope.cancel()
        await wakeup.wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wakeup.wait)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await wakeup.wait()
        wakeup.wake()
