"""Remote shells through servers that are killed, keys that are removed, and clients that die anyhow."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from dmsg_trio._keys import PublicKey, SecretKey
from tests.cli.pty_programs import (
    PtyHost,
    cli,
    cli_running,
    is_gone,
    pty_host,
)
from tests.cli.running import NOBODY, Done, line_of
from tests.end_to_end.deployment import Deployment
from tests.waiting import PATIENCE, answered

pytestmark = pytest.mark.network

GUEST, STRANGER = SecretKey(b"\x01" * 32), SecretKey(b"\x02" * 32)
OWN_FAILURE = 255
CYCLES = int(os.environ.get("PTY_CYCLES", "30"))  # of clients that come and die; more by hand
AT_ONCE = 6


class Guest:
    """Somebody with a key, who runs the CLI as a client of the network."""

    def __init__(self, folder: Path, key: SecretKey, discovery: str) -> None:
        self.key = key
        self.discovery = discovery
        self.options = ("--key-file", str(folder / f"{key.pk}.key"))
        path = Path(self.options[1])
        path.touch(mode=0o600)
        path.write_text(key.reveal().hex())

    async def cli(self, *arguments: str, stdin: bytes = b"") -> Done:
        return await cli(*self.options, *arguments, discovery=self.discovery, stdin=stdin)


@asynccontextmanager
async def registered(
    folder: Path, deployment: Deployment, *allowed: PublicKey, **settings: object
) -> AsyncIterator[PtyHost]:
    """Run a host for the block that is found at the discovery."""
    with pty_host(folder / "host", *allowed, discovery=deployment.url, **settings) as host:

        async def look() -> bool:
            await trio.lowlevel.checkpoint()
            return "registered at" in (host.folder / "log").read_text()

        assert await answered(look, within=PATIENCE)
        yield host


async def test_a_guest_is_served_and_all_others_hear_why_not(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    async with (
        deployment.discovery(),
        deployment.server(),
        registered(tmp_path, deployment, GUEST.pk) as host,
    ):
        guest = Guest(tmp_path, GUEST, deployment.url)
        stranger = Guest(tmp_path, STRANGER, deployment.url)
        done = await guest.cli(str(host.pk), "sh", "-c", "cat; exit 3", stdin=b"hello")
        assert (done.code, done.out, done.err) == (3, b"hello", "")
        for who, address, error in (
            (stranger, str(host.pk), f"the key {STRANGER.pk} is not allowed here"),
            (guest, NOBODY, "no client of this key is registered at the discovery"),
            (guest, f"{host.pk}:23", "nobody listens on this port"),
        ):
            began = trio.current_time()
            done = await who.cli(address, "true")
            assert trio.current_time() - began < 20
            assert (done.code, done.out) == (OWN_FAILURE, b"")
            assert error in done.err
            assert done.err.startswith("error: ")
            assert done.err.count("\n") == 1
        script = "echo $$; exec sleep 1000"
        async with cli_running(
            *guest.options, str(host.pk), "sh", "-c", script, discovery=deployment.url
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            with trio.fail_after(PATIENCE):
                pid = int(await line_of(process.stdout))
                host.allow()
                assert await is_gone(pid)
                said = b"".join([bytes(piece) async for piece in process.stderr])
                assert f"the key {GUEST.pk} is not allowed here".encode() in said
                assert await process.wait() == OWN_FAILURE
        (line,) = [each for each in host.audited() if each["reason"] == "its key was removed"]
        assert line["command"] == ["sh", "-c", script]


async def test_folders_are_copied_there_and_back(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    async with (
        deployment.discovery(),
        deployment.server(),
        registered(tmp_path, deployment, GUEST.pk) as host,
    ):
        guest = Guest(tmp_path, GUEST, deployment.url)
        photo = tmp_path / "photos" / "2026" / "a"
        photo.parent.mkdir(parents=True)
        photo.write_bytes(random.Random(0).randbytes(300_000))
        os.utime(photo, (1_000_000_000, 1_000_000_000))
        done = await guest.cli(
            "cp", "-r", "-p", str(photo.parents[1]), f"{host.pk}:{tmp_path}/there"
        )
        assert (done.code, done.err) == (0, "")
        copy = tmp_path / "there" / "2026" / "a"
        assert copy.read_bytes() == photo.read_bytes()
        assert copy.stat().st_mtime == 1_000_000_000
        done = await guest.cli("cp", f"{host.pk}:{copy}", f"{host.pk}:{copy}x", str(tmp_path))
        assert done.code == 1
        assert (tmp_path / "a").read_bytes() == photo.read_bytes()
        assert f"{copy}x: No such file or directory" in done.err


async def test_output_goes_on_where_it_was_when_a_server_is_killed(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    count = 200
    script = f"i=0; while [ $i -lt {count} ]; do echo line $i; i=$((i+1)); sleep 0.01; done; exit 9"
    async with (
        deployment.discovery(),
        deployment.server() as server,
        registered(tmp_path, deployment, GUEST.pk) as host,
    ):
        guest = Guest(tmp_path, GUEST, deployment.url)
        async with cli_running(
            *guest.options, str(host.pk), "sh", "-c", script, discovery=deployment.url
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            with trio.fail_after(PATIENCE):
                first = await line_of(process.stdout)
                server.send_signal(signal.SIGKILL)
                await server.wait()
                async with deployment.server():
                    rest = b"".join([bytes(piece) async for piece in process.stdout])
                    said = b"".join([bytes(piece) async for piece in process.stderr])
                    assert await process.wait() == 9
        assert first + rest == b"".join(b"line %d\n" % number for number in range(count))
        assert b"[connection lost, trying again" in said
        assert b"[the connection is back]" in said


async def test_nothing_is_left_of_clients_that_come_and_die(tmp_path: Path) -> None:
    """Whenever they are killed, and however: no process, no descriptor."""
    chance = random.Random(1)
    script = ("sh", "-c", "echo $$; cat; sleep 1000")
    with pty_host(tmp_path / "host", keep_time=0) as host:
        assert (await cli(*host.local, "--", "true")).code == 0
        before = host.descriptors()

        async def cycle() -> None:
            terminal = chance.choice([("-t",), ("-T",)])
            number = chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
            async with cli_running(*host.local, *terminal, "--", *script) as process:
                await trio.sleep(chance.uniform(0, 1.5))
                process.send_signal(number)
                with trio.fail_after(PATIENCE):
                    await process.wait()

        for _ in range(CYCLES // AT_ONCE):
            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(cycle)

        async def is_as_before() -> bool:
            await trio.lowlevel.checkpoint()
            return host.children() == [] and host.descriptors() <= before

        assert await answered(is_as_before, within=PATIENCE)
        assert (await cli(*host.local, "--", "true")).code == 0
    assert host.process.returncode == 0
    assert "Traceback" not in (host.folder / "log").read_text()


async def test_a_host_that_is_ended_tells_who_is_attached_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    with pty_host(tmp_path / "host") as host:
        async with cli_running(
            *host.local, "--", "sh", "-c", "echo $$; exec sleep 1000"
        ) as process:
            assert process.stdout is not None
            with trio.fail_after(PATIENCE):
                pid = int(await line_of(process.stdout))
                host.process.terminate()
                assert await process.wait() == 128 + signal.SIGHUP
            assert await is_gone(pid)
        assert await trio.to_thread.run_sync(host.process.wait, PATIENCE) == 0
        (line,) = host.audited()
        assert line["reason"] == "the host is shutting down"
        assert not (host.folder / "socket").exists()
