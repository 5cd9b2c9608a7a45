"""Borders: where a bug ends one task of many and is logged, and ends nothing else.

Each kind of task that is there for one connection, session or stream has one border, around all of it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TypeVar

import trio

StreamT = TypeVar("StreamT", bound=trio.abc.AsyncResource)


class Border:
    """Logs what is a bug in the block, which is all that ``what % names`` does, and goes on behind it."""

    __slots__ = ("_logger", "_names", "_what")

    def __init__(self, logger: logging.Logger, what: str, *names: object) -> None:
        self._logger = logger
        self._what = what
        self._names = names

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Contain what is an error, and nothing that ends the program or cancels."""
        if not isinstance(exc_value, Exception):
            return False
        what = self._what % self._names
        self._logger.error("%s ended by a fault of ours", what, exc_info=exc_value)
        return True


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
        with Border(logger, "a connection"):
            await serve(stream)

    await trio.serve_listeners(
        handle, list(listeners), handler_nursery=handler_nursery, task_status=task_status
    )
