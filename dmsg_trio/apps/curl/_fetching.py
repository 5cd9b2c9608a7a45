"""One try to have what an order asks for: anew, the rest of it, or its parts side by side.

It is one question, or several that ask for parts. What arrived stays with the receiver, so the next
try asks for the rest, on the condition that it is the rest of the same version.
"""

from __future__ import annotations

from typing import Final

import httpx

from ._asking import Asking
from ._codes import ExitCode, TransferError, place
from ._intake import Intake
from ._orders import OnError, Order, Watcher
from ._receivers import FileReceiver, Receiver, StreamReceiver, ToFile, ToStream
from ._side_by_side import Changed, fetch_parts
from ._versions import Version, moment, part_of, total_of_unsatisfiable

FIRST_PART: Final = 4 * 1024 * 1024  # asked for to learn whether more streams are of use


class Fetch:
    """Has the answer to one order, in as many tries as it takes; what arrived stays in between."""

    def __init__(
        self, asking: Asking, order: Order, output: ToStream | ToFile, watcher: Watcher
    ) -> None:
        self.receiver: Receiver | None = None
        self._asking = asking
        self._order = order
        self._output = output
        self._watcher = watcher
        self._report = asking.report
        self._intake = Intake(asking, order, watcher)
        self._is_last_try = False

    @property
    def may_go_on(self) -> bool:
        """Whether another try can end well: what a stream has got cannot begin anew."""
        receiver = self.receiver
        is_begun = isinstance(receiver, StreamReceiver) and bool(receiver.have)
        return receiver is None or not is_begun or bool(receiver.version.validator)

    async def go_on(self, *, is_last_try: bool) -> None:
        """Try once."""
        self._is_last_try = is_last_try
        for fetch in self._fetch_what_is_missing, self._fetch_anew:
            try:
                await fetch()
            except Changed as change:
                self._watcher.note("what is there now may be of another version: starting over")
                change.receiver.begin(self._order.url, Version())
            else:
                return
        await self._fetch_whole()  # whose parts do not hold still: one stream is of one version

    async def _fetch_what_is_missing(self) -> None:
        receiver = self._open_early()
        if isinstance(receiver, FileReceiver) and len(receiver.have) > 1:
            await self._fetch_parts(receiver)
        elif receiver is not None and receiver.have:
            await self._fetch_rest(receiver)
        elif not await self._has_all_already(receiver):
            await self._fetch_anew()

    def _open_early(self) -> Receiver | None:
        """Open the file before anything is asked, where another run may have left a part of it."""
        output = self._output
        if self.receiver is not None or not isinstance(output, ToFile):
            return self.receiver
        if (output.goes_on or output.from_byte) and self._order.is_plain_get:
            self.receiver = output.open(self._order.url)
            self._report.filename = getattr(self.receiver, "name", "")
        return self.receiver

    async def _has_all_already(self, receiver: Receiver | None) -> bool:
        """Ask, where a file is to be gone on with that is none of our parts, if it is complete."""
        if not isinstance(receiver, FileReceiver) or receiver.version.validator:
            return False
        try:
            found = receiver.part.target.stat()
        except FileNotFoundError:
            return False
        async with self._asking.answer(("Range", f"bytes={found.st_size}-")) as response:
            changed = moment(response.headers.get("last-modified", ""))
            is_newer = changed is not None and changed.timestamp() > found.st_mtime
            is_complete = total_of_unsatisfiable(response) == found.st_size and not is_newer
        if is_complete and response.status_code == 416:
            self._watcher.note(f"{receiver.name} is complete already")
            return True
        return False

    async def _fetch_anew(self) -> None:
        is_file = isinstance(self._output, ToFile)
        if is_file and self._order.streams > 1 and self._order.is_plain_get:
            await self._fetch_in_streams()
        else:
            await self._fetch_whole()

    async def _fetch_whole(self) -> None:
        order = self._order
        span = f"{order.from_byte}-" if order.from_byte else order.span
        async with self._asking.answer(*([("Range", f"bytes={span}")] if span else [])) as response:
            if not order.from_byte or self._goes_on(response, order.from_byte):
                await self._take_answer(response)

    def _goes_on(self, response: httpx.Response, at: int) -> bool:
        """Say if there is more from this byte on; raise if the answer begins elsewhere."""
        part = part_of(response)
        if response.status_code == 416 and total_of_unsatisfiable(response) == at:
            return False
        if response.status_code < 400 and (part is None or part.start != at):
            raise self._cannot_go_on(at)
        return True

    def _cannot_go_on(self, at: int) -> TransferError:
        reason = f"{place(self._report.url)} cannot go on at byte {at}"
        return TransferError(ExitCode.RANGE_ERROR, reason)

    async def _take_answer(self, response: httpx.Response) -> None:
        """Take an answer that begins with the beginning."""
        order = self._order
        heads = self._asking.heads if order.shows_heads else b""
        try:
            self._intake.check_status(response, may_try_again=not self._is_last_try)
        except TransferError as error:
            if heads and isinstance(self._output, ToStream) and not self._is_tried_again(error):
                await self._output.write(heads)
            raise
        if response.status_code == 304 and not heads and isinstance(self._output, ToFile):
            return  # what is there is as good as what could come
        receiver = self._receiver_for(response)
        is_pure = order.is_plain_get and response.status_code == 200
        receiver.begin(order.url, Version.of(response) if is_pure else Version())
        if heads:
            await receiver.write(heads, 0)
        if not order.skips_body:
            await self._intake.take(response, receiver, len(heads))
        self._finish(receiver, response)

    def _is_tried_again(self, error: TransferError) -> bool:
        return not self._is_last_try and (error.may_pass or self._order.retries.whatever)

    def _receiver_for(self, response: httpx.Response) -> Receiver:
        if self.receiver is not None:
            return self.receiver
        if isinstance(self._output, ToStream):
            self.receiver = StreamReceiver(self._output.write)
        else:
            self.receiver = self._output.open(self._order.url, response)
            self._report.filename = getattr(self.receiver, "name", "")
        return self.receiver

    def _finish(self, receiver: Receiver, response: httpx.Response) -> None:
        receiver.finish(response)
        if response.status_code >= 400 and self._order.on_error is OnError.FAIL_WITH_BODY:
            raise self._intake.refused(response)

    # ---- going on ----

    async def _fetch_rest(self, receiver: Receiver) -> None:
        """Ask for what is missing at the end."""
        version, at = receiver.version, receiver.have[-1][1]
        if not version.validator and not self._is_offset_named:
            raise Changed(receiver)
        condition = [("If-Range", version.validator)] if version.validator else []
        async with self._asking.answer(("Range", f"bytes={at}-"), *condition) as response:
            part = part_of(response)
            if part is not None:
                found = Version.of(response)
                if part.start != at or (version.validator and not found.is_same(version)):
                    raise Changed(receiver)
                if not version.validator:  # from here on it is known what this is a part of
                    receiver.version = found
                await self._intake.take(response, receiver, at)
                self._intake.check_complete(receiver)
                self._finish(receiver, response)
            elif response.status_code == 200 and version.validator:
                self._watcher.note("it has changed: starting over")
                await self._take_answer(response)
            elif response.status_code == 416:
                if not self._is_complete(response, receiver, at):
                    raise Changed(receiver)
                self._finish(receiver, response)
            elif response.status_code >= 400:
                raise self._intake.refused(response)
            else:
                raise self._cannot_go_on(at)

    @property
    def _is_offset_named(self) -> bool:
        """Whether the user said where to go on: then it is not for us to compare versions."""
        return isinstance(self._output, ToFile) and self._output.from_byte > 0

    def _is_complete(self, response: httpx.Response, receiver: Receiver, at: int) -> bool:
        etag = response.headers.get("etag", receiver.version.etag)
        is_same = etag == receiver.version.etag
        total = total_of_unsatisfiable(response)
        if not receiver.version.validator:  # the user said where to go on
            return total == at
        return is_same and at == receiver.version.total and total in (at, None)

    # ---- several streams ----

    async def _fetch_in_streams(self) -> None:
        """Ask for the first part; if that is granted, for the others side by side."""
        receiver: Receiver | None = None
        async with self._asking.answer(("Range", f"bytes=0-{FIRST_PART - 1}")) as response:
            part, version = part_of(response), Version.of(response)
            if part is None and response.status_code != 416:
                await self._take_answer(response)
                return
            if part is not None and part.start == 0 and version.validator and version.total:
                receiver = self._receiver_for(response)
                receiver.begin(self._order.url, version)
                await self._take_first_part(response, receiver, version.total)
        if isinstance(receiver, FileReceiver):
            await self._fetch_parts(receiver)
        elif receiver is not None:
            await self._fetch_rest(receiver)
        else:  # an empty file, or nothing that tells versions apart
            await self._fetch_whole()

    async def _take_first_part(
        self, response: httpx.Response, receiver: Receiver, total: int
    ) -> None:
        await self._intake.take(response, receiver, 0)
        self._watcher.body_begins(receiver.have[-1][1], total)

    async def _fetch_parts(self, receiver: FileReceiver) -> None:
        await fetch_parts(receiver, self._asking, self._intake, self._order.streams)
        self._intake.check_complete(receiver)
        if self._report.response is not None:
            self._finish(receiver, self._report.response)
