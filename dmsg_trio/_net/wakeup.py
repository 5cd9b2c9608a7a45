"""The shortest way to wake a task: on the path of every round trip, and once per stream."""

from __future__ import annotations

import trio


class Wakeup:
    """Where one task at a time waits to be woken."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        """Wait for the next `wake`; raises `trio.BusyResourceError` for a second task."""
        if self._waiting is not None:
            raise trio.BusyResourceError("another task waits here")
        self._waiting = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def wake(self) -> None:
        """Let the task go on that waits now, if one does."""
        if (task := self._waiting) is not None:
            self._waiting = None
            trio.lowlevel.reschedule(task)

    def _abort(self, _: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        self._waiting = None
        return trio.lowlevel.Abort.SUCCEEDED
