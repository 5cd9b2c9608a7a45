"""Runs the transfers of a command line, one after the other or side by side."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import trio

from dmsg_trio._keys import SecretKey
from dmsg_trio.apps.curl import (
    ExitCode,
    Report,
    ToStream,
    Transfer,
    TransferError,
    Write,
)
from dmsg_trio.http import DmsgTransport

from ._curl_network import on_network
from ._curl_options import NetworkOptions, ShowingOptions
from ._curl_plan import STANDARD, Planned
from ._curl_watch import Meter, Screen, Teller
from ._curl_write_out import STDERR, STDOUT, written_out
from ._stdio import open_output

# Bytes that no text has. A bell, a backspace, white space and the colours that ESC begins are text.
_NO_TEXT: Final = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]")


@dataclass(slots=True)
class Run:
    """One run of the program."""

    transfers: list[Planned]
    showing: ShowingOptions
    network: NetworkOptions
    secret_key: SecretKey | None
    dump_header: str = ""
    at_once: int = 1
    format: str = ""
    screen: Screen = field(init=False)

    def __post_init__(self) -> None:
        self.screen = Screen(silent=self.showing.silent, shows_errors=self.showing.show_error)

    async def run(self) -> int:
        """Transfer everything; give the exit code of the last transfer that failed."""
        order = self.transfers[0].order
        within = min(order.connect_timeout or 30, order.max_time or float("inf"))
        try:
            with self._head_writer() as write_head:
                async with on_network(
                    self.secret_key,
                    self.network.discovery,
                    sessions=self.network.sessions,
                    within=within,
                    say=self.screen.note,
                ) as client:
                    async with DmsgTransport(client) as transport:
                        return await self.transfer(transport, write_head)
        except TransferError as error:
            self.screen.error(error)
            return error.code

    async def transfer(
        self, transport: httpx.AsyncBaseTransport, write_head: Callable[[bytes], None] | None
    ) -> int:
        """Transfer everything over ``transport``."""
        codes: list[int] = []
        meter = Meter(self.screen, is_plain=self.showing.progress_bar)
        limiter = trio.CapacityLimiter(self.at_once)
        with open_output() as output, meter.shown():
            stdout = Stdout(output.write)

            async def one(number: int, planned: Planned) -> None:
                async with limiter:
                    report = await self._one(
                        transport,
                        planned,
                        stdout,
                        write_head,
                        meter if self._has_meter(planned) else None,
                    )
                if report.error is not None:
                    self.screen.error(report.error)
                    codes.append(report.error.code)
                for fd, text in written_out(self.format, report, number):
                    if fd == STDERR:
                        print(text, end="", file=sys.stderr)
                    elif text:
                        await stdout.write(text.encode())

            if self.at_once == 1:
                for number, planned in enumerate(self.transfers):
                    await one(number, planned)
            else:
                async with trio.open_nursery() as nursery:
                    for number, planned in enumerate(self.transfers):
                        nursery.start_soon(one, number, planned)
        return codes[-1] if codes else ExitCode.DONE

    async def _one(
        self,
        transport: httpx.AsyncBaseTransport,
        planned: Planned,
        stdout: Stdout,
        write_head: Callable[[bytes], None] | None,
        meter: Meter | None,
    ) -> Report:
        order = planned.order
        is_body = not order.shows_heads
        to_stdout = ToStream(stdout.writer(looks=is_body and not planned.is_output_named))
        teller = Teller(
            order.url.path.rpartition("/")[2] or order.url.host[:8],
            self.screen,
            meter=meter,
            is_verbose=self.showing.verbose,
            write_head=write_head,
        )
        return await Transfer(transport, order, planned.file or to_stdout, teller).run()

    def _has_meter(self, planned: Planned) -> bool:
        showing = self.showing
        if showing.silent or showing.no_progress_meter or not sys.stderr.isatty():
            return False
        return planned.file is not None or not os.isatty(STDOUT)

    @contextmanager
    def _head_writer(self) -> Iterator[Callable[[bytes], None] | None]:
        """Give what -D wants the heads of all answers written by."""
        path = self.dump_header
        if not path:
            yield None
            return
        try:
            file = sys.stdout.buffer if path == STANDARD else Path(path).open("wb")  # noqa: SIM115
        except OSError as error:
            reason = f"writing {path}: {error.strerror}"
            raise TransferError(ExitCode.WRITE_ERROR, reason) from None

        def write(head: bytes) -> None:
            file.write(head)
            file.flush()

        try:
            yield write
        finally:
            if path != STANDARD:
                file.close()


class Stdout:
    """Standard output: the bytes as they came and nothing else."""

    def __init__(self, write: Write) -> None:
        mode = os.fstat(STDOUT).st_mode
        self._is_terminal = os.isatty(STDOUT)
        # Files and devices take what they are given at once: a thread for it would take longer.
        self._write = _write_at_once if stat.S_ISREG(mode) or mode_is_null(mode) else write

    def writer(self, *, looks: bool) -> Write:
        """Give a way to write; ``looks`` spares a terminal what is no text."""
        has_looked = not (looks and self._is_terminal)

        async def write(data: bytes) -> None:
            nonlocal has_looked
            if not has_looked and not is_text(data):
                reason = "this is no text, which may mess up the terminal: use -o FILE, or -o -"
                raise TransferError(ExitCode.WRITE_ERROR, reason)
            has_looked = True
            await self.write(data)

        return write

    async def write(self, data: bytes) -> None:
        """Write all of it."""
        try:
            await self._write(data)
        except OSError as error:
            reason = f"writing standard output: {error.strerror}"
            raise TransferError(ExitCode.WRITE_ERROR, reason) from None


def is_text(data: bytes) -> bool:
    """Tell what a terminal can show from what may mess it up."""
    return _NO_TEXT.search(data) is None


def mode_is_null(mode: int) -> bool:
    """Tell a device such as /dev/null from a terminal."""
    return stat.S_ISCHR(mode) and not os.isatty(STDOUT)


async def _write_at_once(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(STDOUT, rest) :]
