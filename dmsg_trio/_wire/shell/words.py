"""What the two ends of shell/1 say, as values that exist only if they are right."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from dmsg_trio._wire.pty import WindowSize

SHELL_URI: Final = "dmsgpty/shell/1"
MAX_PAYLOAD: Final = 64 * 1024
INPUT_WINDOW: Final = 256 * 1024  # bytes that the client may send beyond what was TAKEN
OUTPUT_WINDOW: Final = 1024 * 1024  # bytes that the host may send beyond what was RECEIVED
MAX_ARGUMENTS: Final = 4096
MAX_VARIABLES: Final = 256
MAX_TERM: Final = 64  # characters of a terminal's name

_MAX_NUMBER: Final = 2**63 - 1  # what every language can count
_ID: Final = re.compile(r"[0-9a-f]{32}")
_SIGNAL: Final = re.compile(r"[A-Z0-9][A-Z0-9+-]{0,15}")  # those without a name have a number


# ---- what a client says ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Begin a session; said again on another stream, it attaches to the one that it began."""

    session: str  # a random name by the client: so a START whose answer was lost can be repeated
    client: str  # a random name of this client
    attempt: int  # counts the streams on which this client asked for this session
    keep: int  # seconds that the session waits for another stream when it has lost one
    argv: tuple[str, ...] | None = None  # None: the login shell
    terminal: str | None = None  # TERM, or None for pipes
    size: WindowSize | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_claim(self.session, self.client, self.attempt, self.size)
        check_number("keep", self.keep)
        _check_argv(self.argv)
        if self.terminal is not None and not 0 < len(self.terminal) <= MAX_TERM:
            raise ValueError(f"the name of a terminal has {len(self.terminal)} characters")
        _check_no_nul("terminal", self.terminal or "")
        if len(self.env) > MAX_VARIABLES:
            raise ValueError(f"{len(self.env)} variables, the limit is {MAX_VARIABLES}")
        for name, value in self.env.items():
            _check_no_nul("env", name + value)
            if not name or "=" in name:
                raise ValueError(f"env: {name!r} is no name of a variable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attach:
    """Go on with a session on this stream.

    With ``output`` None it is a client that is new to the session, which takes it over from whoever
    had it; with a count of bytes it is the one that had it last.
    """

    session: str
    client: str
    attempt: int
    output: int | None = None
    size: WindowSize | None = None

    def __post_init__(self) -> None:
        _check_claim(self.session, self.client, self.attempt, self.size)
        if self.output is not None:
            check_number("output", self.output)


@dataclass(frozen=True, slots=True)
class Input:
    """Bytes for the command."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EndOfInput:
    """No input follows; repeated on every stream after the first that said it."""


@dataclass(frozen=True, slots=True)
class Resize:
    """The terminal has another size."""

    size: WindowSize


@dataclass(frozen=True, slots=True)
class Signal:
    """Send the command a signal, named without SIG."""

    name: str

    def __post_init__(self) -> None:
        if not _SIGNAL.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name of a signal")


@dataclass(frozen=True, slots=True)
class Received:
    """So many bytes of output, in all, are where the client wanted them."""

    count: int


@dataclass(frozen=True, slots=True)
class Detach:
    """Let the session live on without a stream."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the session."""


@dataclass(frozen=True, slots=True)
class List:
    """Which sessions does this key have?"""


@dataclass(frozen=True, slots=True)
class Done:
    """All output and the exit were received: forget the session."""


# ---- what a host says ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The session runs and this stream has it: where both directions go on."""

    session: str
    input: int  # bytes of input that came in: the next INPUT goes on from there
    taken: int  # bytes of those that the command has
    output: int  # bytes of output that lie behind the client: the next OUTPUT goes on from there
    keep: int  # seconds, as granted
    input_ended: bool = False

    def __post_init__(self) -> None:
        _check_id("session", self.session)
        for name in ("input", "taken", "output", "keep"):
            check_number(name, getattr(self, name))
        if self.taken > self.input:
            raise ValueError(f"{self.taken} bytes were taken of {self.input}")


@dataclass(frozen=True, slots=True)
class Output:
    """What the command wrote to its terminal or to its standard output."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Errors:
    """What the command wrote to its standard error."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """The command has so many bytes of input, in all."""

    count: int


@dataclass(frozen=True, slots=True)
class Exited:
    """How the command ended: by itself with a code, or by a signal; behind all output."""

    code: int | None = None
    signal: str | None = None

    def __post_init__(self) -> None:
        if (self.code is None) == (self.signal is None):
            raise ValueError("an exit is either a code or a signal")
        if self.code is not None and not 0 <= self.code <= 255:
            raise ValueError(f"an exit code of {self.code}")
        if self.signal is not None and not _SIGNAL.fullmatch(self.signal):
            raise ValueError(f"{self.signal!r} is no name of a signal")


@dataclass(frozen=True, slots=True)
class Refused:
    """No, and why; ``code`` is what a shell would exit with if it could not run the command."""

    reason: str
    code: int | None = None


@dataclass(frozen=True, slots=True)
class TakenOver:
    """Another client has the session now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """One line of a list of sessions."""

    session: str
    argv: tuple[str, ...] | None  # shortened if it is long
    started: int  # seconds since 1970, by the host's clock
    attached: bool
    terminal: bool
    ended: bool = False

    def __post_init__(self) -> None:
        _check_id("session", self.session)
        check_number("started", self.started)
        _check_argv(self.argv)


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions of this key; if ``more``, the next frame has others."""

    sessions: tuple[SessionInfo, ...]
    more: bool = False


@dataclass(frozen=True, slots=True)
class Detached:
    """The session waits for so many seconds for somebody to attach."""

    keep: int

    def __post_init__(self) -> None:
        check_number("keep", self.keep)


@dataclass(frozen=True, slots=True)
class Violated:
    """What followed is no frame of the other side's; nothing more is read from this stream."""

    reason: str


Event: TypeAlias = (
    Start | Attach | Input | EndOfInput | Resize | Signal | Received | Detach | HangUp | List | Done
    | Started | Output | Errors | Taken | Exited | Refused | TakenOver | Sessions | Detached
)  # fmt: skip


# ---- what is right ----


def _check_claim(session: str, client: str, attempt: int, size: WindowSize | None) -> None:
    _check_id("session", session)
    _check_id("client", client)
    check_number("attempt", attempt)
    for number in (size.rows, size.columns, size.width, size.height) if size else ():
        if not 0 <= number <= 0xFFFF:
            raise ValueError(f"size: {number} does not fit into 16 bits")


def _check_id(name: str, value: str) -> None:
    if not _ID.fullmatch(value):
        raise ValueError(f"{name}: {value!r} is not 32 hexadecimal digits")


def check_number(name: str, value: int) -> None:
    if not 0 <= value <= _MAX_NUMBER:
        raise ValueError(f"{name}: {value} is not between 0 and {_MAX_NUMBER}")


def _check_argv(argv: tuple[str, ...] | None) -> None:
    if argv is None:
        return
    if not 0 < len(argv) <= MAX_ARGUMENTS:
        raise ValueError(f"argv: {len(argv)} arguments, not 1 to {MAX_ARGUMENTS}")
    _check_no_nul("argv", "".join(argv))


def _check_no_nul(name: str, text: str) -> None:
    if "\0" in text:
        raise ValueError(f"{name}: a NUL within")
