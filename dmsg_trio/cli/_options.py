"""Options that the commands share, declared once.

Some go together and become one value: a command names the group as the type of a parameter, and
`spread` makes the group's fields its options.

    @app.command()
    @spread
    def ping(pk: str, keys: KeyOptions, log: LogOptions, discovery: Discovery = HERE) -> None:
        log.set_up()
        run(partial(send_pings, pk, keys.secret_key(), discovery))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Final, ParamSpec, TypeVar, get_type_hints

import typer
from typer.models import OptionInfo

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import SecretKey

from . import _secrets
from ._log import set_up_logging

P = ParamSpec("P")
R = TypeVar("R")

HERE: Final = "http://127.0.0.1:9090"  # where `dmsg up` and `dmsg-discovery` listen

# ---- the same for all, but for other names that the reference's programs have ----


def discovery_option(*others: str, what: str = "URL of the discovery") -> OptionInfo:
    """Make the option that names the discovery."""
    option: OptionInfo = typer.Option("--discovery", *others, envvar="DMSG_DISCOVERY", help=what)
    return option


Discovery = Annotated[str, discovery_option()]
ReferenceDiscovery = Annotated[str, discovery_option("--dmsg-disc", "-D")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
ReferenceLevel = Annotated[str, typer.Option("--loglvl", "-l", hidden=True, show_default=False)]
# As the reference takes it; see `_secrets.refuse_on_command_line`.
SecretArgument = Annotated[str, typer.Option("--sk", "-s", hidden=True, show_default=False)]


def is_typed(context: typer.Context, name: str | None) -> bool:
    """Tell whether it is the command line that says what a parameter is."""
    source = context.get_parameter_source(name or "")
    return source is not None and source.name == "COMMANDLINE"


def refuse_typed(
    context: typer.Context, param: typer.CallbackParam, value: str | None
) -> str | None:
    """Let a secret come from its variable, and refuse it where others can read it."""
    if is_typed(context, param.name):
        raise ConfigError(
            f"{param.opts[0]}: everybody on this machine can read a command line:"
            f" put it into the variable {param.envvar}"
        )
    return value


# ---- what is logged ----


class Level(StrEnum):
    """From which severity on a line is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @classmethod
    def of_reference(cls, name: str) -> Level:
        """Find the level that the reference's programs call so."""
        ours = {"fatal": "error", "panic": "error", "warn": "warning", "trace": "debug"}
        try:
            return cls(ours.get(name, name))
        except ValueError:
            raise ConfigError(f"--loglvl: debug, info, warning or error, not {name!r}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """What is told on standard error."""

    log_level: Annotated[
        Level, typer.Option("--log-level", envvar="DMSG_LOG_LEVEL", help="Log from this level up.")
    ] = Level.INFO
    log_json: Annotated[bool, typer.Option("--log-json", help="Log JSON lines.")] = False
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", envvar="DMSG_DEBUG", help="Log everything, show tracebacks of errors."
        ),
    ] = False

    def set_up(self, reference_level: str = "") -> None:
        """Make these options count, and over them what ``--loglvl`` says."""
        level = Level.of_reference(reference_level) if reference_level else self.log_level
        set_up_logging(Level.DEBUG if self.debug else level, as_json=self.log_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolLogOptions(LogOptions):
    """The same for tools that a person runs and watches: they say only what is wrong."""

    log_level: Annotated[
        Level, typer.Option("--log-level", envvar="DMSG_LOG_LEVEL", help="Log from this level up.")
    ] = Level.WARNING


# ---- whose key it is ----


@dataclass(frozen=True, slots=True, kw_only=True)
class PassphraseOptions:
    """How to open what is sealed; without any, the terminal is asked."""

    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--passphrase-file",
            envvar="DMSG_PASSPHRASE_FILE",
            help="File with the passphrase of a sealed key.",
        ),
    ] = None
    passphrase_fd: Annotated[
        int | None,
        typer.Option("--passphrase-fd", min=0, help="File descriptor with the passphrase."),
    ] = None

    def passphrase(self) -> str:
        """Get the passphrase of something sealed."""
        return self._given() or _secrets.typed_passphrase()

    def new_passphrase(self) -> str:
        """Get a passphrase to seal with."""
        return self._given() or _secrets.typed_new_passphrase()

    def _given(self) -> str:
        if self.passphrase_fd is not None:
            return _secrets.passphrase_from_fd(self.passphrase_fd)
        if self.passphrase_file is not None:
            return _secrets.passphrase_from_file(self.passphrase_file)
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyOptions(PassphraseOptions):
    """Under which key a program runs."""

    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", help="Identity file, see 'dmsg keys'; - is standard input."),
    ] = None
    key_fd: Annotated[
        int | None, typer.Option("--key-fd", min=0, help="File descriptor to read the key from.")
    ] = None
    key_stdin: Annotated[
        bool, typer.Option("--key-stdin", help="Read the key from standard input.")
    ] = False
    key_env: Annotated[
        str, typer.Option("--key-env", help="Variable that holds the key, if it is set.")
    ] = "DMSG_SK"

    def secret_key(self, variable: str = "") -> SecretKey | None:
        """Get the key from the one source that was named, or None if there is none.

        ``variable`` is where the reference's program of this name has it.
        """
        named = {
            "--key-file": self.key_file is not None,
            "--key-fd": self.key_fd is not None,
            "--key-stdin": self.key_stdin,
        }
        if sum(named.values()) > 1:
            both = " and ".join(option for option, is_named in named.items() if is_named)
            raise ConfigError(f"one key is enough, but {both} name several")
        if self.key_file is not None:
            return _secrets.key_from_file(self.key_file, self.passphrase)
        if self.key_fd is not None:
            return _secrets.key_from_fd(self.key_fd, self.passphrase)
        if self.key_stdin:
            return _secrets.key_from_stdin(self.passphrase)
        sk = _secrets.key_from_environment(self.key_env, self.passphrase)
        if sk is None and variable:
            sk = _secrets.key_from_environment(variable, self.passphrase)
        if sk is None and self.key_env != DEFAULT_VARIABLE:
            raise ConfigError(f"--key-env: the variable {self.key_env} is not set")
        return sk


DEFAULT_VARIABLE: Final = KeyOptions().key_env


# ---- groups of options ----


def spread(command: Callable[P, R]) -> Callable[P, R]:
    """Turn each parameter whose type is a group of options into these options."""
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    groups = {
        each.name: each.annotation
        for each in parameters
        if isinstance(each.annotation, type) and is_dataclass(each.annotation)
    }

    @wraps(command)
    def called(*args: P.args, **options: P.kwargs) -> R:
        for name, group in groups.items():
            given = {each.name: options.pop(each.name) for each in fields(group)}
            options[name] = replace(group(), **given)
        return command(*args, **options)

    flat: list[inspect.Parameter] = []
    for each in parameters:
        flat += _options_of(groups[each.name]) if each.name in groups else [each]
    flat = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in flat]
    # Typer looks at both.
    setattr(called, "__signature__", inspect.Signature(flat))  # noqa: B010 - mypy knows no such attribute
    called.__annotations__ = {each.name: each.annotation for each in flat}
    return called


def _options_of(group: type) -> list[inspect.Parameter]:
    types = get_type_hints(group, include_extras=True)
    return [
        each.replace(annotation=types[each.name])
        for each in inspect.signature(group).parameters.values()
    ]
