"""Log lines on standard error: for people one line each, for programs one JSON object each.

What others wrote may be part of a message, so a line is made harmless before it is printed.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from ._run import printable

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

# These tell each request and each connection at "info"; that is our "debug".
_TALKATIVE: Final = ("httpx", "httpcore", "hypercorn", "trio-websocket")


def set_up_logging(level: str, *, as_json: bool = False) -> None:
    """Send everything from ``level`` up to standard error; the last call counts."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else Lines())
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.WARNING))


@contextmanager
def on_raw_terminal() -> Iterator[None]:
    """Let lines begin on the left for the block, in which the terminal does not see to that."""
    handlers = [each for each in logging.root.handlers if isinstance(each, logging.StreamHandler)]
    for handler in handlers:
        handler.terminator = "\r\n"
    try:
        yield
    finally:
        for handler in handlers:
            handler.terminator = "\n"


class Lines(logging.Formatter):
    """``2026-01-31T12:00:00.123Z info server: session with 02…``, a traceback indented below."""

    def format(self, record: logging.LogRecord) -> str:
        """Put a record into a line."""
        message = printable(record.getMessage())
        line = f"{_time(record)} {record.levelname.lower()} {_who(record)}: {message}"
        if record.exc_info:
            trace = self.formatException(record.exc_info).splitlines()
            line = "\n    ".join([line, *map(_printable_indented, trace)])
        return line


class JsonLines(logging.Formatter):
    """One object a line, with ``time``, ``level``, ``logger``, ``message`` and maybe ``error``."""

    def format(self, record: logging.LogRecord) -> str:
        """Put a record into a line."""
        fields = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _who(record: logging.LogRecord) -> str:
    return record.name.removeprefix("dmsg_trio.")


def _printable_indented(line: str) -> str:
    words = line.lstrip()
    return " " * (len(line) - len(words)) + printable(words)
