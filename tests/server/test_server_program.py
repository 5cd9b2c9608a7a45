"""dmsg-server as a process: registers when it can, relays, tells how it is, and drains."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from dmsg_trio._asgi import serve_tcp
from dmsg_trio._errors import ConfigError, UnreachableError
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.client import Client, open_client
from dmsg_trio.discovery import MemoryDiscovery
from dmsg_trio.discovery.serving import make_app
from dmsg_trio.server._server import DRAIN_TIME, MOVE_TIME
from dmsg_trio.server.serving import ServerConfig, serve_from_config
from tests.waiting import PATIENCE, Log

pytestmark = pytest.mark.network

ROOT = Path(__file__).parents[2]
MODULE = ("-m", "dmsg_trio.server")
FOLDER = (str(ROOT / "cmd" / "dmsg-server"),)
KEY = SecretKey(b"\x05" * 32)
SIZE = 1_000_000
NOWHERE = "http://127.0.0.1:1"  # a discovery that is not there


class Running:
    """A server in a process of its own, and what it says."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stderr is not None
        self.process = process
        self.log = Log("the server")
        self.listen = partial(self.log.read, process.stderr)

    async def ends(self) -> int:
        with trio.fail_after(PATIENCE):
            return await self.process.wait()

    async def get(self, path: str) -> httpx.Response:
        url = "http://" + await self.log.said(r"HTTP on (\S+)")
        async with httpx.AsyncClient(trust_env=False) as http:
            return await http.get(url + path)


@asynccontextmanager
async def running(
    *options: str, how: tuple[str, ...] = MODULE, stdin: bytes = b""
) -> AsyncIterator[Running]:
    process = await trio.lowlevel.open_process(
        [sys.executable, *how, "start", *options],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("DMSG_")},
    )
    try:
        assert process.stdin is not None
        await process.stdin.send_all(stdin)
        await process.stdin.aclose()
        async with open_service_nursery() as nursery:
            server = Running(process)
            nursery.start_soon(server.listen)
            yield server
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            assert process.stderr is not None
            await process.stderr.aclose()


