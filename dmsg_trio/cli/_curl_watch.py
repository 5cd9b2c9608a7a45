"""What dmsgcurl tells while it works: headers with -v, a bar on a terminal, notes, errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import httpx
import trio

from dmsg_trio.apps.curl import TransferError, Watcher

from ._progress import shortened
from ._run import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

NAME: Final = "dmsgcurl"
SHOWN_AFTER: Final = 0.3  # seconds: what takes less needs no bar
SECRET: Final = ("authorization", "cookie", "set-cookie")
STEPS: Final = {
    "connection.connect_tcp.started": "dialing {}",
    "connection.connect_tcp.complete": "connected to {}",
    "connection.connect_tcp.failed": "not connected to {}",
    "http11.send_request_body.complete": "request sent",
}


class Screen:
    """Standard error: lines, and maybe bars below them."""

    def __init__(self, *, silent: bool, shows_errors: bool) -> None:
        self.tells_notes = not silent
        self.tells_errors = not silent or shows_errors
        self.bars: Progress | None = None

    def line(self, text: str) -> None:
        """Print a line above the bars; nothing in it has power over a terminal."""
        if self.bars is not None:
            self.bars.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
        else:
            print(printable(text), file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Tell what a person may wonder about."""
        if self.tells_notes:
            self.line(f"{NAME}: {text}")

    def error(self, error: TransferError) -> None:
        """Tell why a transfer failed."""
        if self.tells_errors:
            self.line(f"{NAME}: {error}")


class Meter:
    """The bars of the transfers that take long enough to look at one."""

    def __init__(self, screen: Screen, *, is_plain: bool) -> None:
        self._screen = screen
        self._is_plain = is_plain
        self._began = trio.current_time()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Take the bars away at the end of the block."""
        try:
            yield
        finally:
            if self._screen.bars is not None:
                self._screen.bars.stop()
                self._screen.bars = None

    def task(self, name: str, total: int | None, done: int) -> TaskID | None:
        """Make a bar, unless it is too early for one."""
        if trio.current_time() < self._began + SHOWN_AFTER:
            return None
        if self._screen.bars is None:
            self._screen.bars = self._open()
        return self._screen.bars.add_task(shortened(name), total=total, completed=done)

    def _open(self) -> Progress:
        # Here, since it takes a tenth of a second that small transfers need not wait for.
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        percentage = TextColumn("{task.percentage:>3.0f} %", markup=False)
        console = Console(stderr=True, highlight=False)
        if self._is_plain:
            bars = Progress(BarColumn(bar_width=None), percentage, console=console, expand=True)
        else:
            bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                percentage,
                DownloadColumn(binary_units=True),
                TransferSpeedColumn(),
                TimeRemainingColumn(compact=True),
                console=console,
            )
        bars.start()
        return bars


class Teller(Watcher):
    """Tells of one transfer."""

    def __init__(
        self,
        name: str,
        screen: Screen,
        *,
        meter: Meter | None,
        is_verbose: bool,
        write_head: Callable[[bytes], None] | None,
    ) -> None:
        self._name = name
        self._screen = screen
        self._meter = meter
        self._is_verbose = is_verbose
        self._write_head = write_head
        self._task: TaskID | None = None
        self._done = 0
        self._total: int | None = None

    # ---- what is said ----

    def asks(self, request: httpx.Request) -> None:
        """Show a request, but for what is secret in it."""
        if self._is_verbose:
            self._screen.line(f"> {request.method} {request.url.raw_path.decode()} HTTP/1.1")
            for name, value in request.headers.multi_items():
                shown = "(not shown)" if name in SECRET else value
                self._screen.line(f"> {name.title()}: {shown}")
            self._screen.line(">")

    def step(self, name: str, where: str) -> None:
        """Show a step on the way."""
        if self._is_verbose and name in STEPS:
            self._screen.line(f"* {STEPS[name].format(where)}")

    def answers(self, response: httpx.Response, head: bytes) -> None:
        """Show the head of an answer, and keep it for -D."""
        if self._write_head is not None:
            self._write_head(head)
        if self._is_verbose:
            for line in head.decode("latin-1").splitlines():
                self._screen.line(f"< {line}".rstrip())

    def note(self, text: str) -> None:
        """Tell what a person may wonder about."""
        self._screen.note(text)

    def tries_again(self, error: TransferError, pause: float, left: float) -> None:
        """Tell that a try failed."""
        more = "" if left == float("inf") else f", {left:.0f} left"
        self._screen.note(f"{error}; trying again in {pause:g} s{more}")

    # ---- what is shown ----

    def body_begins(self, offset: int, total: int | None) -> None:
        """Know where the bar begins."""
        if self._task is None:
            # A part of a file begins far behind what there is of it.
            self._done = self._done or offset
            self._total = None if total is None else max(total, self._total or 0)
        elif self._screen.bars is not None and total is not None:
            self._screen.bars.update(self._task, total=max(total, self._total or 0))

    def received(self, count: int) -> None:
        """Move the bar."""
        self._done += count
        if self._task is not None and self._screen.bars is not None:
            self._screen.bars.advance(self._task, count)
        elif self._meter is not None:
            self._task = self._meter.task(self._name, self._total, self._done)

    def sent(self, count: int) -> None:
        """Move the bar of an upload."""
        self.received(count)
