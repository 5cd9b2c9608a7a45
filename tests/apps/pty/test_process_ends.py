"""The end of a command: whatever happened before, nothing of it is left."""

from __future__ import annotations

import os
import random
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dmsg_trio._wire.pty import WindowSize
from dmsg_trio.apps.pty.process import (
    GRACE,
    Command,
    Exit,
    PipedProcess,
    StartError,
    TerminalProcess,
    _child,
    login_environment,
    open_process_on_pipes,
    open_process_on_terminal,
)
from dmsg_trio.apps.pty.process._system import is_somebody_left

ON_LINUX: Final = Path("/proc/self/stat").exists()
CYCLES: Final = int(os.environ.get("PTY_CYCLES", "40"))  # 1000 once in a while
PATIENCE: Final = 60  # seconds
SIZE: Final = WindowSize(24, 80)
ENVIRONMENT: Final = login_environment(None, term="xterm", extra={})

LOGIN: Final = Command(environment=ENVIRONMENT | {"HOME": "/"})  # without anybody's profile


def shell(script: str) -> Command:
    return Command(argv=("/bin/sh", "-c", script), environment=ENVIRONMENT)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """No child, zombies included, no descriptor, and no process in a session that was ours."""
    files = open_files()
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert open_files() == files


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


def is_alive(pid: int) -> bool:
    """Tell if a process runs: one whose parent is slow to reap it does not."""
    if ON_LINUX:
        try:
            return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] not in b"ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def read_number(process: TerminalProcess | PipedProcess) -> int:
    """Read what the script tells first: the number of some process."""
    said = b""
    while not said.endswith(b"\n"):
        piece = await process.read()
        assert piece
        said += piece if isinstance(piece, bytes) else piece[1]
    return int(said.split()[-1])


async def test_leaving_the_block_hangs_up_on_a_shell_and_its_job() -> None:
    async with open_process_on_terminal(shell("sleep 1000 & echo $!; wait"), SIZE) as process:
        job = await read_number(process)
        pid = process.pid
        since = trio.current_time()
    assert trio.current_time() - since < GRACE  # nobody had to be killed
    assert not is_alive(pid)
    assert not is_alive(job)


async def test_a_group_in_the_background_is_hung_up_on() -> None:
    # `set -m` gives each job its own process group, as in an interactive shell.
    script = "set -m; sleep 1000 & echo $!; exec sleep 1000"
    async with open_process_on_terminal(shell(script), SIZE) as process:
        job = await read_number(process)
        assert os.getpgid(job) == job != process.pid
    assert not is_alive(job)


async def test_a_stopped_job_is_hung_up_on() -> None:
    script = "set -m; sleep 1000 & kill -STOP $!; echo $!; exec sleep 1000"
    async with open_process_on_terminal(shell(script), SIZE) as process:
        job = await read_number(process)
        since = trio.current_time()
    assert trio.current_time() - since < GRACE
    assert not is_alive(job)


@pytest.mark.skipif(not ON_LINUX, reason="elsewhere background groups cannot be found")
async def test_what_ignores_the_hang_up_is_killed_after_the_grace_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end = _child.Child.end
    monkeypatch.setattr(end, "__kwdefaults__", {**(end.__kwdefaults__ or {}), "grace": 0.3})
    ignores = "trap '' HUP; {} sleep 1000 >/dev/null 2>&1 & echo $!; exec sleep 1000"
    for opened in (
        open_process_on_terminal(shell(ignores.format("set -m;")), SIZE),
        open_process_on_pipes(shell(ignores.format(""))),
    ):
        async with opened as process:
            job, pid = await read_number(process), process.pid
            since = trio.current_time()
        assert trio.current_time() - since >= 0.3
        assert not is_alive(job)
        assert not is_alive(pid)


async def test_what_is_left_behind_by_a_command_that_ended_is_hung_up_on() -> None:
    async with open_process_on_pipes(shell("sleep 1000 >/dev/null 2>&1 & echo $!")) as process:
        job = await read_number(process)
        assert await process.wait() == Exit(code=0)
        assert is_alive(job)
    assert not is_alive(job)


