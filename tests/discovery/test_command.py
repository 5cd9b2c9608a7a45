"""dmsg-discovery as a program: where it listens, how it ends, and what it says when it cannot."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trio

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import SecretKey
from dmsg_trio.cli.dmsg_discovery import parse_listen_address
from dmsg_trio.discovery import ClientInfo, Entry, HttpDiscovery, publish_next

ROOT = Path(__file__).parents[2]
MODULE = ("-m", "dmsg_trio.discovery")
FOLDER = (str(ROOT / "cmd" / "dmsg-discovery"),)
PATIENCE = 20  # seconds for a process to start or to end
CLIENT = SecretKey(b"\x01" * 32)


@dataclass(frozen=True)
class Running:
    """A discovery in a process of its own."""

    process: trio.Process
    url: str
    said: str


@asynccontextmanager
async def running(
    *options: str, how: Sequence[str] = MODULE, env: dict[str, str] | None = None
) -> AsyncIterator[Running]:
    command = [sys.executable, *how, "--addr", "127.0.0.1:0", *options]
    process = await trio.lowlevel.open_process(
        command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}
    )
    assert process.stderr is not None
    try:
        said = b""
        with trio.fail_after(PATIENCE):
            while not (found := re.search(rb"listening on (http://127.0.0.1:[1-9]\d*)\n", said)):
                piece = await process.stderr.receive_some()
                assert piece, said
                said += piece
        yield Running(process, found[1].decode(), said.decode())
    finally:
        process.kill()
        await process.wait()
        await process.stderr.aclose()


async def refused(*options: str) -> str:
    """Run it with options that cannot work, and answer with the one line that it says."""
    command = [sys.executable, *MODULE, *options]
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(
            command, capture_stderr=True, check=False, stdin=b"", env={**os.environ, "TERM": "dumb"}
        )
    lines: list[str] = done.stderr.decode().splitlines()
    assert (done.returncode, len(lines)) == (1, 1), lines
    return lines[0]


@pytest.mark.network
@pytest.mark.parametrize("how", [MODULE, FOLDER])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_answers_until_a_signal_and_ends_well(
    how: Sequence[str], number: signal.Signals
) -> None:
    async with running("--store", "memory:", "--test-mode", how=how) as discovery:
        async with httpx.AsyncClient(trust_env=False) as http:
            health = await http.get(discovery.url + "/health")
            assert health.json()["build_info"]["version"]
        discovery.process.send_signal(number)
        with trio.fail_after(PATIENCE):
            assert await discovery.process.wait() == 0


@pytest.mark.network
async def test_what_it_acknowledged_is_there_after_it_was_killed(tmp_path: Path) -> None:
    draft = Entry(pk=CLIENT.pk, timestamp=0, client=ClientInfo(()))
    env = {"XDG_DATA_HOME": str(tmp_path)}
    async with running(env=env) as first, HttpDiscovery(first.url) as discovery:
        mine = await publish_next(discovery, CLIENT, draft)
        first.process.kill()
        await first.process.wait()
    assert (tmp_path / "dmsg-trio" / "discovery.sqlite").exists()
    async with running(env=env) as second, HttpDiscovery(second.url) as discovery:
        assert await discovery.entry(CLIENT.pk) == mine


@pytest.mark.network
async def test_it_takes_its_key_from_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(CLIENT.reveal().hex())
    path.chmod(0o600)
    async with running("--store", "memory:", "--key-file", str(path)) as discovery:
        assert str(CLIENT.pk) in discovery.said
    path.chmod(0o644)
    assert str(path) in await refused("--store", "memory:", "--key-file", str(path))


@pytest.mark.network
async def test_a_port_that_is_taken_is_one_clear_line() -> None:
    async with running("--store", "memory:") as discovery:
        port = discovery.url.rpartition(":")[2]
        line = await refused("--store", "memory:", "--addr", f"127.0.0.1:{port}")
    assert f"cannot listen on 127.0.0.1:{port}" in line


@pytest.mark.network
async def test_a_store_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'entries'}"
    async with running("--store", url):
        assert "locked" in await refused("--store", url, "--addr", "127.0.0.1:0")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--addr", "nowhere"], "HOST:PORT"),
        (["--store", "floppy:"], "floppy"),
        (["--whitelist-keys", "02ab"], "--whitelist-keys: a public key"),
        (["--official-servers", f"{CLIENT.pk},x"], "--official-servers: a public key"),
    ],
)
async def test_a_wrong_setting_is_one_clear_line(options: list[str], said: str) -> None:
    assert said in await refused(*options)


def test_where_to_listen_is_read_as_usual() -> None:
    assert parse_listen_address(":9090") == (None, 9090)
    assert parse_listen_address("127.0.0.1:0") == ("127.0.0.1", 0)
    assert parse_listen_address("[::1]:80") == ("::1", 80)
    for wrong in (
        "9090",
        "host",
        "host:",
        "host:x",
        "host:65536",
        "host:0000099999",
        "a:²",
        "::1:80",
    ):
        with pytest.raises(ConfigError, match="HOST:PORT"):
            parse_listen_address(wrong)
