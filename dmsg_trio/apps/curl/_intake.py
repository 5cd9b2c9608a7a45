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
from ._versions import length_of

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
        order, report, pace, watcher = (
            self.order,
            self.asking.report,
            self.asking.pace,
            self.watcher,
        )
        has_body = order.method != "HEAD" and response.status_code not in (204, 304)
        expected = length_of(response) if has_body else 0
        if order.max_size is not None and (expected or 0) + at > order.max_size:
            reason = f"{place(report.url)} sends {expected} bytes, more than {order.max_size}"
            raise TransferError(ExitCode.TOO_BIG, reason)
        watcher.body_begins(at, None if expected is None else expected + at)
        raw = raw_pieces(response)
        unpacks = order.decodes and is_packed(response)
        start, arrived = at, 0

        async def counted() -> AsyncGenerator[Piece]:
            nonlocal arrived
            async with aclosing(raw):
                async for data in raw:
                    arrived += len(data)
                    yield data

        try:
            async with aclosing(unpacked(counted()) if unpacks else raw) as pieces:
                async for data in pieces:
                    await receiver.write(data, at)
                    at += len(data)
                    report.downloaded += len(data)
                    watcher.received(len(data))
                    await pace.after(len(data))
                    if order.max_size is not None and at > order.max_size:
                        reason = f"{place(report.url)} sends more than {order.max_size} bytes"
                        raise TransferError(ExitCode.TOO_BIG, reason)
                    self._remember_now_and_then(receiver)
        except httpx.RemoteProtocolError:
            if expected is None or at - start >= expected:
                raise
            raise self.cut_off(at - start, expected) from None
        count = arrived if unpacks else at - start
        if expected is not None and count < expected:
            raise self.cut_off(count, expected)

    def cut_off(self, count: int, expected: int) -> TransferError:
        where = place(self.asking.report.url)
        reason = f"receiving from {where}: it closed after {count} of {expected} bytes"
        if expected == UNKNOWN_SIZE:
            reason += ", a length by which some servers mean a folder"
        return TransferError(ExitCode.PARTIAL, reason, may_pass=expected != UNKNOWN_SIZE)

    def _remember_now_and_then(self, receiver: Receiver) -> None:
        if not isinstance(receiver, FileReceiver) or not receiver.is_scattered:
            return
        if trio.current_time() > self._remembered + REMEMBER_EVERY:
            self._remembered = trio.current_time()
            receiver.remember()
