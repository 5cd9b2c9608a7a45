"""How a program runs and ends: its signals, its exit codes, its errors as one clear line.

Exit codes: 0 done, 1 refused or failed (one line on standard error says why), 2 wrong usage, 128 and
the number of the signal that stopped it. A service is there to be stopped, so that is its 0.
Trio takes a tenth of a second to import, which `dmsg --help` need not wait for: hence the imports
inside of functions.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

import typer

from dmsg_trio._errors import DmsgError

from ._group import Group
from ._quick import started, starting

if TYPE_CHECKING:
    import trio

T = TypeVar("T")

REFUSED: Final = 1
STOPS: Final = (signal.SIGINT, signal.SIGTERM)

logger = logging.getLogger("dmsg_trio.cli")


def program(
    *, no_args_is_help: bool = False, cls: type[typer.core.TyperGroup] = Group
) -> typer.Typer:
    """Make the Typer app of a program or command: plain help, fast, and no variables in tracebacks."""
    return typer.Typer(
        cls=cls,
        no_args_is_help=no_args_is_help,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
    )


def call(app: Callable[[], object], *, failure: int = REFUSED) -> NoReturn:
    """Be a whole program: ``main`` of a console script calls this with its Typer app."""

    def app_and_its_output() -> None:
        try:
            app()
        finally:
            sys.stdout.flush()  # here, where a reader that is gone is no reason for a traceback

    with starting():
        clearly(app_and_its_output, failure=failure)
    sys.exit(0)


def run(
    async_fn: Callable[[], Awaitable[T]],
    *,
    service: bool = False,
    failure: int = REFUSED,
    stops: tuple[signal.Signals, ...] = STOPS,
) -> T:
    """Run ``async_fn`` on Trio; the first of the signals ``stops`` cancels it, a second one kills.

    Cancelled code that has to say goodbye does so in a shielded scope with a deadline of its own.
    """
    import trio

    started()
    return clearly(
        lambda: trio.run(partial(_until_signal, async_fn, service=service, stops=stops)),
        failure=failure,
    )


async def _until_signal(
    async_fn: Callable[[], Awaitable[T]], *, service: bool, stops: tuple[signal.Signals, ...]
) -> T:
    import trio

    with trio.CancelScope() as scope, _cancelled_by_signals(scope, stops) as received:
        result = await async_fn()
        if not received:
            return result
    sys.exit(0 if service else 128 + received[0])


@contextmanager
def _cancelled_by_signals(
    scope: trio.CancelScope, stops: tuple[signal.Signals, ...]
) -> Iterator[list[int]]:
    import trio

    token = trio.lowlevel.current_trio_token()
    received: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        for each in stops:
            signal.signal(each, signal.SIG_DFL)  # so the next one works even if nothing else does
        token.run_sync_soon(stop, signal.Signals(number).name)

    def stop(name: str) -> None:
        logger.info("%s: ending, a second signal ends at once", name)
        scope.cancel()

    before = {number: signal.signal(number, on_signal) for number in stops}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---- errors ----


def clearly(do: Callable[[], T], *, failure: int = REFUSED) -> T:
    """Call ``do``; what it refuses ends the program with one line, what is a bug stays a bug."""
    refusals: list[DmsgError] = []
    code = failure
    try:
        return do()
    except* DmsgError as group:
        refusals += _leaves(group)
        for error in refusals if debugging() else ():
            traceback.print_exception(error)
    except* KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except* BrokenPipeError:
        if not _reader_is_gone():
            raise
        # Nothing more can be said, not even by the flush at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if refusals:
        more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
        print(f"error: {one_line(str(refusals[0]))}{more}", file=sys.stderr)
    sys.exit(code)


def debugging() -> bool:
    """Tell whether the user wants to see tracebacks: ``--debug`` or ``DMSG_DEBUG``."""
    return bool(os.environ.get("DMSG_DEBUG")) or logger.isEnabledFor(logging.DEBUG)


def _leaves(group: BaseExceptionGroup[DmsgError]) -> Iterator[DmsgError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _reader_is_gone() -> bool:
    """Tell a closed standard output from a connection that broke, which is another matter."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


# ---- text of others ----


def printable(text: str) -> str:
    """Take the power from what others wrote: nothing in it can move a cursor or turn a line round."""
    return "".join(map(_harmless, text))


def one_line(text: str) -> str:
    """Join the lines of a message, harmless as `printable` makes them."""
    return printable("; ".join(line.strip() for line in text.splitlines()))


def _harmless(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"
