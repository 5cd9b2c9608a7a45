"""How a host is told what to be: the reference's JSON file, its variables and its flags, and ours.

A setting comes from the first of these that has it: a flag that is not its default, a variable, the
file, standard input, the default. Whatever is wrong is told with where it stands, and no error has
seen the secret key. Unlike in the reference a setting that the file lacks has its default.
"""

from __future__ import annotations

import ipaddress
import json
import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from dmsg_trio._errors import ConfigError
from dmsg_trio._files import MAX_SETTINGS, fault_of_readers, read_settings_file
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.tcp import parse_host_port
from dmsg_trio.apps.pty._places import PTY_PORT, default_socket

DISCOVERY: Final = "http://dmsgd.skywire.skycoin.com"  # of the production network
ENV_PREFIX: Final = "DMSGPTY"

MAX_SESSIONS: Final = 256  # at once, detached ones included
MAX_SESSIONS_PER_KEY: Final = 32
IDLE_TIME: Final = 0.0  # seconds without a byte either way after which a session ends; 0: never
KEEP_TIME: Final = 600.0  # seconds that a session may wait for its client to come back

MAX_SOCKET_PATH: Final = 103  # bytes; what macOS has room for, Linux has four more

# The names of a setting in the file, and behind `<PREFIX>_` in the environment.
VARIABLES: Final = ("dmsgdisc", "dmsgsessions", "dmsgport", "clinet", "cliaddr")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """What a host offers, to whom it hands it, and how much of it."""

    port: int = PTY_PORT
    network: str = "unix"  # of the local socket: unix or tcp
    address: str = field(default_factory=lambda: default_socket(os.environ))
    user: str | None = None  # None: the one who runs the host
    no_new_privileges: bool = False
    shell: str | None = None  # None: the user's login shell
    max_sessions: int = MAX_SESSIONS
    max_sessions_per_key: int = MAX_SESSIONS_PER_KEY
    idle_time: float = IDLE_TIME
    keep_time: float = KEEP_TIME


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """How a host runs, and as whom."""

    secret_key: SecretKey
    discovery: str = DISCOVERY
    min_sessions: int = 1  # 0: with every server
    options: HostOptions = field(default_factory=HostOptions)
    allow_file: Path | None = None  # where `wl` stands, and is changed
    allowed: tuple[PublicKey, ...] = ()  # besides those of the file, while this host runs
    audit_log: Path | None = None
    warnings: tuple[str, ...] = ()


class _File(msgspec.Struct):
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


def from_flags(flags: Mapping[str, object]) -> Source:
    """Take the flags; one that says its default, or None, says nothing: so it is in the reference."""
    defaults = {**msgspec.structs.asdict(_File()), "cliaddr": default_socket(os.environ)}
    given = {
        name: value
        for name, value in flags.items()
        if value is not None and value != defaults[name]
    }
    return Source(given, lambda name: f"--{name.replace('_', '-')}")


# ---- settings ----


def host_config(
    sources: list[Source],
    *,
    key: SecretKey | None = None,
    allow_file: Path | None = None,
    allowed: tuple[PublicKey, ...] = (),
) -> HostConfig:
    """Put a configuration together; each source counts over those before it.

    ``key`` is a secret key from elsewhere. Raises `ConfigError` for a value that cannot be.
    """
    merged: Settings = {}
    places: dict[str, str] = {}
    for source in sources:
        _check(source)
        for name, value in source.settings.items():
            merged[name] = value
            places[name] = source.place(name)
    file = msgspec.convert(merged, _File, strict=False)

    def place(name: str) -> str:
        return places.get(name, name)

    _check_url(place("dmsgdisc"), file.dmsgdisc)
    address = file.cliaddr or default_socket(os.environ)
    if file.clinet == "unix":
        _check_socket(place("cliaddr"), address)
    elif file.clinet == "tcp":
        _check_tcp(place("cliaddr"), address, anywhere=file.tcp_anywhere)
    else:
        raise ConfigError(f"{place('clinet')}: 'unix' or 'tcp', not {file.clinet!r}")
    if file.user:
        _check_user(place("user"), file.user)
    if file.shell and not os.path.isabs(file.shell):
        raise ConfigError(f"{place('shell')}: a path from / on, not {file.shell!r}")
    for index, text in enumerate(file.wl):
        _parsed(f"{place('wl')}[{index}]", text)
    return HostConfig(
        secret_key=_secret_key(file, place, key),
        discovery=file.dmsgdisc,
        min_sessions=file.dmsgsessions,
        options=HostOptions(
            port=file.dmsgport,
            network=file.clinet,
            address=address,
            user=file.user or None,
            no_new_privileges=file.no_new_privileges,
            shell=file.shell or None,
            max_sessions=file.max_sessions,
            max_sessions_per_key=file.max_sessions_per_key,
            idle_time=file.idle_time,
            keep_time=file.keep_time,
        ),
        allow_file=allow_file,
        allowed=allowed,
        audit_log=Path(file.audit_log) if file.audit_log else None,
        warnings=tuple(_warnings(file, address, places)),
    )


