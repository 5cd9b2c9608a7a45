"""The parts of a large file, each over a stream of its own, all of the same version."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

import trio

from ._asking import Asking
from ._codes import ExitCode, TransferError, place
from ._intake import Intake
from ._parts import Span
from ._receivers import FileReceiver, Receiver
from ._versions import Version, part_of

SHORTEST_PART: Final = 4 * 1024 * 1024
LONGEST_PART: Final = 256 * 1024 * 1024


class Changed(Exception):
    """What is at the URL is not, or not surely, what the receiver has a part of."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver


async def fetch_parts(receiver: FileReceiver, asking: Asking, intake: Intake, streams: int) -> None:
    """Fetch what is missing over so many streams; `Changed` if it is of another version."""
    receiver.scatter()
    waiting = cut(receiver.missing(), streams)

    async def fetch_some() -> None:
        for span in waiting:
            await _fetch_part(receiver, asking, intake, span)

    failures: list[TransferError] = []
    has_changed = False
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(streams):
                nursery.start_soon(fetch_some)
    except* Changed:
        has_changed = True
    except* TransferError as group:
        failures += leaves(group)
    if has_changed:
        raise Changed(receiver)
    if failures:
        raise failures[0]


async def _fetch_part(receiver: FileReceiver, asking: Asking, intake: Intake, span: Span) -> None:
    start, stop = span
    question = ("Range", f"bytes={start}-{stop - 1}"), ("If-Range", receiver.version.validator)
    async with asking.answer(*question) as response:
        if response.status_code >= 400 and response.status_code != 416:
            raise intake.refused(response)
        part, version = part_of(response), Version.of(response)
        if part is None or not version.is_same(receiver.version):
            raise Changed(receiver)
        if (part.start, part.stop) != span:
            reason = f"{place(asking.report.url)} sends another range than {start}-{stop - 1}"
            raise TransferError(ExitCode.RANGE_ERROR, reason)
        await intake.take(response, receiver, start)


def cut(missing: Iterable[Span], streams: int) -> Iterator[Span]:
    """Cut what is missing into parts for so many streams, one by one: a server may claim any size."""
    spans = list(missing)
    size = sum(stop - start for start, stop in spans)
    piece = min(LONGEST_PART, max(SHORTEST_PART, math.ceil(size / max(1, streams))))
    return (
        (at, min(at + piece, stop)) for start, stop in spans for at in range(start, stop, piece)
    )


def leaves(group: BaseExceptionGroup[TransferError]) -> list[TransferError]:
    """Take the errors out of their groups."""
    found: list[TransferError] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
