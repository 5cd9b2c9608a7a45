"""Whoever dies, and in whichever phase: nobody waits for ever, and no process is left.

Each test has one caller in each phase at the same time, and then ends one of the three programs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import pytest
import trio

from dmsg_trio._keys import SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from tests.cli.pty_programs import PROMPT, PtyHost, cli_on_terminal, cli_running, lives
from tests.cli.running import line_of
from tests.cli.terminals import Terminal
from tests.end_to_end.deployment import Deployment
from tests.end_to_end.test_pty import Guest, registered
from tests.waiting import PATIENCE, Log, answered

pytestmark = pytest.mark.network

ROOT: Final = Path(__file__).parents[2]
KEEP: Final = 2  # seconds that the host keeps a session whose client is gone
FILE_SIZE: Final = 2_000_000_000  # bytes: more than is copied meanwhile
KEYS: Final = [SecretKey(bytes([number]) * 32) for number in range(1, 9)]  # of one client each
OWN_FAILURE: Final = 255


@dataclass
class Caller:
    """A program that is in some phase."""

    name: str
    process: trio.Process
    said: Log

    @property
    def lines(self) -> list[str]:
        """What it said, without what it says of each try and of ports."""
        lines = self.said.text.splitlines()
        usual = "trying again", "is back", "here leads"
        return [line for line in lines if not any(words in line for words in usual)]


@dataclass
class Scene:
    """A host, and callers in all phases."""

    folder: Path
    deployment: Deployment
    host: PtyHost
    server: trio.Process
    nursery: trio.Nursery
    callers: dict[str, Caller] = field(default_factory=dict)
    terminal: Terminal | None = None  # of who is interactive
    forwarded: trio.SocketStream | None = None
    used: int = 0
    descriptors: int = 0

    def guest(self) -> Guest:
        self.used += 1
        return Guest(self.folder, KEYS[self.used - 1], self.deployment.url)

    @asynccontextmanager
    async def call(self, name: str, *arguments: str) -> AsyncIterator[Caller]:
        """Start the CLI; what it prints is left to the caller."""
        async with cli_running(*arguments, discovery=self.deployment.url, stdin=-1) as process:
            yield self.note(name, process)

    def note(self, name: str, process: trio.Process) -> Caller:
        caller = self.callers[name] = Caller(name, process, Log(name))
        if process.stderr is not None:
            self.nursery.start_soon(caller.said.read, process.stderr)
        return caller

    async def enter(self, phase: Phase) -> None:
        """Have somebody in a phase until the end."""
        await self.nursery.start(self._stay, phase)

    async def _stay(self, phase: Phase, *, task_status: trio.TaskStatus[None]) -> None:
        async with phase(self):
            task_status.started()
            await trio.sleep_forever()

    # ---- afterwards ----

    def processes(self) -> list[int]:
        """All that runs for others."""
        sessions = set(self.host.children())
        return [pid for pid in numbers() if session_of(pid) in sessions]

    async def nothing_is_left(self) -> None:
        """See that the host is as it was, and has no sessions."""

        async def look() -> bool:
            await trio.lowlevel.checkpoint()
            return self.host.children() == [] and self.host.descriptors() <= self.descriptors

        assert await answered(look, within=PATIENCE), (self.processes(), self.host.descriptors())

    async def output_ends(self, name: str) -> None:
        """Read what a caller has to say, to its end."""
        output = self.callers[name].process.stdout
        assert output is not None
        async for _ in output:
            pass


def numbers() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


@asynccontextmanager
async def scene(
    folder: Path, *phases: Phase, busy: Sequence[Phase] = (), keep: float = KEEP
) -> AsyncIterator[Scene]:
    deployment = Deployment(folder)
    allowed = [key.pk for key in KEYS]
    async with (
        deployment.discovery(),
        deployment.server() as server,
        registered(folder, deployment, *allowed, keep_time=keep) as host,
        trio.open_nursery() as nursery,
    ):
        everything = Scene(folder, deployment, host, server, nursery)
        # What a host needs for its first session, a thread for one thing, stays.
        assert (await everything.guest().cli(str(host.pk), "true")).code == 0
        everything.descriptors = host.descriptors()
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as entering:
                for phase in phases:
                    entering.start_soon(everything.enter, phase)
            async with trio.open_nursery() as entering:
                for phase in busy:
                    entering.start_soon(everything.enter, phase)
        yield everything
        nursery.cancel_scope.cancel()


# ---- the phases ----

Phase: TypeAlias = Callable[[Scene], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def half_way(scene: Scene) -> AsyncIterator[None]:
    """Within the request line, behind it, within the first frame and behind that."""
    guest = scene.guest()
    process = await trio.lowlevel.open_process(
        [
            *(sys.executable, "-m", "tests.end_to_end.half_way", guest.discovery),
            *(guest.key.reveal().hex(), str(scene.host.pk)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        assert await line_of(process.stdout) == b"there\n"
        scene.note("half-way", process)
        yield
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        await trio.aclose_forcefully(process.stdout)


@asynccontextmanager
async def interactive(scene: Scene) -> AsyncIterator[None]:
    guest = scene.guest()
    async with cli_on_terminal(
        *guest.options, str(scene.host.pk), discovery=guest.discovery
    ) as terminal:
        await terminal.shows(PROMPT)
        await terminal.type("sleep 1000 & echo $((6*7))\r")
        await terminal.shows("42")
        scene.note("interactive", terminal.process)
        scene.terminal = terminal
        yield


@asynccontextmanager
async def attached_again(scene: Scene) -> AsyncIterator[None]:
    guest, host = scene.guest(), str(scene.host.pk)
    async with cli_on_terminal(*guest.options, host, discovery=guest.discovery) as terminal:
        await terminal.shows(PROMPT)
        await terminal.type("~d")
        await terminal.shows("[detached: the session goes on]")
        await terminal.exit_code()
    (line,) = (await guest.cli("ls", host)).lines
    async with cli_on_terminal(
        "attach", *guest.options, line.split()[0], host, discovery=guest.discovery
    ) as terminal:
        await terminal.type("\recho $((6*7))\r")
        await terminal.shows("42")
        scene.note("attached again", terminal.process)
        scene.terminal = terminal
        yield


@asynccontextmanager
async def detached(scene: Scene) -> AsyncIterator[None]:
    guest, host = scene.guest(), str(scene.host.pk)
    async with cli_on_terminal(*guest.options, host, discovery=guest.discovery) as terminal:
        await terminal.shows(PROMPT)
        await terminal.type("~d")
        await terminal.exit_code()
    yield


@asynccontextmanager
async def pending(scene: Scene) -> AsyncIterator[None]:
    """More output than anybody reads."""
    command = "sh", "-c", "echo $$; exec yes"
    async with scene.call(
        "pending", *scene.guest().options, str(scene.host.pk), *command
    ) as caller:
        assert caller.process.stdout is not None
        await line_of(caller.process.stdout)
        yield


@asynccontextmanager
async def copying(scene: Scene, *, up: bool) -> AsyncIterator[None]:
    name = "copy there" if up else "copy here"
    source, target = scene.folder / f"source of {name}", scene.folder / f"target of {name}"
    target.mkdir()
    source.touch()
    os.truncate(source, FILE_SIZE)
    paths = str(source), f"{scene.host.pk}:{target}"
    if not up:
        paths = f"{scene.host.pk}:{source}", str(target)

    async def has_begun() -> bool:
        await trio.lowlevel.checkpoint()
        return any(path.stat().st_size for path in target.iterdir())

    try:
        async with scene.call(name, "cp", "-q", *scene.guest().options, *paths):
            assert await answered(has_begun, within=PATIENCE)
            yield
    finally:
        shutil.rmtree(target)


@asynccontextmanager
async def dialing(scene: Scene) -> AsyncIterator[None]:
    """Before the host has answered; it is stopped for that."""
    scene.host.process.send_signal(signal.SIGSTOP)
    log = "--log-level", "info"
    async with scene.call(
        "dialing", *scene.guest().options, *log, "-W", "5", str(scene.host.pk), "sleep", "1000"
    ) as caller:
        await caller.said.said("session with server")
        caller.said.text = ""
        yield


@asynccontextmanager
async def forwarding(scene: Scene) -> AsyncIterator[None]:
    async def echo(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(trio.BrokenResourceError):  # a connection that is lost is reset
                async for data in stream:
                    await stream.send_all(data)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    target = listeners[0].socket.getsockname()[1]
    spec = f"0:127.0.0.1:{target}"
    async with (
        open_service_nursery() as nursery,
        scene.call("-L", *scene.guest().options, "-N", "-L", spec, str(scene.host.pk)) as caller,
    ):
        nursery.start_soon(trio.serve_listeners, echo, listeners)
        port = await caller.said.said(r"127\.0\.0\.1:(\d+) here leads")
        async with await trio.open_tcp_stream("127.0.0.1", int(port)) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
            scene.forwarded = stream
            yield


COPIES = partial(copying, up=True), partial(copying, up=False)

# ---- who dies ----


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_clients_that_die_leave_nothing(tmp_path: Path, how: signal.Signals) -> None:
    phases = half_way, interactive, attached_again, pending, forwarding
    async with scene(tmp_path, *phases, busy=COPIES) as there:
        assert len(there.host.children()) == 4
        for caller in there.callers.values():
            caller.process.send_signal(how)
        with trio.fail_after(PATIENCE):
            for caller in there.callers.values():
                code = await caller.process.wait()
                assert code == -how if caller.name == "half-way" else code in (-how, 128 + how)
                assert caller.lines == []
        await there.nothing_is_left()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_host_that_dies_leaves_nothing_and_tells_all(
    tmp_path: Path, how: signal.Signals
) -> None:
    phases = half_way, interactive, detached, pending, forwarding
    # Who is asked to end says how the commands ended: by the hangup, or by writing to nobody.
    ended = {OWN_FAILURE} if how is signal.SIGKILL else {128 + signal.SIGHUP, 128 + signal.SIGPIPE}
    async with scene(tmp_path, *phases, busy=COPIES) as there:
        processes = there.processes()
        assert len(processes) == 6
        there.host.process.send_signal(how)
        with trio.fail_after(PATIENCE):
            await there.output_ends("pending")
            for name in "interactive", "pending":
                assert await there.callers[name].process.wait() in ended
            for name in "copy there", "copy here":
                assert await there.callers[name].process.wait() == OWN_FAILURE
            lines = {name: len(caller.lines) for name, caller in there.callers.items()}
            assert lines["copy there"] == lines["copy here"] == 1
            assert lines["pending"] == (how is signal.SIGKILL)
            assert there.forwarded is not None
            with suppress(trio.BrokenResourceError):
                assert await there.forwarded.receive_some() == b""

            async def are_gone() -> bool:
                await trio.lowlevel.checkpoint()
                return not any(lives(pid) for pid in processes)

            assert await answered(are_gone, within=PATIENCE)


async def test_a_server_that_dies_ends_nothing_that_can_go_on(tmp_path: Path) -> None:
    """It dies once more while others are about to be back."""
    phases = half_way, interactive, detached, pending, forwarding
    async with scene(tmp_path, *phases, busy=COPIES, keep=PATIENCE) as there:
        processes = there.processes()
        terminal, output = there.terminal, there.callers["pending"].process.stdout
        assert terminal is not None
        assert output is not None
        there.server.kill()
        await there.server.wait()
        await terminal.shows("connection lost, trying again")
        async with there.deployment.server() as second:
            await terminal.shows("is back")
            second.kill()
            await terminal.shows("connection lost, trying again")
        async with there.deployment.server():
            await terminal.shows("is back")
            await terminal.type("echo $((7*8))\r")
            await terminal.shows("56")
            with trio.fail_after(PATIENCE):
                for name in "copy there", "copy here":
                    caller = there.callers[name]
                    assert await caller.process.wait() == OWN_FAILURE
                    (line,) = caller.lines
                    assert line.startswith("error: the connection was lost")
                said = b""
                while len(said) < 2_000_000:
                    said += await output.receive_some()
                assert said == len(said) // 2 * b"y\n" + b"y"[: len(said) % 2]
            assert there.processes() == processes


@pytest.mark.parametrize("victim", ["client", "host", "server"])
async def test_who_dies_while_a_client_dials_leaves_nothing(tmp_path: Path, victim: str) -> None:
    async with scene(tmp_path, busy=[dialing]) as there:
        caller = there.callers["dialing"]
        pids = {
            "client": caller.process.pid,
            "host": there.host.process.pid,
            "server": there.server.pid,
        }
        os.kill(pids[victim], signal.SIGKILL)
        there.host.process.send_signal(signal.SIGCONT)
        with trio.fail_after(PATIENCE):
            code = await caller.process.wait()
        assert code == (-signal.SIGKILL if victim == "client" else OWN_FAILURE)
        errors = [line for line in caller.lines if line.startswith("error: ")]
        assert len(errors) == (victim != "client")
        if victim != "host":
            await there.nothing_is_left()


@pytest.mark.parametrize("victim", ["client", "host"])
async def test_who_dies_while_a_client_comes_back_leaves_nothing(
    tmp_path: Path, victim: str
) -> None:
    async with scene(tmp_path, interactive) as there:
        assert there.terminal is not None
        processes = there.processes()
        there.server.kill()
        await there.terminal.shows("connection lost, trying again")
        process = there.callers["interactive"].process
        (process if victim == "client" else there.host.process).send_signal(signal.SIGKILL)
        with trio.fail_after(PATIENCE):
            assert await process.wait() == (OWN_FAILURE if victim == "host" else -signal.SIGKILL)

        async def are_gone() -> bool:
            await trio.lowlevel.checkpoint()
            return not any(lives(pid) for pid in processes)

        assert await answered(are_gone, within=PATIENCE)