def allowed_in(source: Source) -> tuple[PublicKey, ...]:
    """Give the keys under ``wl`` of a source that is no file, and that nobody can change."""
    _check(source)
    texts = msgspec.convert({"wl": source.settings.get("wl") or []}, _File).wl
    return tuple(_parsed(f"{source.place('wl')}[{i}]", text) for i, text in enumerate(texts))


def _check(source: Source) -> None:
    """See that each setting is of its type, while it is known where it stands."""
    for name in source.settings.keys() & set(_File.__struct_fields__):
        fault = ""
        try:
            msgspec.convert({name: source.settings[name]}, _File, strict=not source.are_texts)
        except msgspec.ValidationError as error:
            message, _, place = str(error).partition(f" - at `$.{name}")
            fault = f"{place.rstrip('`')}: {message}"
        if fault:
            raise ConfigError(f"{source.place(name)}{fault}")


def _secret_key(file: _File, place: Callable[[str], str], given: SecretKey | None) -> SecretKey:
    """Find the secret key that all sources agree on."""
    key, fault = given, ""
    if file.sk:
        try:
            key = SecretKey.parse(file.sk)
        except ValueError as error:
            fault = str(error)
    pk = file.pk
    del file
    if fault:
        raise ConfigError(f"{place('sk')}: {fault}")
    if key is None:
        raise ConfigError(
            "no secret key: neither 'sk' in a configuration file nor --key-file or another source"
            " gives one; 'dmsgpty-host confgen' makes a file with a new key"
        )
    if given not in (None, key):
        raise ConfigError(
            f"{place('sk')}: of {key.pk}, but the key given beside it is of {given.pk}"
        )
    if pk and (named := _parsed(place("pk"), pk)) != key.pk:
        raise ConfigError(f"{place('pk')}: {named}, but the secret key is of {key.pk}")
    return key


def _parsed(place: str, text: str) -> PublicKey:
    try:
        return PublicKey.parse(text)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


def _check_url(place: str, url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None
    if parts.password:
        raise ConfigError(f"{place}: a password in a URL would show in the logs")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{place}: an http:// or https:// URL, not {url!r}")


def _check_socket(place: str, path: str) -> None:
    if "\0" in path:
        raise ConfigError(f"{place}: a path has no zero byte: {path!r}")
    if (size := len(os.fsencode(path))) > MAX_SOCKET_PATH:
        raise ConfigError(
            f"{place}: the path of a socket has at most {MAX_SOCKET_PATH} bytes, not {size}"
        )


def _check_tcp(place: str, address: str, *, anywhere: bool) -> None:
    try:
        host, _ = parse_host_port(address)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None
    if not anywhere and not _is_loopback(host):
        raise ConfigError(
            f"{place}: whoever can connect to {address} would have a shell; use 127.0.0.1,"
            " or set 'tcp_anywhere' if that is meant"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_user(place: str, user: str) -> None:
    try:
        pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"{place}: there is no user {user!r} on this machine") from None
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


def _warnings(file: _File, address: str, places: Mapping[str, str]) -> Iterator[str]:
    if unknown := [places[name] for name in sorted(places.keys() - set(_File.__struct_fields__))]:
        yield f"unknown settings, ignored: {', '.join(unknown)}"
    if file.clinet == "tcp":
        who = "everybody who reaches it" if file.tcp_anywhere else "every user of this machine"
        yield f"tcp has no access control: {who} can open a shell at {address}"


# ---- out ----


def form_of_config(secret_key: SecretKey, source: Source) -> bytes:
    """Write a new configuration file as the reference does: its names, its defaults and its form."""
    _check(source)
    given = msgspec.convert(source.settings, _File, strict=False)
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
