"""dmsg status: what a discovery and servers know, for people or as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Annotated, Final

import typer

from dmsg_trio._errors import DiscoveryError, DmsgError
from dmsg_trio._keys import PublicKey
from dmsg_trio.discovery import Entry, HttpDiscovery

from ._health import ServerHealth, age, ask_all, count
from ._joining import hint
from ._options import HERE, AsJson, Discovery, ToolLogOptions, spread
from ._run import printable, program, run

MAX_SHOWN: Final = 20  # clients of one server that people are shown; --json has all

app = program()


@app.command()
@spread
def status(
    *,
    as_json: AsJson = False,
    health: Annotated[
        list[str] | None,
        typer.Option(
            "--health", metavar="URL", help="A server's health endpoint; can be given repeatedly."
        ),
    ] = None,
    discovery: Discovery = HERE,
    log: ToolLogOptions,
) -> None:
    """Show the servers that a discovery knows, and the clients that are at each.

    With --health also the links of these servers to others, and keys that two programs have.
    """
    log.set_up()
    report = run(partial(_ask, discovery, health or []))
    print(json.dumps(asdict(report), indent=2) if as_json else "\n".join(report.lines()))


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server as the discovery has it."""

    pk: str
    address: str
    kind: str
    available_sessions: int
    age_seconds: float
    clients: list[str] | None  # None where the discovery does not tell

    def lines(self) -> Iterator[str]:
        """Show the server: its key whole and on one line, so that it can be copied."""
        free = count(self.available_sessions, "free session")
        yield ""
        yield f"server  {self.pk}"
        yield f"        {self.address}  {self.kind}  {free}, seen {max(0, self.age_seconds):.0f} s ago"


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """One client as the discovery has it: at which servers, and when it last said so."""

    pk: str
    servers: list[str]
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """All that the discovery told."""

    discovery: str
    servers: list[ServerStatus]
    clients: list[str]
    entries: list[ClientStatus] = field(default_factory=list)  # of the clients, as far as it tells
    health: list[ServerHealth] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Show it to people, in 80 columns."""
        servers, clients = count(len(self.servers), "server"), count(len(self.clients), "client")
        yield f"{self.discovery}: {servers}, {clients}"
        health = {each.public_key: each for each in self.health if not each.error}
        for server in self.servers:
            yield from server.lines()
            if server.pk in health:
                yield from health.pop(server.pk).lines()
            yield from self._shown(server.clients or ())
        for each in health.values():
            yield from ("", f"server  {printable(each.public_key)}", "        not in the discovery")
            yield from each.lines()
        for each in self.health:
            if each.error:
                yield from ("", f"health  {printable(each.url)}: {each.error}")
        somewhere = {pk for server in self.servers for pk in server.clients or ()}
        if nowhere := [pk for pk in self.clients if pk not in somewhere]:
            yield ""
            tells = any(server.clients is not None for server in self.servers)
            yield "at none of these servers:" if tells else "the discovery does not tell where:"
            yield from self._shown(nowhere)

    def _shown(self, clients: Sequence[str]) -> Iterator[str]:
        ages = {entry.pk: f" {age(entry.age_seconds):>3}" for entry in self.entries}
        for pk in clients[:MAX_SHOWN]:
            yield f"  client  {pk}{ages.get(pk, '')}"
        if len(clients) > MAX_SHOWN:
            yield f"          and {len(clients) - MAX_SHOWN} more clients, see --json"


async def _ask(url: str, health: Sequence[str]) -> Report:
    try:
        async with HttpDiscovery(url) as discovery:
            servers = await discovery.all_servers()
            delegated = await discovery.clients_by_server()
            clients = await discovery.client_keys()
            entries = await discovery.entries(clients) or {}
    except DiscoveryError as error:
        raise DmsgError(f"{error}{hint(url)}") from error
    shown = [_status_of(entry, delegated) for entry in servers]
    shown.sort(key=lambda server: server.address)
    return Report(
        url,
        shown,
        [str(pk) for pk in clients],
        [_client_status_of(entry) for entry in entries.values()],
        await ask_all(health),
    )


def _status_of(entry: Entry, delegated: Mapping[PublicKey, list[PublicKey]] | None) -> ServerStatus:
    server = entry.server
    return ServerStatus(
        pk=str(entry.pk),
        address=printable(server.address) if server else "",
        kind=printable(server.server_type) if server else "",
        available_sessions=server.available_sessions if server else 0,
        age_seconds=_age_of(entry),
        clients=None if delegated is None else [str(pk) for pk in delegated.get(entry.pk, [])],
    )


def _client_status_of(entry: Entry) -> ClientStatus:
    servers = [str(pk) for pk in entry.delegated_servers]
    return ClientStatus(pk=str(entry.pk), servers=servers, age_seconds=_age_of(entry))


def _age_of(entry: Entry) -> float:
    return round((time.time_ns() - entry.timestamp) / 1e9, 1)
