"""How a copy looks while it goes on: a bar with rate and time left, or nothing where nobody looks.

Problems are lines of their own on standard error, whoever looks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dmsg_trio.apps.pty.copy import Progress

from ._progress import problem_line, shortened

if TYPE_CHECKING:
    import rich.progress


@contextmanager
def copy_progress(*, quiet: bool = False) -> Iterator[Progress]:
    """Show what is copied on standard error while the block runs."""
    if quiet or not sys.stderr.isatty():
        yield Lines()
        return
    # Here and not above: it takes a tenth of a second, for which most commands need not wait.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %", markup=False),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Bars(*columns, console=Console(stderr=True, highlight=False)) as bars:
        yield Bar(bars)


class Lines(Progress):
    """Tells of problems alone."""

    def problem(self, path: str, reason: str) -> None:
        print(problem_line(path, reason), file=sys.stderr)


class Bar(Progress):
    """A bar for the file under way, and above it a line for each problem."""

    def __init__(self, bars: rich.progress.Progress) -> None:
        self._bars = bars
        self._task = bars.add_task("", total=None)
        self._files = 0

    def file_begins(self, path: str, size: int) -> None:
        self._files += 1
        count = f"{self._files}: " if self._files > 1 else ""
        self._bars.reset(self._task, total=size, description=count + shortened(path))

    def file_goes_on(self, offset: int) -> None:
        # What was there already says nothing about the rate: so the clock begins here.
        if offset:
            task = self._bars.tasks[0]
            self._bars.reset(
                self._task, total=task.total, completed=offset, description=task.description
            )

    def bytes_moved(self, count: int) -> None:
        self._bars.advance(self._task, count)

    def problem(self, path: str, reason: str) -> None:
        line = problem_line(path, reason)
        self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
