"""dmsg ping: what it says of a client that is there, of one that is not, and of no network."""

import signal
import subprocess

import pytest
import trio

from tests.cli.running import (
    DMSG,
    NOBODY,
    PATIENCE,
    dmsg,
    environment,
    line_of,
    network,
    objects,
    running,
)

pytestmark = pytest.mark.network


async def test_a_live_key_answers_and_echoes() -> None:
    async with network() as up:
        done = await dmsg("ping", "-c3", "-i0.01", up.ready.client, discovery=up.ready.discovery)
        assert (done.code, done.err) == (0, "")
        *pings, _, whom, summary = done.lines
        assert len(pings) == 3
        for number, line in enumerate(pings, 1):
            assert line.startswith(f"{number}: open ")
            assert ", echo " in line
        assert whom == up.ready.echo
        assert summary.startswith("3 of 3 answered, open min/avg/max ")


async def test_a_port_where_nobody_listens_still_tells_that_the_client_is_alive() -> None:
    async with network() as up:
        done = await dmsg(
            "ping", "-c1", f"{up.ready.client}:99", "--json", discovery=up.ready.discovery
        )
    assert done.code == 0
    (answer,) = objects(done)
    assert answer["note"] == "alive, nobody listens on port 99"
    assert answer["open_ms"] is not None
    assert answer["echo_ms"] is None


async def test_an_unknown_key_is_said_to_be_unknown() -> None:
    async with network() as up:
        done = await dmsg("ping", "-c1", NOBODY, discovery=up.ready.discovery)
    assert done.code == 1
    assert done.lines[0] == "1: no client of this key is registered at the discovery"
    assert done.lines[-1] == "0 of 1 answered"


async def test_json_is_one_object_for_each_ping_and_nothing_else() -> None:
    async with network() as up:
        done = await dmsg(
            "ping", "-c2", "-i0.01", "--json", up.ready.client, discovery=up.ready.discovery
        )
        servers = {server.pk for server in up.ready.servers}
    answers = objects(done)
    assert [answer["number"] for answer in answers] == [1, 2]
    assert {answer["server"] for answer in answers} <= servers


async def test_ctrl_c_sums_up() -> None:
    async with network() as up:
        process = await trio.lowlevel.open_process(
            [DMSG, "ping", "-c0", "-i0.01", up.ready.client],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment(up.ready.discovery),
        )
        assert process.stdout is not None
        try:
            with trio.fail_after(PATIENCE):
                assert await line_of(process.stdout)
                process.send_signal(signal.SIGINT)
                said = b"".join([piece async for piece in process.stdout])
                assert await process.wait() == 128 + signal.SIGINT
        finally:
            process.kill()
            await process.stdout.aclose()
    assert b" answered, open min/avg/max " in said.splitlines()[-1]


async def test_no_network_is_said_soon_and_again_when_the_time_is_up() -> None:
    words = (DMSG, "ping", "--timeout", "4", NOBODY)
    async with running(*words, discovery="http://127.0.0.1:1") as process:
        assert process.stderr is not None
        first = await line_of(process.stderr)
        said_at = trio.current_time()
        assert first.startswith(b"no network yet, trying for 4 s: http://127.0.0.1:1/")
        last = await line_of(process.stderr)
        assert trio.current_time() - said_at > 1  # however long the program took to start
        assert last.startswith(b"error: no network within 4 s: http://127.0.0.1:1/")
        assert await process.stderr.receive_some() == b""
        assert await process.wait() == 1


async def test_what_is_no_key_is_one_clear_line() -> None:
    done = await dmsg("ping", "nonsense")
    assert (done.code, done.out) == (1, b"")
    assert done.err == "error: not an address: a public key is 66 hex digits, not 8: 'nonsense'\n"
