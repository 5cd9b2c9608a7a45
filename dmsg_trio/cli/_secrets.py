"""Where secrets come from: a file, a file descriptor, standard input, the environment, a terminal.

Never from an argument, which every user of the machine can read. A source that was named and gives
nothing, or nonsense, is an error: nobody should run under another key than the one they meant.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from pathlib import Path

from dmsg_trio._errors import ConfigError, IdentityError
from dmsg_trio._identity import (
    Hidden,
    identity_untrusted,
    load_identity,
    open_identity,
    read_limited,
    read_private_file,
)
from dmsg_trio._keys import SecretKey

Passphrase = Callable[[], str]


def default_identity() -> Path:
    """Say where the user's own identity file is."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(configured) if os.path.isabs(configured) else Path.home() / ".config"
    return folder / "dmsg" / "identity"


# ---- keys ----


def key_from_file(path: Path, passphrase: Passphrase) -> SecretKey:
    """Read an identity file, or standard input where the path is ``-``."""
    if str(path) == "-":
        return key_from_stdin(passphrase)
    return load_identity(path, passphrase=passphrase)


def key_from_fd(fd: int, passphrase: Passphrase) -> SecretKey:
    """Read what a file descriptor gives until it ends."""
    return _key(read_limited(fd, f"file descriptor {fd}"), f"file descriptor {fd}", passphrase)


def key_from_stdin(passphrase: Passphrase) -> SecretKey:
    """Read standard input until it ends; a terminal would show what is typed."""
    if os.isatty(0):
        raise IdentityError("standard input is a terminal, which would show the key: use a pipe")
    return _key(read_limited(0, "standard input"), "standard input", passphrase)


def key_from_environment(name: str, passphrase: Passphrase) -> SecretKey | None:
    """Take the key out of a variable, so that processes started by us do not inherit it."""
    if name not in os.environ:
        return None
    return _key(Hidden(os.fsencode(os.environ.pop(name))), f"variable {name}", passphrase)


def _key(data: Hidden, where: str, passphrase: Passphrase) -> SecretKey:
    return open_identity(identity_untrusted(data, where), where, passphrase=passphrase)


def refuse_on_command_line(secret: str | None, variable: str) -> None:
    """Raise `ConfigError` if there is a key, as the reference takes one with ``--sk``."""
    if secret:
        raise ConfigError(
            "--sk: everybody on this machine can read a command line: put the key into a file"
            f" (--key-file) or into the variable {variable}"
        )


# ---- passphrases ----


def passphrase_from_file(path: Path) -> str:
    """Read a file that holds a passphrase and nothing else."""
    return _first_line(read_private_file(path), str(path))


def passphrase_from_fd(fd: int) -> str:
    """Read a passphrase from a file descriptor."""
    return _first_line(read_limited(fd, f"file descriptor {fd}"), f"file descriptor {fd}")


def typed_passphrase() -> str:
    """Ask at the terminal, without showing what is typed."""
    return _ask("passphrase: ")


def typed_new_passphrase() -> str:
    """Ask at the terminal twice, since a passphrase mistyped once is a key lost."""
    words = _ask("new passphrase: ")
    if _ask("the same again: ") != words:
        del words
        raise ConfigError("the two passphrases differ")
    return words


def _ask(prompt: str) -> str:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        # Without this, getpass would ask on standard input and show the answer.
        raise ConfigError(
            "no terminal to ask for the passphrase: use --passphrase-file or --passphrase-fd"
        ) from None
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise ConfigError("no passphrase was typed") from None


def _first_line(data: Hidden, where: str) -> str:
    try:
        lines = data.raw.decode().splitlines()
        if len(lines) == 1 and lines[0]:
            return lines[0]
        del lines
    except UnicodeDecodeError:
        pass
    raise ConfigError(f"{where} is not one line of text with a passphrase")
