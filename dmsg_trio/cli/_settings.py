"""What options are if the command line does not say: variables first, then one TOML file.

    discovery = "http://dmsgd.example"   # above all tables: for every command
    [curl]
    retry = 3                            # --retry of dmsgcurl, which is `dmsg curl`
    [pty.host]
    idle-time = 3600

An option ``--connect-timeout`` of `dmsg curl` is the variable ``DMSG_CURL_CONNECT_TIMEOUT`` too.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from typer.core import TyperGroup, TyperOption

from dmsg_trio._errors import ConfigError
from dmsg_trio._files import fault_of_readers

from ._plain_values import take_plain_values

if TYPE_CHECKING:
    from typer._click import Command


FILE_VARIABLE: Final = "DMSG_CONFIG"
QUESTIONS: Final = frozenset(["--help", "--version"])
MAX_FILE: Final = 1024 * 1024  # bytes
# What stands above the tables; each command takes of it what it knows.
COMMON: Final = frozenset(
    ["discovery", "key-file", "key-env", "passphrase-file", "log-level", "log-json", "debug"]
)
# Settings that may be secrets, and what they look like then: nobody else may read the file.
SECRETS: Final = {
    "auth": re.compile("."),
    "cookie": re.compile("="),  # and not the name of a file
    "header": re.compile(r"(proxy-)?authorization:|cookie:", re.IGNORECASE),
    "oauth2-bearer": re.compile("."),
    "proxy": re.compile("@"),  # behind a name and a password
    "user": re.compile(":"),
}

Table: TypeAlias = dict[str, object]


def prepare(command: Command, path: tuple[str, ...], args: Sequence[str]) -> None:
    """Let a command know variables and the file; ``path`` is what it is called as in `dmsg`.

    Raises `ConfigError` if something in the file is wrong, as far as it concerns the command. Who
    asks for help with it is not refused.
    """
    try:
        _prepare(command, path)
    except ConfigError:
        if QUESTIONS.isdisjoint(args):
            raise


def _prepare(command: Command, path: tuple[str, ...]) -> None:
    settings = _File.read()
    for each, place in _with_subcommands(command, path):
        take_plain_values(each)
        for name, option in _options(each).items():
            _name_variable(option, name, place)
        if (values := settings.of(each, place)) and isinstance(each.context_settings, dict):
            each.context_settings["default_map"] = values


def _with_subcommands(
    command: Command, path: tuple[str, ...]
) -> Iterator[tuple[Command, tuple[str, ...]]]:
    yield command, path
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            yield from _with_subcommands(each, (*path, name))


def _options(command: Command) -> dict[str, TyperOption]:
    """Give the options that can be set, by their long names."""
    found = {}
    for option in command.params:
        if isinstance(option, TyperOption) and not option.hidden and not option.is_eager:
            for name in option.opts:
                if name.startswith("--"):
                    found[name.removeprefix("--")] = option
    return found


def _name_variable(option: TyperOption, name: str, path: tuple[str, ...]) -> None:
    if option.envvar is None:  # the first of its long names
        option.envvar = "_".join(("dmsg", *path, name)).replace("-", "_").upper()
        option.show_envvar = False


class _File:
    """The file with settings, or an empty one."""

    def __init__(self, path: Path, content: Table, mode: int = 0) -> None:
        self._path = path
        self._content = content
        self._mode = mode

    @classmethod
    def read(cls) -> _File:
        """Read the file that the variable names, or the user's if there is one."""
        named = os.environ.get(FILE_VARIABLE)
        path = Path(named) if named else _usual_path()
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(MAX_FILE + 1)
        except OSError as error:
            if named:
                raise ConfigError(f"{FILE_VARIABLE}: {path}: {error.strerror}") from None
            return cls(path, {})
        if len(data) > MAX_FILE:
            raise ConfigError(f"{path}: larger than {MAX_FILE} bytes")
        import tomllib

        try:
            content = tomllib.loads(data.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{path}: {error}") from None
        return cls(path, content, mode)

    def of(self, command: Command, path: tuple[str, ...]) -> Table:
        """Find the values for a command, by the names of its parameters."""
        if not self._content:
            return {}
        self._check_top()
        options = _options(command)
        table = self._table(path)
        subcommands = command.commands if isinstance(command, TyperGroup) else {}
        common = {
            name: value
            for name, value in self._content.items()
            if not isinstance(value, dict) and _dashed(name) in options
        }
        values: Table = {}
        for name, value in {**common, **table}.items():
            if name in subcommands:
                continue
            option = options.get(_dashed(name))
            if option is None:
                where = f"[{'.'.join(path)}] " if path else ""
                raise ConfigError(f"{self._path}: {where}{_unknown(name, [*options])}")
            place = ".".join((*path, name))
            values[option.name or name] = self._checked(command, option, value, place)
            self._check_readers(_dashed(name), value, place)
        return values

    def _table(self, path: tuple[str, ...]) -> Table:
        table: object = self._content if path else {}
        for name in path:
            table = cast("Table", table).get(name, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{self._path}: {'.'.join(path)} is a table: [{'.'.join(path)}]")
        return cast("Table", table)

    def _check_top(self) -> None:
        from . import dmsg  # whose commands are the tables

        commands = {*dmsg.COMMANDS, *dmsg.ALIASES}
        for name, value in self._content.items():
            if isinstance(value, dict):
                if name not in commands:
                    raise ConfigError(f"{self._path}: [{name}]: {_unknown(name, [*commands])}")
            elif _dashed(name) not in COMMON:
                hint = _unknown(name, [*COMMON])
                raise ConfigError(f"{self._path}: {hint}; what is for one command is in its table")

    def _check_readers(self, name: str, value: object, place: str) -> None:
        """Refuse a secret that others can read, too."""
        texts = [str(each) for each in (value if isinstance(value, list) else [value])]
        is_secret = name in SECRETS and any(map(SECRETS[name].search, texts))
        if is_secret and (fault := fault_of_readers(self._path, self._mode)):
            raise ConfigError(f"{place} is a secret, and {fault}")

    def _checked(self, command: Command, option: TyperOption, value: object, place: str) -> object:
        """Give a value as the command line would have it, if the option takes it."""
        from typer._click import Context
        from typer._click.exceptions import BadParameter

        several = option.multiple or option.nargs != 1
        values = value if isinstance(value, list) and several else [value]
        if any(isinstance(each, (dict, list)) for each in values):
            raise ConfigError(f"{self._path}: {place}: one value is wanted")
        if any(isinstance(each, bool) != bool(option.is_flag) for each in values):
            wanted = "true or false is" if option.is_flag else "a text or a number is"
            raise ConfigError(f"{self._path}: {place}: {wanted} wanted")
        words = [each if isinstance(each, bool) else str(each) for each in values]
        given = words if several else words[0]
        try:
            option.process_value(Context(command), given)
        except BadParameter as error:
            raise ConfigError(f"{self._path}: {place}: {error.message}") from None
        return given


def _usual_path() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "dmsg" / "config.toml"


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"unknown setting {name!r}" + (f", is {near[0]!r} meant?" if near else "")
