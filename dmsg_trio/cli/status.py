"""dmsg status: what a discovery knows, for people or as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final

from dmsg_trio._errors import DiscoveryError, DmsgError
from dmsg_trio._keys import PublicKey
from dmsg_trio.discovery import Entry, HttpDiscovery

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
    discovery: Discovery = HERE,
    log: ToolLogOptions,
) -> None:
    """Show the servers that a discovery knows, and the clients that are at each."""
    log.set_up()
    report = run(partial(_ask, discovery))
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
        free = _count(self.available_sessions, "free session")
        yield ""
        yield f"server  {self.pk}"
        yield f"        {self.address}  {self.kind}  {free}, seen {max(0, self.age_seconds):.0f} s ago"
        yield from _shown(self.clients or ())


@dataclass(frozen=True, slots=True)
class Report:
    """All that the discovery told."""

    discovery: str
    servers: list[ServerStatus]
    clients: list[str]

    def lines(self) -> Iterator[str]:
        """Show it to people, in 80 columns."""
        servers, clients = _count(len(self.servers), "server"), _count(len(self.clients), "client")
        yield f"{self.discovery}: {servers}, {clients}"
        for server in self.servers:
            yield from server.lines()
        somewhere = {pk for server in self.servers for pk in server.clients or ()}
        if nowhere := [pk for pk in self.clients if pk not in somewhere]:
            yield ""
            tells = any(server.clients is not None for server in self.servers)
            yield "at none of these servers:" if tells else "the discovery does not tell where:"
            yield from _shown(nowhere)


async def _ask(url: str) -> Report:
    try:
        async with HttpDiscovery(url) as discovery:
            servers = await discovery.all_servers()
            delegated = await discovery.clients_by_server()
            clients = await discovery.client_keys()
    except DiscoveryError as error:
        raise DmsgError(f"{error}{hint(url)}") from error
    shown = [_status_of(entry, delegated) for entry in servers]
    shown.sort(key=lambda server: server.address)
    return Report(url, shown, [str(pk) for pk in clients])


def _status_of(entry: Entry, delegated: Mapping[PublicKey, list[PublicKey]] | None) -> ServerStatus:
    server = entry.server
    return ServerStatus(
        pk=str(entry.pk),
        address=printable(server.address) if server else "",
        kind=printable(server.server_type) if server else "",
        available_sessions=server.available_sessions if server else 0,
        age_seconds=round(time.time_ns() / 1e9 - entry.timestamp / 1e9, 1),
        clients=None if delegated is None else [str(pk) for pk in delegated.get(entry.pk, [])],
    )


def _shown(clients: Sequence[str]) -> Iterator[str]:
    for pk in clients[:MAX_SHOWN]:
        yield f"  client  {pk}"
    if len(clients) > MAX_SHOWN:
        yield f"          and {len(clients) - MAX_SHOWN} more clients, see --json"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
