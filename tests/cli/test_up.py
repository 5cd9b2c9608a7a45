"""dmsg up as a person and a script meet it: one process, ready soon, gone at Ctrl-C."""

import os
import re
import signal
import subprocess
from pathlib import Path

import httpx
import pytest
import trio

from dmsg_trio import Address, PublicKey, open_client
from dmsg_trio.cli._health import ask_all
from dmsg_trio.discovery import HttpDiscovery
from tests.apps.web.parties import all_of, receive_until
from tests.cli.running import DMSG, PATIENCE, command, dmsg, environment, line_of, network

STARTUP = 3  # seconds that a person waits gladly, on a machine that has nothing else to do

pytestmark = pytest.mark.network


def processor_seconds(pid: int) -> float:
    """How long a process has been busy: what it waits for here is itself and the kernel."""
    words = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, check=True)
    hours, minutes, seconds = words.stdout.decode().strip().split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


async def test_it_is_ready_soon_and_the_json_is_complete() -> None:
    async with network("--servers", "3") as up:
        assert processor_seconds(up.process.pid) < STARTUP
        ready = up.ready
        assert len({PublicKey.parse(server.pk) for server in ready.servers}) == 3
        assert len({server.address for server in ready.servers}) == 3
        assert ready.http == f"{PublicKey.parse(ready.client)}:80"
        assert ready.echo == f"{ready.client}:7"
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"{ready.discovery}/dmsg-discovery/all_servers")
            entries = answer.json()
        assert {entry["static"] for entry in entries} == {server.pk for server in ready.servers}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_in_order_and_leaves_nothing_behind(number: signal.Signals) -> None:
    process = await trio.lowlevel.open_process(
        [DMSG, "up", "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with process.stdout, process.stderr:
        try:
            with trio.fail_after(PATIENCE):
                while b"Ctrl-C" not in await line_of(process.stdout):
                    pass
                process.send_signal(number)
                assert await process.wait() == 0
                assert await process.stderr.receive_some() == b"", "nothing to complain about"
            with pytest.raises(ProcessLookupError):
                os.killpg(process.pid, 0)
        finally:
            process.kill()


async def test_the_lines_that_it_prints_work_when_they_are_pasted() -> None:
    process = await trio.lowlevel.open_process(
        [DMSG, "up", "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    try:
        text = ""
        with trio.fail_after(PATIENCE):
            while "Ctrl-C" not in text:
                text += (await line_of(process.stdout)).decode()
        _, _, below = text.partition("Try in a second terminal")
        status, ping, echo, page = re.findall(r"^  (\S.*)$", below, re.MULTILINE)
        path = {"PATH": f"{Path(DMSG).parent}:{os.environ['PATH']}"}
        outputs = []
        for line in (status, ping, echo, page):
            done = await command(["sh", "-c", line], env=path)
            assert (done.code, done.err) == (0, ""), line
            outputs.append(done.out)
    finally:
        process.kill()
        await process.wait()
        await process.stdout.aclose()
    assert b"2 servers, 1 client\n" in outputs[0]
    assert b"4 of 4 answered" in outputs[1]
    assert outputs[2] == b"hello\n"
    assert outputs[3].startswith(b"HTTP/1.1 200")
    assert b"It works" in outputs[3]


async def test_each_server_tells_of_itself_and_the_discovery_where_on_this_machine_alone() -> None:
    async with network("--servers", "3") as up, HttpDiscovery(up.ready.discovery) as discovery:
        status = await discovery.status()
        assert status is not None
        assert all(url.startswith("http://127.0.0.1:") for url in status.health)
        told = [each.public_key for each in await ask_all(status.health)]
        assert told == [server.pk for server in up.ready.servers]
        entry = await discovery.entry(PublicKey.parse(told[0]))
        assert b"health" not in entry.to_json(), "what is signed says nothing of it"


async def test_a_port_in_use_is_one_clear_line() -> None:
    async with network() as up:
        port = up.ready.discovery.rpartition(":")[2]
        second = await dmsg("up", "--port", port)
    assert (second.code, second.out) == (1, b"")
    assert second.err.startswith(f"error: cannot listen on 127.0.0.1:{port}: ")
    assert second.err.count("\n") == 1


async def test_entries_may_be_kept_in_a_file(tmp_path: Path) -> None:
    async with network("--store", f"sqlite:{tmp_path / 'entries'}"):
        assert (tmp_path / "entries").exists()


async def test_who_looks_at_the_page_sees_it_end_and_not_break() -> None:
    async with network() as up, open_client(discovery=up.ready.discovery) as client:
        address = Address.parse(up.ready.http)
        async with await client.open_stream(address.pk, address.port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"It works" in await receive_until(stream, b"</p>\n")
            up.process.terminate()
            assert await all_of(stream) == b""
        with trio.fail_after(PATIENCE):
            assert await up.process.wait() == 0