@pytest.mark.skipif(not ON_LINUX, reason="setsid is a program of Linux")
async def test_a_daemon_with_a_session_of_its_own_goes_on(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    script = f"setsid sh -c 'echo $$ > {told}.new; mv {told}.new {told}; exec sleep 1000' & wait"
    async with open_process_on_terminal(shell(script), SIZE):
        with trio.fail_after(PATIENCE):
            while not await trio.Path(told).exists():  # noqa: ASYNC110  it has no way to tell
                await trio.sleep(0.01)
    daemon = int(told.read_text())
    assert is_alive(daemon)
    os.kill(daemon, signal.SIGKILL)


async def test_hanging_up_ends_what_reads_and_tells_the_exit() -> None:
    async with (
        open_process_on_terminal(shell("sleep 1000"), SIZE) as terminal,
        open_process_on_pipes(shell("sleep 1000")) as piped,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(read_to_the_end, terminal)
        nursery.start_soon(read_to_the_end, piped)
        await wait_all_tasks_blocked()
        for process in (terminal, piped):
            assert await process.hang_up() == Exit(signal="HUP")
            assert await process.wait() == await process.hang_up() == Exit(signal="HUP")
            assert not is_alive(process.pid)
            with pytest.raises(trio.BrokenResourceError):
                await process.write(b"x")
            process.signal(signal.SIGTERM)  # to nobody
        terminal.resize(SIZE)


async def read_to_the_end(process: TerminalProcess | PipedProcess) -> None:
    while await process.read():
        pass


async def test_who_writes_hears_of_the_end_before_its_pipe_breaks() -> None:
    for _ in range(20):
        async with open_process_on_pipes(shell("exec yes")) as process:
            assert await process.read()
            assert await process.hang_up() == Exit(signal="HUP")


async def test_an_error_in_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_process_on_terminal(shell("sleep 1000"), SIZE):
            raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        async with open_process_on_pipes(shell("sleep 1000")):
            raise ZeroDivisionError


async def test_a_command_that_cannot_start_leaves_nothing() -> None:
    for _ in range(3):
        with pytest.raises(StartError):
            async with open_process_on_terminal(
                Command(argv=("/nonexistent",), environment={}), SIZE
            ):
                pass
        with pytest.raises(StartError):
            async with open_process_on_pipes(
                Command(argv=("true",), environment={}, user="no one")
            ):
                pass


async def test_a_machine_without_free_descriptors_starts_nothing_and_keeps_nothing() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    await trio.to_thread.run_sync(os.getpid)  # so that the thread is there
    free = os.dup(0)
    os.close(free)
    outcomes: list[str] = []
    for spare in range(1, 24):
        for opened in (
            open_process_on_terminal(shell("exec cat"), SIZE),
            open_process_on_pipes(shell("exec cat")),
        ):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare, hard))
            try:
                async with opened:
                    outcomes.append("started")
            except StartError as error:
                outcomes.append(str(error))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert outcomes[0] == "open a terminal: Too many open files"
    assert outcomes[-1] == "started"


@pytest.mark.parametrize("command", [shell("cat"), shell("yes"), LOGIN])
async def test_a_cancel_at_any_moment_leaves_nothing(command: Command) -> None:
    """Around the time that a start takes, and a little beyond."""
    for milliseconds in range(0, 60, 3):
        with trio.move_on_after(milliseconds / 1000):
            async with open_process_on_terminal(command, SIZE) as process:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(read_to_the_end, process)
                    await process.write(bytes(1_000_000))
        with trio.move_on_after(milliseconds / 1000):
            async with open_process_on_pipes(command) as piped:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(read_to_the_end, piped)
                    await piped.write(bytes(1_000_000))


async def test_cycles_with_kills_at_random_leave_nothing() -> None:
    chance = random.Random(0)
    tasks = trio.lowlevel.current_statistics().tasks_living
    limit = trio.CapacityLimiter(4)
    ended: list[Exit] = []
    async with trio.open_nursery() as nursery:
        for _ in range(CYCLES):
            nursery.start_soon(live_a_while, chance, limit, ended)
    assert len(ended) == CYCLES
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def live_a_while(
    chance: random.Random, limit: trio.CapacityLimiter, ended: list[Exit]
) -> None:
    script = "sleep 1000 & (sleep 1000; true) & echo said; exec cat"
    on_terminal = open_process_on_terminal(shell(script), SIZE)
    on_pipes = open_process_on_pipes(shell(script))
    async with limit:
        async with on_terminal if chance.random() < 0.7 else on_pipes as process:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kill_after, chance.random() / 20, process.pid)
                with trio.move_on_after(chance.random() / 10):
                    while await process.read():
                        pass
                if chance.random() < 0.5:
                    await process.wait()
                nursery.cancel_scope.cancel()
        ended.append(await process.wait())
        assert not is_somebody_left(process.pid, {process.pid})


async def kill_after(seconds: float, pid: int) -> None:
    await trio.sleep(seconds)
    os.kill(pid, signal.SIGKILL)


async def test_many_start_at_once() -> None:
    count = 60
    all_started = trio.Event()
    pids: list[int] = []

    async def start() -> None:
        async with open_process_on_terminal(shell("exec cat"), SIZE) as process:
            pids.append(process.pid)
            if len(pids) == count:
                all_started.set()
            await all_started.wait()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(start)
    assert len(set(pids)) == count
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.skipif(not ON_LINUX, reason="an old Linux is meant")
async def test_an_exit_is_seen_on_a_linux_without_handles_of_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(pid: int) -> int:
        raise OSError(f"no such call for {pid}")

    monkeypatch.setattr(os, "pidfd_open", missing)
    async with open_process_on_pipes(shell("exit 5")) as process:
        assert await process.wait() == Exit(code=5)
    async with open_process_on_pipes(shell("sleep 1000")) as process:
        pass
    assert not is_alive(process.pid)
