"""A remote shell as its user has it, whatever the host can do.

Everything that happens comes as an event of one iteration, the last of which says how it ended:
also that the connection was lost and is there again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeAlias

import trio

from dmsg_trio._errors import DmsgError
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import Detached, Errors, Output, TakenOver

Dial: TypeAlias = Callable[[], Awaitable[trio.abc.HalfCloseableStream]]


class ShellRefusedError(DmsgError):
    """The host does not run that, and says why; ``code`` is what a shell would exit with."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        self.reason = reason
        self.code = code
        super().__init__(reason or "the host refused, without saying why")


class CannotError(DmsgError):
    """This host has no way to do that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to run."""

    argv: tuple[str, ...] | None = None  # None: the login shell
    terminal: str | None = None  # TERM, or None for pipes
    size: WindowSize | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    keep: int = 0  # seconds for which it outlives a lost connection


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The stream is gone; another one is being looked for."""

    reason: str


@dataclass(frozen=True, slots=True)
class AttachedAgain:
    """It goes on where it was."""


@dataclass(frozen=True, slots=True)
class CommandEnded:
    """The command ended by itself or by a signal; both None: the host has no way to tell."""

    code: int | None = None
    signal: str | None = None


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The shell is out of reach, and why."""

    reason: str


Ending: TypeAlias = CommandEnded | TakenOver | Detached | GivenUp
RemoteEvent: TypeAlias = Output | Errors | ConnectionLost | AttachedAgain | Ending


class RemoteShell(Protocol):
    """A command on another machine; leaving the block in which it was opened ends it."""

    @property
    def cannot(self) -> tuple[str, ...]:
        """What this host has no way to do, in words for the user."""
        ...

    def __aiter__(self) -> Self:
        """Iterate over what happens; the last of it is an `Ending`."""
        ...

    async def __anext__(self) -> RemoteEvent:
        """Wait for what happens next; whoever asks is done with the last."""
        ...

    async def send_input(self, data: bytes) -> None:
        """Send input; wait while the command is behind with reading."""
        ...

    async def end_input(self) -> None:
        """Let the command read the end of its input."""
        ...

    async def resize(self, size: WindowSize) -> None:
        """Change the size of the terminal."""
        ...

    async def signal(self, name: str) -> None:
        """Signal the command, by a name without SIG; raises `CannotError`."""
        ...

    async def detach(self) -> None:
        """Let the command live on; the iteration ends with `Detached`. Raises `CannotError`."""
        ...

    async def hang_up(self) -> None:
        """End the command; the iteration says how that went."""
        ...
