"""A transfer: one order, tried until it is done or there is no hope, within its time."""

from __future__ import annotations

import math

import httpx
import trio

from dmsg_trio._net.nurseries import open_service_nursery

from ._asking import Asking
from ._codes import ExitCode, TransferError
from ._fetching import Fetch
from ._orders import Order, Report, Watcher
from ._pace import Pace
from ._receivers import ToFile, ToStream
from ._side_by_side import leaves


class Transfer:
    """Carries out one order; `run` does it, and the report says how it went."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        order: Order,
        output: ToStream | ToFile,
        watcher: Watcher,
    ) -> None:
        self.report = Report(order.url, order.url, order.method)
        self._order = order
        self._watcher = watcher
        self._asking = Asking(transport, order, watcher, self.report)
        self._fetch = Fetch(self._asking, order, output, watcher)
        self._tries_left = order.retries.times

    async def run(self) -> Report:
        """Try until it is done, or until there is no hope; errors are in the report."""
        self.report.began = trio.current_time()
        try:
            await self._try_and_try()
        except TransferError as error:
            self.report.error = error
        finally:
            receiver = self._fetch.receiver
            if receiver is not None and (kept := receiver.leave()):
                self._watcher.note(f"{kept}; -C - goes on with them")
            self.report.ended = trio.current_time() - self.report.began
        return self.report

    async def _try_and_try(self) -> None:
        retries = self._order.retries
        while True:
            self.report.tries += 1
            try:
                await self._try()
            except TransferError as error:
                pause = retries.pause(self.report.tries, error)
                until = trio.current_time() + pause - self.report.began
                is_late = retries.within and until > retries.within
                body = self._order.body
                is_spent = body is not None and not body.is_repeatable and self.report.uploaded
                may_pass = error.may_pass or retries.whatever
                is_over = is_late or is_spent or not self._fetch.may_go_on
                if not self._tries_left or not may_pass or is_over:
                    raise
                self._watcher.tries_again(error, pause, self._tries_left)
                self._tries_left -= 1
                await trio.sleep(pause)
            else:
                return

    async def _try(self) -> None:
        order = self._order
        self._asking.pace = Pace(order.rate, order.stall)
        failures: list[TransferError] = []
        with trio.move_on_after(order.max_time or math.inf) as limit:
            try:
                async with open_service_nursery() as nursery:
                    if order.stall:
                        nursery.start_soon(self._asking.pace.watch, self._asking.doing)
                    await self._fetch.go_on(is_last_try=not self._tries_left)
            except* TransferError as group:
                failures += leaves(group)
        if failures:
            raise failures[0]
        if limit.cancelled_caught:
            reason = f"{self._asking.doing()}: not done within {order.max_time:g} s"
            raise TransferError(ExitCode.TIMEOUT, f"{reason}, {self.report.downloaded} bytes in")