class LateDiscovery:
    """A discovery with an address, at which nobody answers before `appear`."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self.memory = MemoryDiscovery()
        self.url = "http://{}:{}".format(*sock.getsockname())
        self._socket = sock

    @classmethod
    async def reserve(cls) -> "LateDiscovery":
        sock = trio.socket.socket()
        await sock.bind(("127.0.0.1", 0))
        return cls(sock)

    async def appear(self, nursery: trio.Nursery) -> None:
        self._socket.listen()
        listener = trio.SocketListener(self._socket)
        await nursery.start(serve_tcp, make_app(self.memory.service), [listener])


def configuration(**settings: object) -> bytes:
    return json.dumps(
        {
            "public_key": str(KEY.pk),
            "secret_key": KEY.reveal().hex(),
            "discovery": NOWHERE,
            "local_address": "127.0.0.1:0",
            "health_endpoint_address": ":0",
            **settings,
        }
    ).encode()


def configured(folder: Path, **settings: object) -> str:
    path = folder / "server.json"
    path.write_bytes(configuration(**settings))
    path.chmod(0o600)
    return str(path)


@asynccontextmanager
async def two_clients(url: str) -> AsyncIterator[tuple[Client, Client]]:
    with trio.fail_after(PATIENCE):
        async with open_client(discovery=url) as a, open_client(discovery=url) as b:
            yield a, b


def numbers(metrics: httpx.Response) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in metrics.text.splitlines() if line[0] != "#")
    return {name: float(value) for name, _, value in lines}


# ---- its life ----


async def test_it_serves_before_it_is_registered_and_drains_when_told_to(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    discovery = await LateDiscovery.reserve()
    async with running(configured(tmp_path, discovery=discovery.url)) as server:
        assert (await server.get("/health")).json()["sessions"] == 0
        await server.log.said("not registered, next try")
        await discovery.appear(nursery)
        await server.log.said(f"registered as {KEY.pk}")
        (entry,) = await discovery.memory.available_servers()
        assert entry.pk == KEY.pk

        async with two_clients(discovery.url) as (a, b), b.listen(80) as listener:
            near, far = await a.open_stream(b.pk, 80), await listener.accept()
            await relay(near, far)
            health = (await server.get("/health")).json()
            assert (health["public_key"], health["sessions"], health["streams"]) == (
                str(KEY.pk),
                2,
                1,
            )
            found = numbers(await server.get("/metrics"))
            assert found["dmsg_server_relayed_bytes_total"] > SIZE
            assert found["dmsg_server_clients_count"] == 2

            server.process.send_signal(signal.SIGTERM)
            await server.log.said("draining 2 sessions, 1 streams")
            assert (await server.get("/health")).json()["draining"] is True
            await relay(near, far)
            await relay(far, near)
            with pytest.raises(UnreachableError):
                await a.open_stream(b.pk, 80)
            assert entry.server is not None
            host, _, port = entry.server.address.rpartition(":")
            with pytest.raises(OSError, match="all attempts to connect"):
                await trio.open_tcp_stream(host, int(port))
            assert server.process.returncode is None
            await near.aclose()
            assert await far.receive_some() == b""
            await far.aclose()
            assert await server.ends() == 0
        assert await discovery.memory.available_servers() == []
    assert KEY.reveal().hex() not in server.log.text


async def relay(source: trio.abc.SendStream, sink: trio.abc.ReceiveStream) -> None:
    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.send_all, bytes(SIZE))
        while len(received) < SIZE:
            received += await sink.receive_some()
    assert len(received) == SIZE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_does_not_wait_for_streams(
    tmp_path: Path, nursery: trio.Nursery, number: signal.Signals
) -> None:
    discovery = await LateDiscovery.reserve()
    await discovery.appear(nursery)
    path = configured(tmp_path, discovery=discovery.url)
    async with running(path, "--drain-time", "3600") as server:
        async with two_clients(discovery.url) as (a, b), b.listen(80) as listener:
            async with await a.open_stream(b.pk, 80) as near, await listener.accept():
                server.process.send_signal(number)
                await server.log.said("draining 2 sessions, 1 streams")
                server.process.send_signal(number)
                assert await server.ends() == 0
                with suppress(trio.BrokenResourceError):
                    assert await near.receive_some() == b""


@pytest.mark.parametrize("signals", [1, 2])
async def test_clients_without_streams_keep_it_for_a_moment_and_a_second_signal_not_even_that(
    tmp_path: Path, nursery: trio.Nursery, signals: int
) -> None:
    discovery = await LateDiscovery.reserve()
    await discovery.appear(nursery)
    async with running(configured(tmp_path, discovery=discovery.url)) as server:
        async with two_clients(discovery.url):
            began = trio.current_time()
            for _ in range(signals):
                server.process.send_signal(signal.SIGTERM)
                await server.log.said("draining 2 sessions, 0 streams")
            assert await server.ends() == 0
            assert (trio.current_time() - began < MOVE_TIME) == (signals == 2)
            assert trio.current_time() - began < DRAIN_TIME


async def test_streams_that_do_not_end_in_time_are_ended(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    discovery = await LateDiscovery.reserve()
    await discovery.appear(nursery)
    path = configured(tmp_path, discovery=discovery.url)
    async with running(path, "--drain-time", "0.1") as server:
        async with two_clients(discovery.url) as (a, b), b.listen(80) as listener:
            async with await a.open_stream(b.pk, 80), await listener.accept():
                server.process.send_signal(signal.SIGTERM)
                assert await server.ends() == 0


# ---- how it starts ----


@pytest.mark.parametrize("how", [MODULE, FOLDER])
@pytest.mark.parametrize("named", [(), ("--config",), ("-c",)])
async def test_the_file_is_an_argument_or_an_option(
    tmp_path: Path, how: tuple[str, ...], named: tuple[str, ...]
) -> None:
    async with running(*named, configured(tmp_path), how=how) as server:
        assert (await server.get("/health")).json()["public_key"] == str(KEY.pk)
        server.process.send_signal(signal.SIGTERM)
        assert await server.ends() == 0


@pytest.mark.parametrize("option", ["--stdin", "-"])
async def test_the_configuration_can_come_from_a_pipe(option: str) -> None:
    async with running(option, stdin=configuration()) as server:
        await server.log.said(f"server {KEY.pk} at 127.0.0.1:[1-9]")
        server.process.send_signal(signal.SIGINT)
        assert await server.ends() == 0


async def test_options_count_more_than_the_file(tmp_path: Path) -> None:
    path = configured(tmp_path, local_address="nowhere.invalid:1", log_level="error")
    key_file = tmp_path / "key"
    key_file.write_text(KEY.reveal().hex())
    key_file.chmod(0o600)
    options = (
        "--listen=127.0.0.1:0", "--public-address=server.test:8081", "--metrics=127.0.0.1:0",
        "--log-level=info", f"--key-file={key_file}",
    )  # fmt: skip
    async with running(path, *options) as server:
        await server.log.said(f"server {KEY.pk} at server.test:8081")
        health, metrics = re.findall(
            r"HTTP on (\S+)", await server.log.said(r"(?s).*HTTP.*HTTP on .*\n")
        )
        async with httpx.AsyncClient(trust_env=False) as http:
            for address, path, status in [
                (health, "health", 200),
                (health, "metrics", 404),
                (metrics, "health", 404),
                (metrics, "metrics", 200),
            ]:
                assert (await http.get(f"http://{address}/{path}")).status_code == status


async def test_the_level_of_the_file_counts_if_no_option_says_otherwise(tmp_path: Path) -> None:
    async with running(configured(tmp_path, log_level="warn")) as server:
        await server.log.said("not registered, next try")
        assert " info " not in server.log.text


@pytest.mark.parametrize("name", ["local_address", "health_endpoint_address"])
async def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        path = configured(tmp_path, log_level="error", **{name: address})
        async with running(path) as server:
            assert await server.ends() == 1
            await server.log.said("\n")
    line = f"error: {name}: cannot listen on {address}: Address already in use\n"
    assert server.log.text == line


# ---- from Python ----


async def test_a_server_can_be_run_and_drained_from_python(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = ServerConfig(
        secret_key=KEY, discovery=NOWHERE, local_address=":0", health_endpoint_address="0.0.0.0:0"
    )
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_from_config, config)
        assert server.pk == KEY.pk
        server.drain()
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "public_address: '' names no host, clients are told" in said
    assert "health_endpoint_address: others than this machine may reach 0.0.0.0:0" in said


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
async def test_an_address_without_a_host_is_all_of_this_machine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "dmsg_trio.server")
    config = ServerConfig(secret_key=KEY, discovery=NOWHERE, local_address=":0")
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_from_config, config)
        addresses = dict(re.findall(r"sessions on (\S+):(\d+)", caplog.text))
        for host, everywhere in (("127.0.0.1", "0.0.0.0"), ("::1", "[::]")):
            stream = await trio.open_tcp_stream(host, int(addresses[everywhere]))
            await stream.aclose()
        nursery.cancel_scope.cancel()


async def test_nothing_stays_open_after_it_could_not_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        health = f"127.0.0.1:{taken.getsockname()[1]}"
        config = ServerConfig(
            secret_key=KEY,
            discovery=NOWHERE,
            local_address="127.0.0.1:0",
            health_endpoint_address=health,
        )
        before = os.listdir("/proc/self/fd")
        with pytest.raises(ConfigError, match="health_endpoint_address: cannot listen"):
            await serve_from_config(config)
        assert os.listdir("/proc/self/fd") == before
