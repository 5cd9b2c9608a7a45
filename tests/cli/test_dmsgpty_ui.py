"""dmsgpty-ui as a person runs it: what it prints, what it refuses, and how it reaches a host."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from dmsg_trio._address import Address
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.apps.pty._routes import DirectRoute
from dmsg_trio.apps.pty.host._allow import AllowList
from dmsg_trio.apps.pty.host._audit import Audit
from dmsg_trio.apps.pty.host._config import HostOptions
from dmsg_trio.apps.pty.host._host import PtyHost
from dmsg_trio.apps.pty.remote._choosing import open_remote_shell
from dmsg_trio.apps.pty.remote._remote import Wanted
from dmsg_trio.testing import Network
from tests.apps.pty.ui_parts import opened_page, running_ui
from tests.cli.running import command, environment
from tests.waiting import PATIENCE, Log

PROGRAM = str(Path(sys.executable).with_name("dmsgpty-ui"))

pytestmark = pytest.mark.network


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[tuple[trio.Process, Log]]:
    """Run the program for the block, and hear what it prints."""
    process = await trio.lowlevel.open_process(
        [PROGRAM, "--addr", "127.0.0.1:0", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    out = Log("dmsgpty-ui")
    try:
        async with open_service_nursery() as nursery:
            nursery.start_soon(out.read, process.stdout)
            yield process, out
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


async def test_it_prints_a_link_that_sighup_renews_and_a_signal_ends_it(tmp_path: Path) -> None:
    async with running("--haddr", str(tmp_path / "none")) as (process, out):
        link = await out.said(
            r"terminal of this machine: (http://127\.0\.0\.1:\d+/#token=\S{43})\n"
        )
        process.send_signal(signal.SIGHUP)
        another = await out.said(r"\n.*(http://\S+)\n")
        assert another != link
        assert another.partition("#")[0] == link.partition("#")[0]
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0


async def test_the_reason_why_there_is_no_host_reaches_the_page(tmp_path: Path) -> None:
    async with running("--no-token", "--haddr", str(tmp_path / "none")) as (_, out):
        port = int(await out.said(r"http://127\.0\.0\.1:(\d+)/\n"))
        async with opened_page(port) as page:
            await page.open()
            failed = await page.hear("status", state="failed")
            assert "no host runs on this machine" in str(failed["text"])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--addr", "nowhere"], "'nowhere' is not host:port"),
        (["--addr", "192.0.2.1:1"], "cannot listen on 192.0.2.1:1"),
        (["nonsense"], "not an address"),
        (["--allow-origin", "term.example"], "'term.example' is not http"),
        (["--token-file", "short"], "short is not one word of at least 16 characters"),
    ],
)
async def test_what_makes_no_sense_is_one_line(
    arguments: list[str], error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = tmp_path / "short"
    short.touch(mode=0o600)
    short.write_text("secret")
    done = await command([PROGRAM, *arguments])
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert error in re.sub(r"\s+", " ", done.err)


# ---- to a real host ----


@pytest.mark.parametrize("way", ["socket", "network"])
async def test_a_page_has_a_shell_of_a_host(way: str, tmp_path: Path) -> None:
    async with (
        Network() as network,
        network.client() as far,
        network.client() as near,
        open_service_nursery() as nursery,
    ):
        socket = tmp_path / "pty.sock"
        audit = Audit()
        host = PtyHost(far, HostOptions(address=str(socket)), AllowList(given=[near.pk]), audit)
        await nursery.start(host.serve)
        if way == "socket":
            async with running("--no-token", "--haddr", str(socket), "--cmd", "sh") as (_, out):
                await _has_a_shell(int(await out.said(r"http://127\.0\.0\.1:(\d+)/\n")))
        else:
            wanted = Wanted(argv=("sh",), terminal="xterm")
            route = DirectRoute(near, Address(far.pk, 22))
            async with running_ui(lambda size: open_remote_shell(route, wanted)) as ui:
                await _has_a_shell(ui.port)


async def _has_a_shell(port: int) -> None:
    async with opened_page(port) as page:
        await page.open()
        await page.socket.send(b"echo ans''wer; stty size; exit 5\r")
        await page.see(b"answer\r\n")
        ended = await page.hear("status", state="ended")
        assert ended["text"] == "the shell ended with exit code 5"


async def test_a_host_that_refuses_is_quoted(tmp_path: Path) -> None:
    async with (
        Network() as network,
        network.client() as far,
        network.client() as near,
        open_service_nursery() as nursery,
    ):
        options = HostOptions(address=str(tmp_path / "pty.sock"))
        await nursery.start(PtyHost(far, options, AllowList(), Audit()).serve)
        route = DirectRoute(near, Address(far.pk, 22))
        async with (
            running_ui(lambda size: open_remote_shell(route, Wanted(size=size))) as ui,
            opened_page(ui.port) as page,
        ):
            await page.open()
            failed = await page.hear("status", state="failed")
            assert failed["text"] == f"the key {near.pk} is not allowed here"
