"""What the configuration file of a server says: the reference's JSON, read strictly.

An error names the path of the setting that is wrong, and never repeats a secret: whoever catches a
fault raises its own error outside of the ``except`` block, so that no traceback has seen the key.
What is only odd becomes a warning, which whoever runs the server logs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from dmsg_trio._errors import ConfigError
from dmsg_trio._files import MAX_SETTINGS, fault_of_readers, read_settings_file
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.tcp import parse_host_port

from ._peer_options import MAX_PEER_LINKS
from ._server import DRAIN_TIME, MAX_SESSIONS
from ._shares import MAX_RELAYED

T = TypeVar("T")

SECOND: Final = 10**9  # nanoseconds, in which the file counts
UPDATE_INTERVAL: Final = 60  # seconds; what 0 stands for, as in the reference
LONGEST_INTERVAL: Final = 120  # seconds, after which a discovery has forgotten a silent server
LOCAL_ADDRESS: Final = ":8081"

LOG_LEVELS: Final = {
    # the reference's name: ours
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "fatal": "error",
    "panic": "error",
}


@dataclass(frozen=True, slots=True)
class Peer:
    """Another server, to have a link with."""

    pk: PublicKey
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """How a server runs; addresses are ``host:port``, ``[v6]:port`` or ``:port``.

    The names are those of the file. Raises `ConfigError` for a value that cannot be.
    """

    secret_key: SecretKey
    discovery: str  # URLs, with commas between them
    public_address: str = ""  # empty, or without a host: from where the server listens
    public_address_v6: str = ""
    local_address: str = LOCAL_ADDRESS
    health_endpoint_address: str = ""  # empty: none
    metrics_address: str = ""  # empty: the metrics are at the health endpoint
    log_level: str = "info"  # of ours
    update_interval: float = UPDATE_INTERVAL  # seconds
    max_sessions: int = MAX_SESSIONS
    drain_time: float = DRAIN_TIME  # seconds
    server_type: str = field(default="", repr=False)  # the passphrase of official servers
    peers: tuple[Peer, ...] = ()
    accepted_peer_pks: tuple[PublicKey, ...] = ()  # if any: no other servers than these and peers
    max_peer_links: int = MAX_PEER_LINKS
    peer_links_on_demand: bool = False  # with servers found at the discovery, only while needed
    max_relayed_streams: int = MAX_RELAYED  # over links to other servers
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for url in self.discovery.split(","):
            _check_url(url)
        _check_address("local_address", self.local_address)
        for name in ("public_address", "public_address_v6"):
            if address := getattr(self, name):
                _check_address(name, address, dialed=True)
        for name in ("health_endpoint_address", "metrics_address"):
            if address := getattr(self, name):
                _check_address(name, address)
        for index, peer in enumerate(self.peers):
            _check_address(f"peers[{index}].address", peer.address, dialed=True)
        if self.update_interval < 1:
            raise ConfigError(
                f"update_interval: {round(self.update_interval * SECOND)} nanoseconds are less "
                "than a second"
            )


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"discovery: {error}") from None
    if parts.password:
        raise ConfigError("discovery: a password in a URL would show in the logs")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"discovery: an http:// or https:// URL, not {url!r}")


def _check_address(name: str, address: str, *, dialed: bool = False) -> None:
    try:
        _, port = parse_host_port(address)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None
    if dialed and not port:
        raise ConfigError(f"{name}: {address!r}: nobody can dial port 0")


# ---- in ----


class _Peer(msgspec.Struct):
    """A peer as it stands in the file."""

    public_key: str
    address: str


class _File(msgspec.Struct):
    """The file. An empty text and null are as good as no setting."""

    public_key: str = ""
    secret_key: str = ""
    discovery: str | list[str] = ""
    public_address: str = ""
    public_address_v6: str = ""
    local_address: str = LOCAL_ADDRESS
    health_endpoint_address: str = ""
    log_level: str = "info"
    update_interval: Annotated[int, msgspec.Meta(ge=0)] = 0  # nanoseconds
    max_sessions: Annotated[int, msgspec.Meta(ge=1)] = MAX_SESSIONS
    peers: list[_Peer] = []
    accepted_peer_pks: list[str] = []
    max_peer_links: Annotated[int, msgspec.Meta(ge=0)] = MAX_PEER_LINKS
    peer_links_on_demand: bool = False
    max_relayed_streams: Annotated[int, msgspec.Meta(ge=0)] = MAX_RELAYED


def load_config(path: Path, *, key: SecretKey | None = None) -> ServerConfig:
    """Read a configuration file; ``key`` is a secret key from elsewhere."""
    data, mode = read_settings_file(path, pipe_option="--stdin")
    config = parse_config(data, where=str(path), key=key)
    if b'"secret_key"' in data and (fault := fault_of_readers(path, mode)):
        config = replace(config, warnings=(f"secret_key: {fault}", *config.warnings))
    return config


def parse_config(
    data: bytes, *, where: str = "the configuration", key: SecretKey | None = None
) -> ServerConfig:
    """Read the content of a configuration file; ``where`` begins its errors.

    ``key`` is a secret key from elsewhere, for a file that has none.
    """
    try:
        settings = _settings(data)
        config = _config(msgspec.convert(settings, _File), key)
        return replace(config, warnings=(*_unknown(settings), *config.warnings))
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        fault = f"{place.rstrip('`')}: {message}" if place else message
    except (ConfigError, msgspec.DecodeError) as error:
        fault = str(error)
    raise ConfigError(f"{where}: {fault}")


def _settings(data: bytes) -> dict[str, object]:
    if len(data) > MAX_SETTINGS:
        raise ConfigError(f"larger than {MAX_SETTINGS} bytes")
    try:
        settings = msgspec.json.decode(data)
    except (RecursionError, UnicodeDecodeError):
        settings = None
    if not isinstance(settings, dict):
        raise ConfigError("not a JSON object with settings")
    return {name: value for name, value in settings.items() if value not in (None, "")}


def _config(file: _File, key: SecretKey | None) -> ServerConfig:
    interval = file.update_interval / SECOND or UPDATE_INTERVAL
    config = ServerConfig(
        secret_key=_secret_key(file, key),
        discovery=",".join(_urls(file.discovery)),
        public_address=file.public_address,
        public_address_v6=file.public_address_v6,
        local_address=file.local_address,
        health_endpoint_address=file.health_endpoint_address,
        log_level=_level(file.log_level),
        update_interval=interval,
        max_sessions=file.max_sessions,
        peers=tuple(_peers(file.peers)),
        accepted_peer_pks=tuple(
            _parsed(f"accepted_peer_pks[{index}]", PublicKey.parse, text)
            for index, text in enumerate(file.accepted_peer_pks)
        ),
        max_peer_links=file.max_peer_links,
        peer_links_on_demand=file.peer_links_on_demand,
        max_relayed_streams=file.max_relayed_streams,
    )
    warnings = []
    if interval >= LONGEST_INTERVAL:
        warnings.append(
            f"update_interval: after {LONGEST_INTERVAL} s of silence a discovery forgets a server,"
            f" and this is {interval:g} s"
        )
    return replace(config, warnings=tuple(warnings))


def _secret_key(file: _File, given: SecretKey | None) -> SecretKey:
    """Find the secret key that all sources agree on."""
    key = _parsed("secret_key", SecretKey.parse, file.secret_key) if file.secret_key else given
    if key is None:
        raise ConfigError("secret_key: missing, and no --key-file or other source gives one")
    if given not in (None, key):
        raise ConfigError(f"secret_key: of {key.pk}, but the key given beside it is of {given.pk}")
    if (
        file.public_key
        and (pk := _parsed("public_key", PublicKey.parse, file.public_key)) != key.pk
    ):
        raise ConfigError(f"public_key: {pk}, but the secret key is of {key.pk}")
    return key


def _parsed(name: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        fault = str(error)
    raise ConfigError(f"{name}: {fault}")


def _peers(peers: list[_Peer]) -> Iterator[Peer]:
    for index, peer in enumerate(peers):
        pk = _parsed(f"peers[{index}].public_key", PublicKey.parse, peer.public_key)
        yield Peer(pk, peer.address)


def _urls(setting: str | list[str]) -> list[str]:
    texts = setting.split(",") if isinstance(setting, str) else setting
    if not (urls := [text.strip() for text in texts if text.strip()]):
        raise ConfigError("discovery: missing")
    for url in urls:
        _check_url(url)
    return urls


def _level(name: str) -> str:
    if (level := LOG_LEVELS.get(name.lower())) is None:
        raise ConfigError(f"log_level: {name!r} is none of {', '.join(LOG_LEVELS)}")
    return level


def _unknown(settings: Mapping[str, object]) -> Iterator[str]:
    """Warn of settings that mean nothing here; ``settings`` are of the right types."""
    names = sorted(settings.keys() - set(_File.__struct_fields__))
    peers = settings.get("peers")
    for index, peer in enumerate(peers if isinstance(peers, list) else ()):
        names += [f"peers[{index}].{name}" for name in peer.keys() - set(_Peer.__struct_fields__)]
    if names:
        yield f"unknown settings, ignored: {', '.join(names)}"


# ---- out ----


def form_of_config(secret_key: SecretKey, *, discovery: str) -> bytes:
    """Write a new configuration file as the reference does, its defaults and its form."""
    settings = {
        "public_key": str(secret_key.pk),
        "secret_key": secret_key.reveal().hex(),
        "discovery": discovery,
        "public_address": "127.0.0.1:8081",
        "local_address": LOCAL_ADDRESS,
        "health_endpoint_address": ":8082",
        "log_level": "info",
        "update_interval": 0,
        "max_sessions": MAX_SESSIONS,
    }
    return json.dumps(settings, indent="\t").encode()
