"""dmsg status: what a discovery knows, as a table or as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial

from rich.console import Console
from rich.table import Table

from dmsg_trio._keys import PublicKey
from dmsg_trio.discovery import Entry, HttpDiscovery

from ._options import HERE, AsJson, Discovery, ToolLogOptions, spread
from ._run import printable, program, run

app = program()


@app.command()
@spread
def status(
    *,
    as_json: AsJson = False,
    discovery: Discovery = HERE,
    log: ToolLogOptions,
) -> None:
    """Show the servers that a discovery knows, and the clients that are delegated to each."""
    log.set_up()
    run(partial(_show, discovery, as_json=as_json))


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server as the discovery has it."""

    pk: str
    address: str
    kind: str
    available_sessions: int
    age_seconds: float
    clients: list[str] | None  # None where the discovery does not tell


async def _show(url: str, *, as_json: bool) -> None:
    async with HttpDiscovery(url) as discovery:
        servers = await discovery.all_servers()
        delegated = await discovery.clients_by_server()
        clients = await discovery.client_keys()
    shown = [_status_of(entry, delegated) for entry in servers]
    shown.sort(key=lambda server: server.address)
    if as_json:
        report = {
            "discovery": url,
            "servers": [asdict(server) for server in shown],
            "clients": [str(pk) for pk in clients],
        }
        print(json.dumps(report, indent=2))
    else:
        _print_tables(url, shown, len(clients))


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


def _print_tables(url: str, servers: list[ServerStatus], clients: int) -> None:
    console = Console()
    table = Table(title=f"{url}: {len(servers)} servers, {clients} clients", title_justify="left")
    for heading in ("server", "address", "type"):
        table.add_column(heading, overflow="fold")
    for heading in ("free", "clients", "age"):
        table.add_column(heading, justify="right")
    for server in servers:
        table.add_row(
            server.pk,
            server.address,
            server.kind,
            str(server.available_sessions),
            "?" if server.clients is None else str(len(server.clients)),
            f"{server.age_seconds:.0f} s",
        )
    console.print(table)
    for server in servers:
        for pk in server.clients or []:
            console.print(f"{pk}  at {server.pk[:8]}", highlight=False)
