"""Connections that may finish what they are at when who serves them is cancelled."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import trio

from dmsg_trio._net.nurseries import open_draining_nursery

DRAIN_TIME: Final = 5.0  # seconds that answers under way still get

logger = logging.getLogger("dmsg_trio.web")


class Draining:
    """Knows which connections wait for a request, and ends those once it has begun."""

    def __init__(self) -> None:
        self.has_begun = False  # whether no more requests are taken
        self._idle: set[trio.CancelScope] = set()

    def begin(self) -> None:
        """Take no more requests."""
        self.has_begun = True
        for scope in self._idle:
            scope.cancel()

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Wait in the block for a request; it is left when draining begins."""
        with trio.CancelScope() as scope:
            if self.has_begun:
                scope.cancel()
            self._idle.add(scope)
            try:
                yield
            finally:
                self._idle.remove(scope)

    @asynccontextmanager
    async def open_nursery(self) -> AsyncIterator[trio.Nursery]:
        """Give a nursery for connections, in the block; they drain when it ends or is cancelled."""
        async with open_draining_nursery() as connections:
            try:
                yield connections
            finally:
                self.begin()
                if count := len(connections.child_tasks) - len(self._idle):
                    logger.warning("ending: %d under way may take %g s more", count, DRAIN_TIME)
                connections.cancel_scope.deadline = trio.current_time() + DRAIN_TIME
