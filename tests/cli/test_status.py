"""dmsg status: all that the discovery knows, with keys that can be copied."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import trio
from starlette.types import ASGIApp, Receive, Scope, Send

from dmsg_trio import SecretKey
from dmsg_trio._asgi import serve_tcp
from dmsg_trio.cli._health import ContestedKey, LinkHealth, ServerHealth, ask_all, named, nearby
from dmsg_trio.cli._numbers import age, size
from dmsg_trio.cli._status_report import ClientStatus, Delegation, Report, ServerStatus
from dmsg_trio.cli._status_view import MANY_SERVERS, MAX_SHOWN, lines_of
from dmsg_trio.discovery import ClientInfo, Entry, HttpDiscovery, ServerInfo
from dmsg_trio.discovery.serving import DiscoveryService, Policy, make_app, open_store
from dmsg_trio.server.serving import ServerConfig, serve_from_config
from tests.cli.running import PATIENCE, Network, dmsg, network
from tests.ports import free_port

NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)
NOT_SHOWN = "Links of these servers are not shown:"


def key(number: int) -> str:
    return f"02{number:064x}"


SERVER, OTHER = ("03" + two * 32 for two in ("ab", "cd"))
CLIENT = key(0xAA)


# ---- as a person runs it ----


async def wait_for_links(up: Network) -> None:
    """Wait until each server of a network says that it has a link with each other one."""
    async with HttpDiscovery(up.ready.discovery) as discovery:
        status = await discovery.status()
    assert status is not None
    assert len(status.health) == len(up.ready.servers)
    others = len(up.ready.servers) - 1
    with trio.fail_after(PATIENCE):
        while True:
            if all(len(each.links) == others for each in await ask_all(status.health)):
                return
            await trio.sleep(0.05)


@pytest.mark.network
async def test_servers_links_and_clients_are_shown_with_whole_keys_and_since_when() -> None:
    async with network() as up:
        await wait_for_links(up)
        done = await dmsg("status", discovery=up.ready.discovery)
        assert (done.code, done.err) == (0, "")
        first, blank, heading, *rows = done.lines
        assert first == f"{up.ready.discovery}: 2 servers, 1 client"
        assert (blank, heading.split()) == ("", ["SERVER", "SINCE"])
        blocks = {}
        for server in up.ready.servers:
            at = next(n for n, line in enumerate(rows) if line.startswith(server.pk))
            assert rows[at].endswith(" s")
            assert rows[at + 1].split()[0] == server.address
            blocks[server.pk] = rows[at + 1 : at + 5]
        for one, other in zip(blocks, reversed(blocks), strict=True):
            [link] = [line for line in blocks[one] if line.startswith("  link ")]
            assert link.split()[1:4] == [f"{other[:10]}…", "open", "for"]
        at = next(n for n, line in enumerate(rows) if line.startswith("CLIENT"))
        assert rows[at + 1].split()[0] == up.ready.client
        at_servers = {word for word in rows[at + 2].split() if word.endswith("…")}
        assert at_servers
        assert at_servers <= {f"{pk[:10]}…" for pk in blocks}
        assert NOT_SHOWN not in done.out.decode()
        assert max(map(len, done.lines)) <= 80


@pytest.mark.network
async def test_json_has_everything() -> None:
    async with network() as up:
        done = await dmsg("status", "--json", discovery=up.ready.discovery)
        report = json.loads(done.out)
        assert report["discovery"] == up.ready.discovery
        assert report["clients"] == [up.ready.client]
        assert report["tells_since"] is True
        assert {server["pk"] for server in report["servers"]} == {
            server.pk for server in up.ready.servers
        }
        [entry] = report["entries"]
        assert entry["pk"] == up.ready.client
        assert {each["pk"] for each in entry["servers"]} == {
            server["pk"]
            for server in report["servers"]
            if up.ready.client in {each["pk"] for each in server["clients"]}
        }
        now = datetime.fromisoformat(report["now"])
        for told in (
            entry,
            *entry["servers"],
            *report["servers"],
            *report["servers"][0]["clients"],
        ):
            assert (
                timedelta(0) <= now - datetime.fromisoformat(told["since"]) < timedelta(minutes=1)
            )
        assert datetime.fromisoformat(entry["updated"]) >= datetime.fromisoformat(entry["since"])
        assert {each["public_key"] for each in report["health"]} == {
            server.pk for server in up.ready.servers
        }


@asynccontextmanager
async def discovery_of(
    *entries: Entry, wrap: type["WithoutStatus"] | None = None
) -> AsyncIterator[str]:
    """Serve a discovery with these entries on loopback, in this process."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    clock = lambda: int(NOW.timestamp()) * 10**9  # noqa: E731 - stands still
    async with open_store("memory:", clock) as store, trio.open_nursery() as nursery:
        service = DiscoveryService(store, Policy(test_mode=True), wall_clock=clock)
        for entry in entries:
            await service.publish(entry.to_json())
        app: ASGIApp = make_app(service)
        await nursery.start(serve_tcp, wrap(app) if wrap else app, [listener])
        yield url
        nursery.cancel_scope.cancel()


