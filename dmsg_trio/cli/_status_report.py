"""What `dmsg status` finds out, as values which have the form of its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from dmsg_trio._errors import DiscoveryError, DmsgError
from dmsg_trio._keys import PublicKey
from dmsg_trio.discovery import Entry, HttpDiscovery

from . import _health
from ._health import ServerHealth
from ._joining import answer_of, hint
from ._run import printable


@dataclass(frozen=True, slots=True)
class Delegation:
    """A client at a server, told from one of the two: the key of the other, and since when."""

    pk: str
    since: datetime | None  # None where the discovery does not tell


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """One server as the discovery has it."""

    pk: str
    address: str
    kind: str
    protocol: str
    available_sessions: int
    since: datetime | None
    updated: datetime  # when it last published
    clients: list[Delegation] | None  # None where the discovery does not tell


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStatus:
    """One client as the discovery has it, and at which servers it is."""

    pk: str
    kind: str
    protocol: str
    servers: list[Delegation]
    since: datetime | None
    updated: datetime  # when it last published


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that the discovery told, and what servers did."""

    discovery: str
    now: datetime  # by the discovery's clock, if it tells since when entries stand, else by ours
    tells_since: bool
    servers: list[ServerStatus]
    clients: list[str]
    entries: list[ClientStatus] = field(default_factory=list)  # of the clients, as far as it tells
    health: list[ServerHealth] = field(default_factory=list)

    def about(self, beginnings: Sequence[str]) -> Report:
        """The same of those servers and clients alone whose keys begin so."""
        known = [*(server.pk for server in self.servers), *self.clients]
        for each in beginnings:
            if not any(pk.startswith(each) for pk in known):
                raise DmsgError(f"no server or client here has a key that begins with {each!r}")
        wanted = tuple(beginnings)
        return replace(
            self,
            servers=[server for server in self.servers if server.pk.startswith(wanted)],
            clients=[pk for pk in self.clients if pk.startswith(wanted)],
            entries=[entry for entry in self.entries if entry.pk.startswith(wanted)],
            health=[
                each for each in self.health if each.error or each.public_key.startswith(wanted)
            ],
        )


async def ask(url: str, health: Sequence[str], within: float) -> Report:
    """Ask a discovery for all that it tells, and servers at their health endpoints."""
    try:
        async with HttpDiscovery(url) as discovery:
            servers = await answer_of(discovery.all_servers, url, within)
            delegated = await discovery.clients_by_server()
            clients = await discovery.client_keys()
            entries = await discovery.entries(clients) or {}
            told = await discovery.status()
    except DiscoveryError as error:
        raise DmsgError(f"{error}{hint(url)}") from error
    since = _Since(
        {} if told is None else told.servers,
        {} if told is None else {pk: each.since for pk, each in told.clients.items()},
        {} if told is None else {pk: each.servers for pk, each in told.clients.items()},
    )
    shown = [_status_of(entry, delegated, since) for entry in servers]
    shown.sort(key=lambda server: server.address)
    return Report(
        discovery=url,
        now=_time_of(told.now) if told else datetime.now(UTC),
        tells_since=told is not None,
        servers=shown,
        clients=[str(pk) for pk in clients],
        entries=[_client_status_of(entry, since) for entry in entries.values()],
        health=await _health.ask_all([*health, *_health.nearby(url, told.health if told else ())]),
    )


@dataclass(frozen=True, slots=True)
class _Since:
    """What a discovery tells of since when, by keys, in seconds since 1970."""

    servers: Mapping[str, int]
    clients: Mapping[str, int]
    delegated: Mapping[str, Mapping[str, int]]

    def delegation(self, client: str, server: str) -> datetime | None:
        return _known_time(self.delegated.get(client, {}).get(server))


def _status_of(
    entry: Entry, delegated: Mapping[PublicKey, list[PublicKey]] | None, since: _Since
) -> ServerStatus:
    pk, server = str(entry.pk), entry.server
    clients: list[Delegation] | None = None
    if delegated is not None:
        keys = map(str, delegated.get(entry.pk, []))
        clients = [Delegation(each, since.delegation(each, pk)) for each in keys]
    return ServerStatus(
        pk=pk,
        address=printable(server.address) if server else "",
        kind=printable(server.server_type) if server else "",
        protocol=printable(entry.protocol),
        available_sessions=server.available_sessions if server else 0,
        since=_known_time(since.servers.get(pk)),
        updated=_time_of(entry.timestamp / 1e9),
        clients=clients,
    )


def _client_status_of(entry: Entry, since: _Since) -> ClientStatus:
    pk = str(entry.pk)
    servers = map(str, entry.delegated_servers)
    return ClientStatus(
        pk=pk,
        kind=printable(entry.client_type),
        protocol=printable(entry.protocol),
        servers=[Delegation(each, since.delegation(pk, each)) for each in servers],
        since=_known_time(since.clients.get(pk)),
        updated=_time_of(entry.timestamp / 1e9),
    )


def _known_time(seconds: int | None) -> datetime | None:
    return None if seconds is None else _time_of(seconds)


def _time_of(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
