"""Where the settings of a host come from: the reference's JSON file, its variables and its flags.

Each setting has a type, which is looked at while it is known where the setting stands. No error
has seen the secret key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec

from dmsg_trio._errors import ConfigError
from dmsg_trio._files import MAX_SETTINGS, fault_of_readers, read_settings_file
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio.apps.pty._places import ENV_PREFIX, PTY_PORT, default_socket

DISCOVERY: Final = "http://dmsgd.skywire.skycoin.com"  # of the production network

MAX_SESSIONS: Final = 256  # at once, detached ones included
MAX_SESSIONS_PER_KEY: Final = 32
IDLE_TIME: Final = 0.0  # seconds without a byte either way after which a session ends; 0: never
KEEP_TIME: Final = 600.0  # seconds that a session may wait for its client to come back

# The names of a setting in the file, and behind `<PREFIX>_` in the environment.
VARIABLES: Final = ("dmsgdisc", "dmsgsessions", "dmsgport", "clinet", "cliaddr")


class ConfigFile(msgspec.Struct):
    """The file. An empty text and null are as good as no setting."""

    dmsgdisc: str = DISCOVERY
    dmsgsessions: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 1
    dmsgport: Annotated[int, msgspec.Meta(ge=1, le=65535)] = PTY_PORT
    clinet: str = "unix"
    cliaddr: str = ""
    sk: str = ""
    pk: str = ""
    wl: list[str] = []
    # The reference knows none of these, and loses them when it rewrites the file.
    user: str = ""
    no_new_privileges: bool = False
    shell: str = ""
    max_sessions: Annotated[int, msgspec.Meta(ge=1)] = MAX_SESSIONS
    max_sessions_per_key: Annotated[int, msgspec.Meta(ge=1)] = MAX_SESSIONS_PER_KEY
    idle_time: Annotated[float, msgspec.Meta(ge=0)] = IDLE_TIME
    keep_time: Annotated[float, msgspec.Meta(ge=0)] = KEEP_TIME
    audit_log: str = ""
    tcp_anywhere: bool = False


Settings = dict[str, object]


class Source(NamedTuple):
    """Settings by their names in the file, and how errors name one of them."""

    settings: Settings
    place: Callable[[str], str]
    are_texts: bool = False  # also where a number is meant


# ---- sources ----


def from_file(path: Path) -> Source:
    """Read the settings of a file; one with a key in it must be readable for its owner alone."""
    data, mode = read_settings_file(path, pipe_option="--confstdin")
    source = from_bytes(data, str(path))
    if "sk" in source.settings and (fault := fault_of_readers(path, mode)):
        del data, source
        raise ConfigError(f"sk: {fault}")
    return source


def from_bytes(data: bytes, where: str) -> Source:
    """Read the settings of a file's content."""
    if len(data) > MAX_SETTINGS:
        raise ConfigError(f"{where}: larger than {MAX_SETTINGS} bytes")
    fault = "not a JSON object with settings"
    settings: object = None
    try:
        settings = msgspec.json.decode(data)
    except (RecursionError, UnicodeDecodeError):
        pass
    except msgspec.DecodeError as error:
        fault = str(error)
    del data
    if not isinstance(settings, dict):
        del settings
        raise ConfigError(f"{where}: {fault}")
    given = {name: value for name, value in settings.items() if value not in (None, "")}
    return Source(given, lambda name: f"{where}: {name}")


def from_environment(environment: Mapping[str, str], prefix: str = ENV_PREFIX) -> Source:
    """Take the reference's five variables."""
    names = {name: f"{prefix}_{name.upper()}" for name in VARIABLES}
    settings = {name: environment[names[name]] for name in names if environment.get(names[name])}
    return Source(dict(settings), lambda name: f"the variable {names[name]}", are_texts=True)


def from_common_variables(environment: Mapping[str, str]) -> Source:
    """Take what all programs here know, and the reference's host does not."""
    url = environment.get("DMSG_DISCOVERY")
    settings: Settings = {"dmsgdisc": url} if url else {}
    return Source(settings, lambda _: "the variable DMSG_DISCOVERY", are_texts=True)


def from_flags(flags: Mapping[str, object]) -> Source:
    """Take the flags; one that says its default, or None, says nothing: so it is in the reference."""
    defaults = {**msgspec.structs.asdict(ConfigFile()), "cliaddr": default_socket(os.environ)}
    given = {
        name: value
        for name, value in flags.items()
        if value is not None and value != defaults[name]
    }
    return Source(given, lambda name: f"--{name.replace('_', '-')}")


# ---- types ----


def check(source: Source) -> None:
    """See that each setting is of its type, while it is known where it stands."""
    for name in source.settings.keys() & set(ConfigFile.__struct_fields__):
        fault = ""
        try:
            msgspec.convert({name: source.settings[name]}, ConfigFile, strict=not source.are_texts)
        except msgspec.ValidationError as error:
            message, _, place = str(error).partition(f" - at `$.{name}")
            fault = f"{place.rstrip('`')}: {message}"
        if fault:
            raise ConfigError(f"{source.place(name)}{fault}")


def allowed_in(source: Source) -> tuple[PublicKey, ...]:
    """Give the keys under ``wl`` of a source that is no file, and that nobody can change."""
    check(source)
    texts = msgspec.convert({"wl": source.settings.get("wl") or []}, ConfigFile).wl
    return tuple(parsed_key(f"{source.place('wl')}[{i}]", text) for i, text in enumerate(texts))


def parsed_key(place: str, text: str) -> PublicKey:
    """Read a key; an error says where it stands."""
    try:
        return PublicKey.parse(text)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


# ---- out ----


def form_of_config(secret_key: SecretKey, *sources: Source) -> bytes:
    """Write a new configuration file as the reference does: its names, its defaults and its form.

    A later source counts over an earlier one.
    """
    merged: Settings = {}
    for source in sources:
        check(source)
        merged.update(source.settings)
    given = msgspec.convert(merged, ConfigFile, strict=False)
    settings = {
        "dmsgdisc": given.dmsgdisc,
        "dmsgsessions": given.dmsgsessions,
        "dmsgport": given.dmsgport,
        "clinet": given.clinet,
        "cliaddr": given.cliaddr or default_socket(os.environ),
        "sk": secret_key.reveal().hex(),
        "pk": str(secret_key.pk),
        "wl": None,
    }
    return json.dumps(settings, indent=4).encode()