class WithoutStatus:
    """A discovery as the reference is in this respect."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("/status"):
            scope = {**scope, "path": "/nowhere"}
        await self._app(scope, receive, send)


SERVER_SK, CLIENT_SK = SecretKey(b"\1" * 32), SecretKey(b"\2" * 32)
TIMESTAMP = int(NOW.timestamp()) * 10**9


def entries() -> Sequence[Entry]:
    server = ServerInfo(address="127.0.0.1:1", available_sessions=5)
    client = ClientInfo((SERVER_SK.pk,))
    return [
        Entry(pk=SERVER_SK.pk, timestamp=TIMESTAMP, server=server).signed(SERVER_SK),
        Entry(pk=CLIENT_SK.pk, timestamp=TIMESTAMP - 7200 * 10**9, client=client).signed(CLIENT_SK),
    ]


@pytest.mark.network
async def test_a_discovery_of_the_reference_tells_when_entries_were_updated_instead() -> None:
    async with discovery_of(*entries(), wrap=WithoutStatus) as url:
        done = await dmsg("status", discovery=url)
        told = json.loads((await dmsg("status", "--json", discovery=url)).out)
    assert (done.code, done.err) == (0, "")
    text = done.out.decode()
    assert "SINCE" not in text
    assert text.count("UPDATED\n") == 2
    assert f"  at       {str(SERVER_SK.pk)[:10]}…\n" in text
    assert "UPDATED: last published; this discovery does not tell since when." in text
    assert told["tells_since"] is False
    [server], [client] = told["servers"], told["entries"]
    assert server["since"] is client["since"] is client["servers"][0]["since"] is None
    assert server["updated"] == "2027-01-15T08:00:00Z"
    assert client["updated"] == "2027-01-15T06:00:00Z"


@pytest.mark.network
async def test_since_when_goes_by_the_discoverys_clock_and_not_the_owners() -> None:
    async with discovery_of(*entries()) as url:
        done = await dmsg("status", discovery=url)
    assert f"{CLIENT_SK.pk}  0 s" in done.lines
    assert f"  at       {str(SERVER_SK.pk)[:10]}… 0 s" in done.lines
    assert any(line.startswith(NOT_SHOWN) for line in done.lines)


@pytest.mark.network
async def test_some_keys_alone_are_shown_by_their_first_digits() -> None:
    async with network() as up:
        one, other = (server.pk for server in up.ready.servers)
        done = await dmsg("status", f"{one[:12].upper()}…", discovery=up.ready.discovery)
        assert (done.code, done.err) == (0, "")
        assert any(line.startswith(one) for line in done.lines)
        assert done.lines[0].endswith(": 2 servers, 1 client")
        assert not any(line.startswith((other, up.ready.client)) for line in done.lines)
        told = await dmsg("status", "--json", one[:12], discovery=up.ready.discovery)
        assert [server["pk"] for server in json.loads(told.out)["servers"]] == [one]
        assert not any("not in the discovery" in line for line in done.lines)
        done = await dmsg("status", up.ready.client, discovery=up.ready.discovery)
        assert any(line.startswith("  at ") for line in done.lines)
        assert not any("does not tell" in line for line in done.lines)
        wrong = await dmsg("status", "04", discovery=up.ready.discovery)
    assert (wrong.code, wrong.out) == (1, b"")
    assert wrong.err == "error: no server or client here has a key that begins with '04'\n"


@pytest.mark.network
async def test_the_links_of_servers_are_shown_where_their_health_can_be_asked(
    nursery: trio.Nursery,
) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    nobody = f"http://127.0.0.1:{free_port()}"
    async with network() as up:
        config = ServerConfig(
            secret_key=SecretKey.generate(),
            discovery=up.ready.discovery,
            local_address="127.0.0.1:0",
            health_endpoint_address=endpoint,
        )
        server = await nursery.start(serve_from_config, config)
        with trio.fail_after(PATIENCE):
            while len(server.peers) < 2:
                await server.peers.links.changed.park()
        options = ["--health", f"http://{endpoint}", "--health", nobody]
        done = await dmsg("status", *options, discovery=up.ready.discovery)
        assert (done.code, done.err) == (0, "")
        at = next(n for n, line in enumerate(done.lines) if line.startswith(str(server.pk)))
        links = [line for line in done.lines[at : at + 5] if line.startswith("  link ")]
        assert {line.split()[1] for line in links} == {
            f"{each.pk[:10]}…" for each in up.ready.servers
        }
        assert all(" open for " in line for line in links)
        [failed] = [line for line in done.lines if line.startswith("health")]
        assert failed.startswith(f"health  {nobody}: ")
        assert max(len(line) for line in done.lines if line != failed) <= 80

        variable = {"DMSG_HEALTH": f"http://{endpoint},{nobody}"}
        done = await dmsg("status", "--json", env=variable, discovery=up.ready.discovery)
        told, error, *nearby_ones = json.loads(done.out)["health"]
        assert (told["public_key"], told["error"]) == (str(server.pk), "")
        assert {link["public_key"] for link in told["links"]} == {
            each.pk for each in up.ready.servers
        }
        assert error["error"]
        assert len(nearby_ones) == 2
    nursery.cancel_scope.cancel()


@pytest.mark.network
async def test_what_is_no_url_of_an_endpoint_is_named() -> None:
    done = await dmsg("status", "--health", "127.0.0.1:1", discovery="http://127.0.0.1:1")
    assert (done.code, done.out) == (1, b"")
    assert "--health, DMSG_HEALTH: a URL begins with http://" in done.err


@pytest.mark.network
async def test_a_discovery_that_is_away_is_said_soon_and_tried_until_the_time_is_up() -> None:
    done = await dmsg("status", "--timeout", "2", discovery="http://127.0.0.1:1")
    assert (done.code, done.out) == (1, b"")
    soon, last = done.err.splitlines()
    assert soon.startswith("no network yet, trying for 2 s: http://127.0.0.1:1/")
    assert last.startswith("error: no network within 2 s: http://127.0.0.1:1/")


def test_endpoints_are_named_with_commas_or_one_by_one() -> None:
    assert named(["http://a, https://b,", "http://c"]) == ["http://a", "https://b", "http://c"]


@pytest.mark.parametrize(
    ("discovery", "told", "asked"),
    [
        ("http://127.0.0.1:9090", "http://127.0.0.1:1", True),
        ("http://localhost:9090", "http://[::1]:1", True),
        ("http://192.0.2.1:9090", "http://127.0.0.1:1", False),
        ("http://127.0.0.1.example.org", "http://127.0.0.1:1", False),
        ("http://127.0.0.1:9090", "http://192.168.0.1", False),
        ("http://127.0.0.1:9090", "http://127.0.0.1@192.0.2.1/", False),
        ("http://127.0.0.1:9090", "file://127.0.0.1/etc/passwd", False),
        ("http://127.0.0.1:9090", "http://[", False),
        ("http://127.0.0.1:9090", "", False),
    ],
)
def test_a_discovery_elsewhere_does_not_make_us_ask_around(
    discovery: str, told: str, asked: bool
) -> None:
    assert nearby(discovery, [told]) == [told] * asked


# ---- how it looks ----


def server(pk: str = SERVER, *clients: Delegation, tells: bool = True) -> ServerStatus:
    return ServerStatus(
        pk=pk,
        address="192.0.2.1:8081",
        kind="community",
        protocol="",
        available_sessions=1,
        since=ago(hours=2),
        updated=ago(seconds=3),
        clients=list(clients) if tells else None,
    )


def client(pk: str, *servers: Delegation) -> ClientStatus:
    return ClientStatus(
        pk=pk, kind="visor", protocol="yamux", servers=list(servers),
        since=ago(days=400), updated=ago(seconds=59),
    )  # fmt: skip


def ago(**how_long: float) -> datetime:
    return NOW - timedelta(**how_long)


def report(
    servers: list[ServerStatus],
    clients: list[str],
    entries: Sequence[ClientStatus] = (),
    *health: ServerHealth,
    tells_since: bool = True,
) -> Report:
    return Report(
        discovery="http://d", now=NOW, tells_since=tells_since, servers=servers, clients=clients,
        entries=list(entries), health=list(health),
    )  # fmt: skip


def test_a_server_that_tells_of_itself_is_shown_with_its_links_and_fights() -> None:
    link = LinkHealth(
        public_key=OTHER, state="open", age_seconds=90000, round_trip_ms=12.44, streams=1,
        received_bytes=48_211, sent_bytes=912, reconnects=2,
    )  # fmt: skip
    health = ServerHealth(
        url="http://h", public_key=SERVER, started_at="2027-01-15T08:00:00Z", sessions=12, streams=3,
        links=[link], servers_missing=["03dd"],
        contested_keys=[ContestedKey(public_key="02ee", replacements=7)],
    )  # fmt: skip
    elsewhere = ServerHealth(url="http://i", public_key="03ff", draining=True)
    failed = ServerHealth(url="http://j", error="no answer within 5 s")
    servers = [server(SERVER, Delegation(CLIENT, ago(minutes=3))), server(OTHER)]
    entry = client(CLIENT, Delegation(SERVER, ago(minutes=3)), Delegation(OTHER, None))
    assert lines_of(report(servers, [CLIENT], [entry], health, elsewhere, failed)) == [
        "http://d: 2 servers, 1 client",
        "",
        f"{'SERVER':66}  SINCE",
        f"{SERVER}  2 h",
        "  192.0.2.1:8081  community  1 free session",
        "  health   12 sessions, 3 streams, started 2027-01-15T08:00:00Z",
        "  link     03cdcdcdcd… open for 1 d, 12.4 ms, 1 stream, 48.2 kB in, 912 B out, 2",
        "           reconnects",
        "  no link  03dd",
        "  twice    02ee",
        "           two programs seem to have this key: 7 changes within 10 minutes",
        "  clients  0200000000… 3 min",
        f"{OTHER}  2 h",
        "  192.0.2.1:8081  community  1 free session",
        "",
        f"{'CLIENT':66}  SINCE",
        f"{CLIENT}  400 d",
        "  visor, yamux",
        "  at       03abababab… 3 min, 03cdcdcdcd… ?",
        "",
        "03ff",
        "  a server that is not in the discovery",
        "  health   0 sessions, 0 streams, started ?, draining",
        "",
        "health  http://j: no answer within 5 s",
        "",
        "Links of 1 of these servers are not shown: give their health endpoints with",
        "--health URL or in DMSG_HEALTH.",
    ]


def test_of_many_clients_some_are_shown_and_the_others_counted() -> None:
    clients = [key(number) for number in range(MAX_SHOWN + 5)]
    at = [Delegation(pk, ago(minutes=59)) for pk in clients]
    lines = lines_of(report([server(SERVER, *at)], clients))
    assert clients[MAX_SHOWN - 1] in lines
    assert clients[MAX_SHOWN] not in lines
    assert lines.count("           and 5 more clients, see --json") == 2
    assert "  clients  0200000000… 59 min, 0200000000… 59 min, 0200000000… 59 min," in lines
    assert max(map(len, lines)) <= 80


def test_what_is_known_of_200_servers_is_two_lines_for_each_and_what_is_wrong() -> None:
    pks = [key(number) for number in range(200)]
    link = LinkHealth(public_key=pks[0], state="open")
    servers = [replace(server(pk), clients=[Delegation(CLIENT, NOW)] * 7) for pk in pks]
    healths = [ServerHealth(url=pk, public_key=pk, links=[link] * 199) for pk in pks[:-1]]
    ill = ServerHealth(
        url="x", public_key=pks[-1], draining=True, servers_missing=pks[:7],
        contested_keys=[ContestedKey(public_key="02ee", replacements=7)],
    )  # fmt: skip
    lines = lines_of(report(servers, pks, [], *healths, ill))
    at = lines.index(f"{pks[7]}  2 h")
    assert lines[at + 1 : at + 3] == [
        "  192.0.2.1:8081  community  1 free session, 7 clients, 199 links",
        f"{pks[8]}  2 h",
    ]
    at = lines.index(f"{pks[-1]}  2 h")
    assert lines[at + 1 : at + 8] == [
        "  192.0.2.1:8081  community  1 free session, 7 clients, 0 links, draining",
        "  no link  0200000000…",
        "  no link  0200000000…",
        "           and 5 more missing links, see --json",
        "  twice    02ee",
        "           two programs seem to have this key: 7 changes within 10 minutes",
        "",
    ]
    assert lines[-1] == "dmsg status KEY shows the clients and links of one server, --json all."
    assert len(lines) < 2 * 200 + MAX_SHOWN + 20
    assert max(map(len, lines)) <= 80
    few = lines_of(report(servers[:MANY_SERVERS], pks, [], *healths[:MANY_SERVERS]))
    assert sum(line.startswith("  clients") for line in few) == MANY_SERVERS


def test_where_the_discovery_does_not_tell_that_is_said() -> None:
    lines = lines_of(report([server(tells=False)], [CLIENT], tells_since=False))
    assert lines[2] == f"{'SERVER':66}  UPDATED"
    assert lines[3] == f"{SERVER}  3 s"
    assert lines[-6:] == [
        CLIENT,
        "",
        "UPDATED: last published; this discovery does not tell since when.",
        "This discovery does not tell at which servers the clients are.",
        "Links of these servers are not shown: give their health endpoints with --health",
        "URL or in DMSG_HEALTH.",
    ]


def test_a_client_at_an_unknown_server_or_none_is_not_left_out() -> None:
    stray, idle = client("02aa", Delegation("03" + "99" * 32, ago(minutes=10))), client("02bb")
    lines = lines_of(report([server()], ["02aa", "02bb"], [stray, idle]))
    at = lines.index("02aa  400 d")
    assert lines[at + 1 : at + 7] == [
        "  visor, yamux",
        f"  at       {'03' + '99' * 32}",
        "           10 min",
        "02bb  400 d",
        "  visor, yamux",
        "  at no server",
    ]


def test_a_part_of_a_report_names_the_others_by_their_first_digits() -> None:
    link = LinkHealth(public_key=OTHER, state="open")
    health = ServerHealth(url="http://h", public_key=SERVER, links=[link])
    servers = [server(SERVER, Delegation(CLIENT, NOW)), server(OTHER)]
    whole = report(servers, [CLIENT], [client(CLIENT, Delegation(SERVER, NOW))], health)
    lines = lines_of(whole.about([SERVER[:6]]), whole=whole)
    assert lines[0] == "http://d: 2 servers, 1 client"
    assert [line[:22] for line in lines if line.startswith(("  link", "  clients"))] == [
        "  link     03cdcdcdcd…",
        "  clients  0200000000…",
    ]
    assert not any(line.startswith((OTHER, CLIENT)) for line in lines)


def test_a_network_of_nobody_is_one_line() -> None:
    assert lines_of(report([], [])) == ["http://d: 0 servers, 0 clients"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (10**7, "115 d")],
)
def test_times_are_shown_short(seconds: float, shown: str) -> None:
    assert age(seconds) == shown


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (10**13, "10.0 TB")]
)
def test_sizes_are_shown_short(number: int, shown: str) -> None:
    assert size(number) == shown


async def test_variables_that_name_a_proxy_change_nothing() -> None:
    """What they name is often one of ours, which would have to be reached through itself."""
    proxies = {"ALL_PROXY": "socks5h://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    async with network() as up:
        done = await dmsg("status", discovery=up.ready.discovery, env=proxies)
    assert (done.code, done.err) == (0, "")
    assert "Links of these servers" not in done.out.decode()
