"""How what must hold is checked."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

NOTICED_WITHIN: Final = 30.0  # seconds in which a lost stream breaks
PAUSE: Final = 2.0  # seconds between two looks


class UnexpectedError(AssertionError):
    """The network did something that the model does not allow."""


def check(holds: bool, otherwise: str) -> None:
    """Raise `UnexpectedError` unless this holds."""
    if not holds:
        raise UnexpectedError(otherwise)


@contextmanager
def arriving(what: str) -> Iterator[None]:
    """Expect something within the time that a lost stream takes to break."""
    try:
        with trio.fail_after(NOTICED_WITHIN):
            yield
    except trio.TooSlowError:
        raise UnexpectedError(f"{what} did not come") from None


async def holds_within(seconds: float, look: Callable[[], None]) -> None:
    """Expect that ``look`` has nothing to find fault with, at some time within this."""
    until = trio.current_time() + seconds
    while True:
        try:
            return look()
        except UnexpectedError:
            if trio.current_time() >= until:
                raise
        await trio.sleep(PAUSE)


def tasks() -> Counter[str]:
    """The tasks of this run, by what they do."""
    root = trio.lowlevel.current_root_task()
    found: Counter[str] = Counter()
    rest = [root] if root else []
    while rest:
        task = rest.pop()
        found[task.name] += 1
        rest += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


class _FaultsOfOurs(logging.Handler):
    """Keeps what is logged as an error: only bugs are."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def no_faults_logged() -> Iterator[None]:
    """Expect no error in the log; the rest of it, which is long, is left out."""
    faults = _FaultsOfOurs()
    logger = logging.getLogger("dmsg_trio")
    logger.addHandler(faults)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        logger.removeHandler(faults)
    for record in faults.records:
        raise UnexpectedError(f"a fault of ours was logged: {record.getMessage()}") from (
            record.exc_info[1] if record.exc_info else None
        )
