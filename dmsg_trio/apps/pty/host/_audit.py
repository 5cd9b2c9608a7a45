"""Who ran what: one JSON line for each session when it ends, and one for each refusal.

The lines are plain ASCII, whatever the command contained: control characters and all others stand
in them as escapes (``\\u001b``), so nothing is lost and no terminal is moved by reading them.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dmsg_trio._errors import ConfigError
from dmsg_trio._files import fault_of_readers
from dmsg_trio._keys import PublicKey

LOCAL: Final = "local"  # the source of who comes over the local socket
MAX_COMMAND: Final = 4096  # characters of a command and its arguments that a line has room for
MAX_REASON: Final = 1024  # characters
MAX_REFUSALS: Final = 600  # lines a minute: keys cost nothing, and a disk is not endless
MINUTE: Final = 60 * 10**9  # nanoseconds

APPENDED: Final = (
    os.O_WRONLY
    | os.O_APPEND
    | os.O_CREAT
    | os.O_NOFOLLOW
    | os.O_CLOEXEC
    | os.O_NONBLOCK
    | os.O_NOCTTY
)

logger = logging.getLogger("dmsg_trio.pty.audit")


@dataclass(slots=True)
class AuditedSession:
    """What becomes known of a session while it runs; the one who runs it fills it in."""

    bytes_in: int = 0  # to the command, or to where a connection leads
    bytes_out: int = 0  # from there
    exit_code: int | None = None
    signal: str | None = None  # its name without SIG
    reason: str = ""  # why it ended, in words


class Audit:
    """Writes the lines to a file of its own, or to the log if there is none.

    Raises `ConfigError` if the file cannot be written or others can read it.
    """

    def __init__(
        self, path: Path | None = None, *, wall_clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._path = path
        self._wall_clock = wall_clock
        self._minute = 0  # when the current one began
        self._refusals = 0  # in this minute
        if path is not None:
            try:
                os.close(_open(path))
            except OSError as error:
                raise ConfigError(f"audit_log: {path}: {error.strerror}") from error

    @contextmanager
    def session(
        self, *, key: PublicKey | None, source: str, command: Sequence[str]
    ) -> Iterator[AuditedSession]:
        """Write one line when the block ends, by whatever way.

        ``key`` is None for a local user; an empty command is the login shell.
        """
        session = AuditedSession()
        start = self._wall_clock()
        way = "broken off"
        try:
            yield session
            way = "ended"
        finally:
            self._write(
                {
                    "event": "session",
                    "key": _text(key),
                    "source": source,
                    **_command(command),
                    "start": _time(start),
                    "end": _time(self._wall_clock()),
                    "exit_code": session.exit_code,
                    "signal": session.signal,
                    "bytes_in": session.bytes_in,
                    "bytes_out": session.bytes_out,
                    "reason": (session.reason or way)[:MAX_REASON],
                }
            )

    def refused(
        self, *, key: PublicKey | None, source: str, reason: str, command: Sequence[str] = ()
    ) -> None:
        """Write that somebody did not get in; beyond `MAX_REFUSALS` a minute they are counted."""
        self._count_minutes()
        self._refusals += 1
        if self._refusals > MAX_REFUSALS:
            return
        self._write(
            {
                "event": "refusal",
                "key": _text(key),
                "source": source,
                **_command(command),
                "time": _time(self._wall_clock()),
                "reason": reason[:MAX_REASON],
            }
        )

    def close(self) -> None:
        """Write what was only counted so far."""
        if (more := self._refusals - MAX_REFUSALS) > 0:
            self._append({"event": "refusals", "since": _time(self._minute), "count": more})
        self._refusals = 0

    def _count_minutes(self) -> None:
        if self._wall_clock() - self._minute >= MINUTE:
            self.close()
            self._minute = self._wall_clock()

    # ---- out ----

    def _write(self, fields: Mapping[str, object]) -> None:
        self._count_minutes()
        self._append(fields)

    def _append(self, fields: Mapping[str, object]) -> None:
        line = json.dumps(fields)
        if self._path is None:
            logger.info("%s", line)
            return
        data = line.encode() + b"\n"
        try:
            # Opened for each line, so that whoever rotates the file need not tell us.
            fd = _open(self._path)
            try:
                written = os.write(fd, data)
            finally:
                os.close(fd)
            fault = f"only {written} of {len(data)} bytes" if written < len(data) else ""
        except OSError as error:
            fault = error.strerror or str(error)
        except ConfigError as error:
            fault = str(error)
        if fault:
            # A session is not ended for the sake of its line, and the line is not lost.
            logger.error("cannot write %s: %s: %s", self._path, fault, line)


def _open(path: Path) -> int:
    fd = os.open(path, APPENDED, 0o600)
    mode = os.fstat(fd).st_mode
    fault = fault_of_readers(path, mode)
    if not stat.S_ISREG(mode):
        fault = f"{path} is not a regular file"
    if fault:
        os.close(fd)
        raise ConfigError(f"audit_log: {fault}")
    return fd


def _command(command: Sequence[str]) -> dict[str, object]:
    """Give a command as much room as there is, and say how much of it there was."""
    words: list[str] = []
    room = MAX_COMMAND
    for word in command:
        if room <= 0:
            break
        words.append(word[:room])
        room -= len(word) + 1
    cut = sum(map(len, command)) - sum(map(len, words))
    left_out = cut > 0 or len(words) < len(command)
    return {"command": words, **({"command_cut": cut} if left_out else {})}


def _text(key: PublicKey | None) -> str | None:
    return None if key is None else str(key)


def _time(at: int) -> str:
    moment = datetime.fromtimestamp(at // 10**6 / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
