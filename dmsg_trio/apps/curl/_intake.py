"""The answer comes in: its status is judged, its body goes where it belongs, to its announced end."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import httpx
import trio

from ._asking import Asking
from ._codes import PASSING_STATUS, ExitCode, TransferError, place
from ._orders import OnError, Order, Watcher
from ._receivers import FileReceiver, Receiver
from ._unpacking import Piece, is_packed, raw_pieces, unpacked
from ._versions import length_of, part_of

REMEMBER_EVERY: Final = 1.0  # seconds between two notes about parts that grow at several ends
UNKNOWN_SIZE: Final = 2**63 - 1  # announced by the reference's file server for a folder


@dataclass(slots=True)
class Intake:
    """Takes answers in, for one order."""

    asking: Asking
    order: Order
    watcher: Watcher
    _remembered: float = -math.inf

    def check_status(self, response: httpx.Response, *, may_try_again: bool) -> None:
        """Raise what a status means that is not wanted, or may be another one soon."""
        status, on_error = response.status_code, self.order.on_error
        if status < 400:
            return
        may_pass = status in PASSING_STATUS
        if on_error is OnError.FAIL or (may_pass and may_try_again):
            raise self.refused(response)

    def refused(self, response: httpx.Response) -> TransferError:
        status = response.status_code
        url = self.asking.report.url
        reason = f"{place(url)}{url.path} answered {status} {response.reason_phrase}".strip()
        wait = response.headers.get("retry-after", "")
        return TransferError(
            ExitCode.HTTP_ERROR,
            reason,
            may_pass=status in PASSING_STATUS,
            pause=float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 6 else 0,
        )

    async def take(self, response: httpx.Response, receiver: Receiver, at: int) -> None:
        """Write a body from ``at`` on; raise if it is not as long as was announced."""
        expected = self._expected(response)
        self._check_size(at + (expected or 0))
        self.watcher.body_begins(at, None if expected is None else expected + at)
        arrived = 0

        async def counted() -> AsyncGenerator[Piece]:
            nonlocal arrived
            async with aclosing(raw_pieces(response)) as raw:
                async for data in raw:
                    arrived += len(data)
                    if expected is not None and arrived > expected:
                        raise self._too_long(expected)
                    yield data

        unpacks = self.order.decodes and is_packed(response)
        try:
            async with aclosing(unpacked(counted()) if unpacks else counted()) as pieces:
                async for data in pieces:
                    await receiver.write(data, at)
                    at += len(data)
                    await self._count(len(data))
                    self._check_size(at)
                    self._remember_now_and_then(receiver)
        except httpx.RemoteProtocolError:
            if expected is None or arrived >= expected:
                raise
            raise self.cut_off(arrived, expected) from None
        if expected is not None and arrived < expected:
            raise self.cut_off(arrived, expected)

    def _expected(self, response: httpx.Response) -> int | None:
        """Say how long the body is as it is sent; None if nobody knows."""
        if self.order.method == "HEAD" or response.status_code in (204, 304):
            return 0
        part = part_of(response)
        return part.stop - part.start if part else length_of(response)

    async def _count(self, count: int) -> None:
        self.asking.report.downloaded += count
        self.watcher.received(count)
        await self.asking.pace.after(count)

    def _check_size(self, size: int) -> None:
        limit = self.order.max_size
        if limit is not None and size > limit:
            reason = f"{place(self.asking.report.url)} sends more than {limit} bytes"
            raise TransferError(ExitCode.TOO_BIG, reason)

    def _too_long(self, expected: int) -> TransferError:
        where = place(self.asking.report.url)
        reason = f"receiving from {where}: more than the {expected} bytes that it announced"
        return TransferError(ExitCode.WEIRD_ANSWER, reason)

    def cut_off(self, count: int, expected: int) -> TransferError:
        where = place(self.asking.report.url)
        reason = f"receiving from {where}: it closed after {count} of {expected} bytes"
        if expected == UNKNOWN_SIZE:
            reason += ", a length by which some servers mean a folder"
        return TransferError(ExitCode.PARTIAL, reason, may_pass=expected != UNKNOWN_SIZE)

    def check_complete(self, receiver: Receiver) -> None:
        """Raise if something is missing, as far as it is known how long it is."""
        total = receiver.version.total
        if total is not None and receiver.have != [(0, total)]:
            raise self.cut_off(sum(stop - start for start, stop in receiver.have), total)

    def _remember_now_and_then(self, receiver: Receiver) -> None:
        if not isinstance(receiver, FileReceiver) or not receiver.is_scattered:
            return
        if trio.current_time() > self._remembered + REMEMBER_EVERY:
            self._remembered = trio.current_time()
            receiver.remember()
