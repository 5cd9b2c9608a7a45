"""What a shell's host is to run, as whom and with which environment, and how it ended."""

from __future__ import annotations

import os
import pwd
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dmsg_trio._errors import DmsgError

MAX_VALUE: Final = 4096  # bytes of a variable that a client sets; longer ones are left out
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
USER_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
DEFAULT_LANGUAGE: Final = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
DEFAULT_SHELL: Final = "/bin/sh"  # of accounts that name none

# A list of what may pass: the variables that can do harm (of loaders, interpreters, shells) are
# too many to know.
_MAY_BE_SET: Final = re.compile(
    r"LANG|LANGUAGE|LC_[A-Z]+|COLORTERM|NO_COLOR|TERM_PROGRAM|TERM_PROGRAM_VERSION|TZ"
)
_TERM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


class StartError(DmsgError):
    """A command could not be started; ``number`` is the system's (`errno`), 0 if it gave none."""

    def __init__(self, message: str, number: int = 0) -> None:
        self.number = number
        super().__init__(message)


@contextmanager
def starting_to(what: str) -> Iterator[None]:
    """Tell what the system refuses (mostly: one more descriptor or process) as `StartError`."""
    try:
        yield
    except OSError as error:
        raise StartError(f"{what}: {error.strerror}", error.errno or 0) from error


@dataclass(frozen=True, slots=True)
class Exit:
    """How a command ended: with a code, or by a signal."""

    code: int | None = None
    signal: str | None = None  # its name without SIG

    @classmethod
    def of(cls, status: int) -> Exit:
        """Read a status as `subprocess` has it: signals are below zero."""
        if status >= 0:
            return cls(code=status)
        try:
            return cls(signal=signal.Signals(-status).name.removeprefix("SIG"))
        except ValueError:  # one of the realtime signals, which have numbers only
            return cls(signal=str(-status))


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run, and as whom."""

    argv: tuple[str, ...] = ()  # empty: the user's login shell, as a login shell
    environment: Mapping[str, str]  # in full: nothing is inherited
    directory: Path | None = None  # None: the user's home, or / where that cannot be entered
    user: str | None = None  # None: as whom this process runs; another one only if that is root
    no_new_privileges: bool = False  # Linux only: set-user-id programs get no privileges
    argv0: str | None = None  # what the command is called, if not by the first of argv

    def __post_init__(self) -> None:
        words = [*self.argv, *self.environment, *self.environment.values(), self.argv0 or ""]
        for word in (*words, str(self.directory)):
            if "\0" in word or not _is_bytes(word):
                raise StartError(f"{word!r}: not a word that a command can be given")
        if any("=" in name or not name for name in self.environment):
            raise StartError("a variable of the environment has no name, or one with =")
        if self.argv and not self.argv[0]:
            raise StartError("the command's name is empty")
        if self.no_new_privileges and sys.platform != "linux":
            raise StartError("no-new-privileges is of Linux only")


def _is_bytes(word: str) -> bool:
    try:
        word.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine, as its database has them."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str

    @classmethod
    def find(cls, user: str | None) -> Account:
        """Look ``user`` up, or else whom this process runs as; it may ask a directory service."""
        try:
            entry = pwd.getpwnam(user) if user is not None else pwd.getpwuid(os.geteuid())
        except (KeyError, ValueError) as error:
            if user is not None:
                raise StartError(f"no user {user!r} on this machine") from error
            # Containers often run as a number that no database knows.
            return cls(str(os.geteuid()), os.geteuid(), os.getegid(), "/", DEFAULT_SHELL)
        return cls(
            entry.pw_name,
            entry.pw_uid,
            entry.pw_gid,
            entry.pw_dir or "/",
            entry.pw_shell or DEFAULT_SHELL,
        )


def login_environment(
    user: str | None, *, term: str | None, extra: Mapping[str, str]
) -> dict[str, str]:
    """Make the environment that a login gives; of ``extra`` only what is harmless is taken.

    That is the language (``LANG``, ``LC_*``), the time zone and what the terminal can do. A TERM
    that cannot be the name of a terminal becomes ``dumb``.
    """
    account = Account.find(user)
    environment = {
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell,
        "PATH": SYSTEM_PATH if account.uid == 0 else USER_PATH,
        "LANG": os.environ.get("LANG") or DEFAULT_LANGUAGE,
    }
    if term is not None:
        environment["TERM"] = term if _TERM.fullmatch(term) else "dumb"
    environment |= {
        name: value
        for name, value in extra.items()
        if _MAY_BE_SET.fullmatch(name) and "\0" not in value and len(value) <= MAX_VALUE
    }
    return environment
