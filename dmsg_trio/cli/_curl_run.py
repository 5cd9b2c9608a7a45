"""Runs the transfers of a command line, one after the other or side by side."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

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
    saying,
)
from dmsg_trio.http import DmsgTransport

from ._curl_bodies import STANDARD
from ._curl_more_options import NetworkOptions, ShowingOptions
from ._curl_network import on_network
from ._curl_plan import Planned
from ._curl_watch import Meter, Screen, Teller
from ._curl_write_out import written_out
from ._stdio import STDERR, STDOUT, open_output

# Bytes that no text has. A bell, a backspace, white space and the colours that ESC begins are text.
_NO_TEXT: Final = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]")


@dataclass(slots=True)
class Run:
    """One run of the program."""

    transfers: list[Planned]
    showing: ShowingOptions
    network: NetworkOptions
    secret_key: SecretKey | None
    screen: Screen
    at_once: int = 1

    async def run(self) -> int:
        """Transfer everything; give the exit code of the last transfer that failed."""
        order = self.transfers[0].order
        within = min(order.connect_timeout or 30, order.max_time or float("inf"))
        try:
            async with on_network(
                self.secret_key,
                self.network.discovery,
                sessions=self.network.sessions,
                within=within,
                say=self.screen.note,
            ) as client:
                async with DmsgTransport(client) as transport:
                    return await self.transfer(transport)
        except TransferError as error:
            self.screen.error(error)
            return error.code

    async def transfer(self, transport: httpx.AsyncBaseTransport) -> int:
        """Transfer everything over ``transport``."""
        codes: list[int] = []
        meter = Meter(self.screen, is_plain=self.showing.progress_bar)
        limiter = trio.CapacityLimiter(self.at_once)
        with open_output() as output, meter.shown(), HeadFiles() as heads:
            stdout = Stdout(output.write)

            def failed(error: TransferError) -> None:
                self.screen.error(error)
                codes.append(error.code)

            async def one(number: int, planned: Planned) -> None:
                try:
                    async with limiter:
                        report = await self._one(
                            transport,
                            planned,
                            stdout,
                            heads.writer(planned.dump_header),
                            meter if self._has_meter(planned) else None,
                        )
                    if report.error is not None:
                        failed(report.error)
                    elif planned.etag_save:
                        _save_etag(report, planned.etag_save)
                    await _write_out(planned.write_out, report, number, stdout)
                except TransferError as error:
                    failed(error)

            if self.at_once == 1:
                for number, planned in enumerate(self.transfers):
                    await one(number, planned)
                    if codes and planned.fails_early:
                        break
            else:
                async with trio.open_nursery() as nursery:

                    async def one_of_many(number: int, planned: Planned) -> None:
                        await one(number, planned)
                        if codes and planned.fails_early:
                            nursery.cancel_scope.cancel()

                    for number, planned in enumerate(self.transfers):
                        nursery.start_soon(one_of_many, number, planned)
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


class HeadFiles(ExitStack):
    """What -D names: the heads of all answers go there."""

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[str, BinaryIO] = {}

    def writer(self, path: str) -> Callable[[bytes], None] | None:
        """Give what writes a head; the file is made anew by the first that asks for it."""
        if not path:
            return None
        file = self._files.get(path) or self._open(path)
        self._files[path] = file

        def write(head: bytes) -> None:
            with saying(f"writing {path}"):
                file.write(head)
                file.flush()

        return write

    def _open(self, path: str) -> BinaryIO:
        if path == STANDARD:
            return sys.stdout.buffer
        with saying(f"writing {path}"):
            file = Path(path).open("wb")  # noqa: SIM115 - the stack closes it
        self.callback(_close, file)
        return file


def _close(file: BinaryIO) -> None:
    with suppress(OSError):  # of bytes that could not be flushed, which has been said
        file.close()


def _save_etag(report: Report, path: str) -> None:
    tag = report.response.headers.get("etag", "") if report.response else ""
    if tag:
        with saying(f"writing {path}"):
            Path(path).write_text(f"{tag}\n")


async def _write_out(text: str, report: Report, number: int, stdout: Stdout) -> None:
    for fd, piece in written_out(text, report, number):
        if fd == STDERR:
            print(piece, end="", file=sys.stderr)
        elif piece:
            await stdout.write(os.fsencode(piece))


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

        async def write(data: bytes | memoryview) -> None:
            nonlocal has_looked
            if not has_looked and not is_text(data):
                reason = "this is no text, which may mess up the terminal: use -o FILE, or -o -"
                raise TransferError(ExitCode.WRITE_ERROR, reason)
            has_looked = True
            await self.write(data)

        return write

    async def write(self, data: bytes | memoryview) -> None:
        """Write all of it."""
        with saying("writing standard output"):
            await self._write(data)


def is_text(data: bytes | memoryview) -> bool:
    """Tell what a terminal can show from what may mess it up."""
    return _NO_TEXT.search(data) is None


def mode_is_null(mode: int) -> bool:
    """Tell a device such as /dev/null from a terminal."""
    return stat.S_ISCHR(mode) and not os.isatty(STDOUT)


async def _write_at_once(data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(STDOUT, rest) :]
