"""Nurseries whose tasks outlast those who are cancelled in them."""

from collections.abc import Callable

import pytest
import trio

from dmsg_trio._net.nurseries import open_draining_nursery


class Work:
    """A task that takes a while, and whether it came to its end."""

    def __init__(self) -> None:
        self.is_done = False

    async def do(self) -> None:
        await trio.sleep(3)
        self.is_done = True


@pytest.mark.parametrize("cancel", [lambda scope: scope.cancel(), lambda scope: None])
async def test_what_is_under_way_is_finished(
    cancel: Callable[[trio.CancelScope], None], autojump_clock: trio.testing.MockClock
) -> None:
    work = Work()
    with trio.CancelScope() as scope:
        async with open_draining_nursery() as nursery:
            nursery.start_soon(work.do)
            cancel(scope)
            await trio.lowlevel.checkpoint()
    assert work.is_done


async def test_a_deadline_ends_what_takes_longer(autojump_clock: trio.testing.MockClock) -> None:
    work = Work()
    with trio.CancelScope() as scope:
        async with open_draining_nursery() as nursery:
            nursery.start_soon(work.do)
            nursery.cancel_scope.deadline = trio.current_time() + 2
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert not work.is_done
    assert trio.current_time() == nursery.cancel_scope.deadline


async def test_who_is_cancelled_before_the_block_is_not_held(
    autojump_clock: trio.testing.MockClock,
) -> None:
    work, was_there = Work(), False
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_draining_nursery() as nursery:
            was_there = True
            nursery.start_soon(work.do)
            await trio.lowlevel.checkpoint()
    assert was_there
    assert work.is_done


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with open_draining_nursery():
            raise KeyError
