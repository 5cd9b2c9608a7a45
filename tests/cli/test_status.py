"""dmsg status: all that the discovery knows, with keys that can be copied."""

import json

import pytest
import trio

from dmsg_trio import SecretKey
from dmsg_trio.cli._health import ContestedKey, LinkHealth, ServerHealth, age, size
from dmsg_trio.cli.status import MAX_SHOWN, ClientStatus, Report, ServerStatus
from dmsg_trio.server.serving import ServerConfig, serve_from_config
from tests.cli.running import PATIENCE, dmsg, network
from tests.ports import free_port

SERVER = "03" + "ab" * 32


@pytest.mark.network
async def test_servers_and_their_clients_are_shown_with_whole_keys() -> None:
    async with network() as up:
        done = await dmsg("status", discovery=up.ready.discovery)
        assert (done.code, done.err) == (0, "")
        assert done.lines[0] == f"{up.ready.discovery}: 2 servers, 1 client"
        for server in up.ready.servers:
            at = done.lines.index(f"server  {server.pk}")
            assert done.lines[at + 1].split()[0] == server.address
        clients = [line.split() for line in done.lines if line.startswith("  client  ")]
        assert {pk for _, pk, _ in clients} == {up.ready.client}, "at one server, or at both"
        assert all(since.endswith("s") for _, _, since in clients), "since it last said so"
        assert max(map(len, done.lines)) <= 80


@pytest.mark.network
async def test_json_has_everything() -> None:
    async with network() as up:
        done = await dmsg("status", "--json", discovery=up.ready.discovery)
        report = json.loads(done.out)
        assert report["discovery"] == up.ready.discovery
        assert report["clients"] == [up.ready.client]
        assert {server["pk"] for server in report["servers"]} == {
            server.pk for server in up.ready.servers
        }
        assert any(up.ready.client in server["clients"] for server in report["servers"])
        [entry] = report["entries"]
        assert entry["pk"] == up.ready.client
        assert set(entry["servers"]) <= {server.pk for server in up.ready.servers}
        assert 0 <= entry["age_seconds"] < 60
        assert report["health"] == []


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
        at = done.lines.index(f"server  {server.pk}")
        linked = {line.split()[1] for line in done.lines[at:] if line.startswith("  link  ")}
        assert linked == {each.pk for each in up.ready.servers}
        assert sum(line.startswith("          open for ") for line in done.lines) == 2
        assert done.lines[-1].startswith(f"health  {nobody}: ")
        assert max(len(line) for line in done.lines[:-1]) <= 80

        done = await dmsg("status", "--json", *options, discovery=up.ready.discovery)
        told, failed = json.loads(done.out)["health"]
        assert (told["public_key"], told["error"]) == (str(server.pk), "")
        assert {link["public_key"] for link in told["links"]} == linked
        assert all(link["state"] == "open" for link in told["links"])
        assert failed["error"]
    nursery.cancel_scope.cancel()


@pytest.mark.network
async def test_what_is_no_url_of_an_endpoint_is_named() -> None:
    async with network() as up:
        done = await dmsg("status", "--health", "127.0.0.1:1", discovery=up.ready.discovery)
    assert (done.code, done.out) == (1, b"")
    assert "--health: a URL begins with http://" in done.err


@pytest.mark.network
async def test_no_discovery_is_one_clear_line() -> None:
    done = await dmsg("status", discovery="http://127.0.0.1:1")
    assert (done.code, done.out) == (1, b"")
    assert done.err.startswith("error: http://127.0.0.1:1/")
    assert done.err.count("\n") == 1


def test_of_many_clients_some_are_shown_and_the_others_counted() -> None:
    clients = [f"02{number:064x}" for number in range(MAX_SHOWN + 5)]
    server = ServerStatus(SERVER, "192.0.2.1:8081", "community", 1, 3.2, clients)
    text = "\n".join(Report("http://d", [server], clients).lines())
    assert "1 free session, seen 3 s ago" in text
    assert clients[MAX_SHOWN - 1] in text
    assert clients[MAX_SHOWN] not in text
    assert "and 5 more clients, see --json" in text


def test_clients_of_a_discovery_that_does_not_tell_where_are_listed_apart() -> None:
    server = ServerStatus(SERVER, "192.0.2.1:8081", "", 7, 0.0, None)
    lines = list(Report("http://d", [server], ["02aa"]).lines())
    assert lines[-2:] == ["the discovery does not tell where:", "  client  02aa"]


def test_a_client_at_an_unknown_server_is_not_left_out() -> None:
    server = ServerStatus(SERVER, "192.0.2.1:8081", "", 7, 0.0, ["02bb"])
    lines = list(Report("http://d", [server], ["02aa", "02bb"]).lines())
    assert lines[-2:] == ["at none of these servers:", "  client  02aa"]


def test_a_server_that_tells_of_itself_is_shown_with_its_links_and_fights() -> None:
    server = ServerStatus(SERVER, "192.0.2.1:8081", "", 7, 0.0, ["02aa"])
    link = LinkHealth(
        public_key="03cc", state="open", age_seconds=90000, round_trip_ms=12.44, streams=1,
        received_bytes=48_211, sent_bytes=912, reconnects=2,
    )  # fmt: skip
    health = ServerHealth(
        url="http://h", public_key=SERVER, started_at="2027-01-15T08:00:00Z", sessions=12, streams=3,
        links=[link], servers_missing=["03dd"],
        contested_keys=[ContestedKey(public_key="02ee", replacements=7)],
    )  # fmt: skip
    elsewhere = ServerHealth(url="http://i", public_key="03ff", draining=True)
    failed = ServerHealth(url="http://j", error="no answer within 5 s")
    entries = [ClientStatus("02aa", [SERVER], 200)]
    report = Report("http://d", [server], ["02aa"], entries, [health, elsewhere, failed])
    assert list(report.lines())[4:] == [
        "        since 2027-01-15T08:00:00Z, 12 sessions, 3 streams",
        "  link    03cc",
        "          open for 1d, 12.4 ms, 1 stream, 48.2 kB in, 912 B out, 2 reconnects",
        "  no link 03dd",
        "  twice   02ee",
        "          two programs seem to have this key: 7 changes within 10 minutes",
        "  client  02aa  3m",
        "",
        "server  03ff",
        "        not in the discovery",
        "        since ?, 0 sessions, 0 streams, draining",
        "",
        "health  http://j: no answer within 5 s",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-1, "0s"), (59, "59s"), (60, "1m"), (7199, "1h"), (10**7, "115d")]
)
def test_times_are_shown_short(seconds: float, shown: str) -> None:
    assert age(seconds) == shown


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (10**13, "10.0 TB")]
)
def test_sizes_are_shown_short(number: int, shown: str) -> None:
    assert size(number) == shown
