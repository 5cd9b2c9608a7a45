"""Borders: where a bug ends one task of many and is logged, and ends nothing else.

Each kind of task that is there for one connection, session or stream has one border, around all of it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import trio

StreamT = TypeVar("StreamT", bound=trio.abc.AsyncResource)


@contextmanager
def border(logger: logging.Logger, what: str, *names: object) -> Iterator[None]:
    """Log what is a bug in the block, which is all that ``what % names`` does; go on behind it."""
    try:
        yield
    except Exception:
        logger.exception("%s ended by a fault of ours", what % names)


async def serve_each(
    serve: Callable[[StreamT], Awaitable[None]],
    listeners: Sequence[trio.abc.Listener[StreamT]],
    logger: logging.Logger,
    *,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Do as `trio.serve_listeners`, with a border around each connection."""

    async def handle(stream: StreamT) -> None:
        with border(logger, "a connection"):
            await serve(stream)

    await trio.serve_listeners(
        handle, list(listeners), handler_nursery=handler_nursery, task_status=task_status
    )
