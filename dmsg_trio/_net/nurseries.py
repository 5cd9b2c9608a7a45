"""A nursery for tasks that serve a block: they end with it, and its exceptions come out as they are."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_service_nursery() -> AsyncIterator[trio.Nursery]:
    """Run tasks beside the block and cancel them at its end.

    A single exception, of the block or of a task, leaves without a group around it.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        _, rest = group.split(trio.Cancelled)
        single: BaseException | None = rest
        while isinstance(single, BaseExceptionGroup) and len(single.exceptions) == 1:
            single = single.exceptions[0]
        if single is None or isinstance(single, BaseExceptionGroup):
            raise
        raise single from single.__cause__


@asynccontextmanager
async def open_background(task: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run a task beside the block until the block has ended, however long that takes when cancelled.

    What cancels the block from outside does not reach the task, so what the block still does in a
    shielded scope, it does with the task alive.
    """
    to_the_end = trio.CancelScope(shield=True)

    async def run() -> None:
        with to_the_end:
            await task()

    async with open_service_nursery() as nursery:
        nursery.start_soon(run)
        try:
            yield
        finally:
            to_the_end.cancel()


@asynccontextmanager
async def open_draining_nursery() -> AsyncIterator[trio.Nursery]:
    """Give a nursery whose tasks finish what they are at, though the block ends or is cancelled.

    Its cancel scope is theirs alone: who gives it a deadline says how long they may take.
    """
    ended = trio.Event()

    async def hold(*, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        async with trio.open_nursery() as held:
            held.cancel_scope.shield = True
            task_status.started(held)
            await ended.wait()

    async with open_service_nursery() as nursery:
        # `start` waits for the end of what it starts when it is cancelled, and that end is below.
        with trio.CancelScope(shield=True):
            held = await nursery.start(hold)
        try:
            yield held
        finally:
            ended.set()
