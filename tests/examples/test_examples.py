"""Every example does what its docstring says, over a network of its own."""

import ast
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tests.cli.running import DMSG, PATIENCE, command, dmsg, environment, line_of, network

EXAMPLES = Path(__file__).parents[2] / "examples"
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

pytestmark = pytest.mark.network


@dataclass(frozen=True)
class Running:
    """An example that serves until Ctrl-C."""

    process: trio.Process
    address: str


@asynccontextmanager
async def running(name: str, *arguments: str, discovery: str) -> AsyncIterator[Running]:
    """Run an example for the block; then it has to end well at Ctrl-C, without a word."""
    process = await trio.lowlevel.open_process(
        [sys.executable, str(EXAMPLES / name), "--discovery", discovery, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with process.stdout, process.stderr:
        try:
            with trio.fail_after(PATIENCE):
                yield Running(process, (await line_of(process.stdout)).decode().strip())
                process.send_signal(signal.SIGINT)
                assert await process.stderr.receive_some() == b""
                assert await process.wait() == 0
        finally:
            process.kill()
            await process.wait()


async def example(name: str, *arguments: str) -> str:
    """Run an example to its end, and answer with what it printed."""
    done = await command([sys.executable, str(EXAMPLES / name), *arguments])
    assert (done.code, done.err) == (0, "")
    return done.out.decode()


async def test_hello() -> None:
    async with network() as up:
        said = await example("hello.py", "--discovery", up.ready.discovery)
    assert re.fullmatch(r"hello Alice, your key is 0[23][0-9a-f]{64}\n", said)


async def test_echo_server(tmp_path: Path) -> None:
    identity = str(tmp_path / "echo.id")
    key = (await dmsg("keys", "new", identity)).out.decode().strip()
    async with network() as up:
        discovery = up.ready.discovery
        async with running("echo_server.py", identity, discovery=discovery) as server:
            assert server.address == f"{key}:7"
            done = await dmsg("cat", server.address, stdin=b"again", discovery=discovery)
            assert (done.code, done.out) == (0, b"again")


async def test_port_forward() -> None:
    async with (
        network() as up,
        running(
            "port_forward.py", up.ready.http, "--listen", "0", discovery=up.ready.discovery
        ) as forward,
    ):
        host, _, port = forward.address.rpartition(":")
        with trio.fail_after(PATIENCE):
            async with await trio.open_tcp_stream(host, int(port)) as tcp:
                await tcp.send_all(REQUEST)
                answer = b"".join([data async for data in tcp])
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"It works" in answer


async def test_port_forward_lives_on_after_a_dial_that_failed() -> None:
    async with network() as up:
        nobody = f"{up.ready.client}:99"
        async with running(
            "port_forward.py", nobody, "--listen", "0", discovery=up.ready.discovery
        ) as forward:
            host, _, port = forward.address.rpartition(":")
            for _ in range(2):
                with trio.fail_after(PATIENCE):
                    async with await trio.open_tcp_stream(host, int(port)) as tcp:
                        assert await tcp.receive_some() == b""


async def test_http_page() -> None:
    async with network() as up, running("http_page.py", discovery=up.ready.discovery) as server:
        done = await dmsg("cat", server.address, stdin=REQUEST, discovery=up.ready.discovery)
    assert done.out.startswith(b"HTTP/1.1 200")
    assert re.search(rb"\nYou are 0[23][0-9a-f]{64}\n", done.out)


async def test_http_client() -> None:
    async with network() as up:
        said = await example(
            "http_client.py", "--discovery", up.ready.discovery, f"dmsg://{up.ready.http}/"
        )
    assert "It works" in said


async def test_asgi_app() -> None:
    async with network() as up, running("asgi_app.py", discovery=up.ready.discovery) as server:
        said = await example("http_client.py", "--discovery", up.ready.discovery, server.address)
        assert re.fullmatch(r"You are 0[23][0-9a-f]{64}\n", said)


async def test_fastapi_app() -> None:
    async with network() as up, running("fastapi_app.py", discovery=up.ready.discovery) as server:
        note = f"{server.address}notes/first"
        said = await example("http_client.py", "--discovery", up.ready.discovery, note)
        assert json.loads(said) == {"text": "It works", "author": ""}
        done = await command(
            [
                *(str(Path(DMSG).parent / "dmsgcurl"), "-s", "-X", "PUT", "-d", '{"text": "Mine"}'),
                *("-H", "Content-Type: application/json", note),
            ],
            discovery=up.ready.discovery,
        )
        assert done.code == 0, done.err
        written = json.loads(done.out)
        assert written["text"] == "Mine"
        assert re.fullmatch(r"0[23][0-9a-f]{64}", written["author"])


async def test_own_network() -> None:
    said = (await example("own_network.py")).splitlines()
    first = re.fullmatch(r"through ([0-9a-f]{8}) came first", said[0])
    second = re.fullmatch(r"through ([0-9a-f]{8}) came second", said[2])
    assert first
    assert second
    assert first[1] != second[1]


async def test_relay_and_discovery() -> None:
    said = await example("relay_and_discovery.py")
    assert re.fullmatch(r"there and back through 0[23][0-9a-f]{64}\n", said)


def test_every_example_is_tested_here_and_says_how_to_run_it() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names <= {name.removeprefix("test_") for name in globals()}
    for name in names:
        docstring = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text()))
        assert docstring
        assert f"python examples/{name}.py" in docstring
