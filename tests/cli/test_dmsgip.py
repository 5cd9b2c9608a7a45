"""dmsgip: what servers say of our address, together and against each other."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from ipaddress import ip_address

import pytest
import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.entries import Entry, ServerInfo
from dmsg_trio.cli.dmsgip import Said, _address_untrusted, _exit_code, _print, _print_json
from dmsg_trio.discovery import HttpDiscovery
from tests.cli.running import NOBODY, dmsg, network
from tests.ports import free_port

pytestmark = pytest.mark.network

SERVERS = [SecretKey.generate().pk for _ in range(3)]


def said(*texts: str) -> list[Said]:
    """What servers say one after the other; an empty text is no answer."""
    return [
        Said(server=pk, address=ip_address(text), milliseconds=1.5)
        if text
        else Said(server=pk, error="it is gone")
        for pk, text in zip(SERVERS, texts, strict=False)
    ]


# ---- in a network ----


async def test_the_address_is_a_line_and_what_is_odd_about_it_is_said_beside_it() -> None:
    async with network("--servers", "2") as up:
        done = await dmsg("ip", discovery=up.ready.discovery)
    assert (done.code, done.lines) == (0, ["127.0.0.1"])
    assert done.err == "127.0.0.1 is not a public address\n"


async def test_every_server_is_asked_and_shown() -> None:
    async with network("--servers", "3") as up:
        table = await dmsg("ip", "--all", discovery=up.ready.discovery)
        few = await dmsg("ip", "--count", "2", "--json", discovery=up.ready.discovery)
    assert {line.split()[0] for line in table.lines} == {server.pk for server in up.ready.servers}
    assert {line.split()[1] for line in table.lines} == {"127.0.0.1"}
    answer = json.loads(few.out)
    assert answer["addresses"] == [{"address": "127.0.0.1", "version": 4, "public": False}]
    assert len(answer["servers"]) == 2
    assert all(each["ms"] > 0 and each["error"] is None for each in answer["servers"])


async def test_one_server_is_asked_by_its_key_and_who_is_none_is_named() -> None:
    async with network("--servers", "2") as up:
        pk = up.ready.servers[1].pk
        done = await dmsg("ip", "--srv", f"{pk},{NOBODY}", discovery=up.ready.discovery)
        wrong = await dmsg("ip", "--srv", "02abc", discovery=up.ready.discovery)
        nobody = await dmsg("ip", "-d", NOBODY, discovery=up.ready.discovery)
    assert (done.code, done.lines) == (0, ["127.0.0.1"])
    assert done.err.startswith(f"{PublicKey.parse(NOBODY).short}: ")
    assert (wrong.code, wrong.out) == (1, b"")
    assert wrong.err.startswith("error: --srv: ")
    assert (nobody.code, nobody.out) == (1, b"")
    assert "the discovery knows no server of this key" in nobody.err


async def test_who_answers_wrong_and_who_is_away_are_told_apart() -> None:
    """Servers that are in the discovery, but somebody else is where they say that they are."""

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.0 400 What?\r\n\r\n")

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    places = [f"127.0.0.1:{port}" for port in (listeners[0].socket.getsockname()[1], free_port())]
    async with network("--servers", "1") as up, HttpDiscovery(up.ready.discovery) as discovery:
        keys = [SecretKey.generate() for _ in places]
        for sk, place in zip(keys, places, strict=True):
            server = ServerInfo(address=place, available_sessions=10)
            entry = Entry(pk=sk.pk, timestamp=time.time_ns(), server=server)
            await discovery.publish(entry.signed(sk))
        async with open_service_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, answer, listeners)
            done = await dmsg("ip", "--json", discovery=up.ready.discovery)
    faults = {each["server"]: each["error"] for each in json.loads(done.out)["servers"]}
    assert done.code == 0  # one has answered
    assert faults[up.ready.servers[0].pk] is None
    assert faults[str(keys[0].pk)].startswith("no session with it: a frame")
    assert (
        f"no session with it: no connection to {places[1]}: Connection refused"
        in faults[str(keys[1].pk)]
    )


async def test_addresses_of_the_other_kind_are_left_out_and_none_is_said() -> None:
    async with network() as up:
        done = await dmsg("ip", "-6", discovery=up.ready.discovery)
    assert (done.code, done.out) == (1, b"")
    assert done.err == "no server sees an address of this kind\n"


async def test_a_discovery_that_is_away_is_said_soon_and_tried_until_the_time_is_up() -> None:
    done = await dmsg("ip", "--timeout", "2", discovery="http://127.0.0.1:1")
    assert (done.code, done.out) == (1, b"")
    soon, last = done.err.splitlines()
    assert soon.startswith("no network yet, trying for 2 s: http://127.0.0.1:1/")
    assert last.startswith("error: no network within 2 s: http://127.0.0.1:1/")


async def test_a_secret_on_the_command_line_is_refused_and_not_repeated() -> None:
    secret = SecretKey.generate().reveal().hex()
    done = await dmsg("ip", "-s", secret)
    assert done.code == 1
    assert "DMSGIP_SK" in done.err
    assert secret not in done.err


# ---- what is made of the answers ----


@pytest.mark.parametrize(
    ("texts", "code"),
    [
        (["8.8.8.8", "8.8.8.8"], 0),
        (["8.8.8.8", "2001:4860:4860::8888"], 0),
        (["8.8.8.8", ""], 0),
        (["8.8.8.8", "8.8.4.4"], 3),
        (["", ""], 1),
        ([], 1),
    ],
)
def test_the_exit_code_says_whether_they_agree(texts: list[str], code: int) -> None:
    assert _exit_code(said(*texts)) == code


def test_what_most_servers_see_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    _print(said("8.8.4.4", "8.8.8.8", "8.8.8.8"), as_table=False)
    out, err = capsys.readouterr()
    assert out.splitlines() == ["8.8.8.8", "8.8.4.4"]
    assert "--all shows who sees which" in err


def test_the_table_and_the_json_name_a_server_that_said_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = said("8.8.8.8", "")
    _print(answers, as_table=True)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.split(maxsplit=2) == [str(SERVERS[1]), "-", "it is gone"]
    _print_json([replace(each, milliseconds=None) for each in answers])
    servers = json.loads(capsys.readouterr().out)["servers"]
    assert servers[1] == {
        "server": str(SERVERS[1]),
        "address": None,
        "ms": None,
        "error": "it is gone",
    }


def test_an_address_comes_as_4_or_16_bytes() -> None:
    assert str(_address_untrusted(bytes([203, 0, 113, 7]))) == "203.0.113.7"
    assert str(_address_untrusted(bytes(10) + b"\xff\xff" + bytes([8, 8, 8, 8]))) == "8.8.8.8"
    assert str(_address_untrusted(bytes(15) + b"\x01")) == "::1"
    with pytest.raises(RemoteProtocolError, match="an address of 5 bytes"):
        _address_untrusted(bytes(5))
