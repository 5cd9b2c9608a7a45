"""What a host shall be, put together from its settings wherever they came from.

A setting comes from the first of these that has it: a flag that is not its default, a variable, the
file, standard input, the default. Whatever is wrong is told with where it stands, and no error has
seen the secret key. Unlike in the reference a setting that the file lacks has its default.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.tcp import parse_host_port
from dmsg_trio.apps.pty._places import PTY_PORT, default_socket

from ._sources import (
    DISCOVERY,
    IDLE_TIME,
    KEEP_TIME,
    MAX_SESSIONS,
    MAX_SESSIONS_PER_KEY,
    ConfigFile,
    Settings,
    Source,
    check,
    parsed_key,
)

MAX_SOCKET_PATH: Final = 103  # bytes; what macOS has room for, Linux has four more


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
        check(source)
        for name, value in source.settings.items():
            merged[name] = value
            places[name] = source.place(name)
    file = msgspec.convert(merged, ConfigFile, strict=False)

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
        parsed_key(f"{place('wl')}[{index}]", text)
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


def _secret_key(
    file: ConfigFile, place: Callable[[str], str], given: SecretKey | None
) -> SecretKey:
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
    if pk and (named := parsed_key(place("pk"), pk)) != key.pk:
        raise ConfigError(f"{place('pk')}: {named}, but the secret key is of {key.pk}")
    return key


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


def _warnings(file: ConfigFile, address: str, places: Mapping[str, str]) -> Iterator[str]:
    if unknown := [
        places[name] for name in sorted(places.keys() - set(ConfigFile.__struct_fields__))
    ]:
        yield f"unknown settings, ignored: {', '.join(unknown)}"
    if file.clinet == "tcp":
        who = "everybody who reaches it" if file.tcp_anywhere else "every user of this machine"
        yield f"tcp has no access control: {who} can open a shell at {address}"
