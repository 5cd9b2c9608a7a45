"""dmsg status: all that the discovery knows, with keys that can be copied."""

import json

import pytest

from dmsg_trio.cli.status import MAX_SHOWN, Report, ServerStatus
from tests.cli.running import dmsg, network

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
        assert f"  client  {up.ready.client}" in done.lines
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
