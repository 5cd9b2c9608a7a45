"""A host that is killed, and what it ran for others: nothing of that is left."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from dmsg_trio.apps.pty.process import GRACE
from tests.cli.pty_programs import (
    PROMPT,
    PtyHost,
    cli,
    cli_on_terminal,
    cli_running,
    is_guardian,
    lives,
    pty_host,
)
from tests.cli.running import line_of
from tests.waiting import PATIENCE, answered

pytestmark = pytest.mark.network

SPARE = 2  # seconds beyond the grace time
DOCILE = {
    "a command that waits": "echo $$; exec sleep 1000",
    "a job": "sleep 1000 >/dev/null & echo $!; exec sleep 1000",
    "a job in a group of its own": "set -m; sleep 1000 >/dev/null & echo $!; exec sleep 1000",
    "a stopped job": "set -m; sleep 1000 & kill -STOP $!; echo $!; exec sleep 1000",
}
STUBBORN = {
    "a command that ignores the hangup": "trap '' HUP; echo $$; exec sleep 1000",
    "nohup": "nohup sleep 1000 >/dev/null 2>&1 & echo $!; exec sleep 1000",
    "a child of nobody": "(trap '' HUP; sleep 1000 >/dev/null & echo $!); exec sleep 1000",
    "one that forks when it is told to end": "trap 'sleep 1000 &' HUP; echo $$; sleep 1000 & wait; wait",
}


class Watched:
    """Processes that are waited for by a handle, so that no number can come round."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._handles: dict[int, int] = {}
        self._stack = stack

    def add(self, *pids: int) -> None:
        for pid in pids:
            handle = os.pidfd_open(pid)
            self._stack.callback(os.close, handle)
            self._handles[pid] = handle

    async def are_gone_within(self, seconds: float) -> bool:
        """Wait for the end of all."""
        with trio.move_on_after(seconds):
            for handle in self._handles.values():
                await trio.lowlevel.wait_readable(handle)
            return True
        return False


async def started(stack: AsyncExitStack, host: PtyHost, *arguments: str) -> int:
    """Have a script run there; give the number that it tells."""
    process = await stack.enter_async_context(
        cli_running(*host.local, "--no-resume", *arguments, stdin=-1)
    )
    assert process.stdout is not None
    with trio.fail_after(PATIENCE):
        return int(await line_of(process.stdout))


def members(session: int) -> list[int]:
    return [
        pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if sid(pid) == session
    ]


def sid(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


@pytest.mark.parametrize("terminal", ["-t", "-T"])
async def test_all_that_it_ran_is_hung_up_on(tmp_path: Path, terminal: str) -> None:
    with pty_host(tmp_path / "host") as host:
        async with AsyncExitStack() as stack:
            watched = Watched(stack)
            for script in DOCILE.values():
                pid = await started(stack, host, terminal, "--", "sh", "-c", script)
                watched.add(*members(os.getsid(pid)))
            watched.add(host.guardian())
            host.process.kill()
            assert await watched.are_gone_within(GRACE)  # nobody had to be killed


async def test_what_ignores_that_is_killed(tmp_path: Path) -> None:
    sessions = set()
    with pty_host(tmp_path / "host") as host:
        async with AsyncExitStack() as stack:
            watched = Watched(stack)
            for terminal in "-t", "-T":
                for script in STUBBORN.values():
                    pid = await started(stack, host, terminal, "--", "sh", "-c", script)
                    watched.add(*members(os.getsid(pid)))
                    sessions.add(os.getsid(pid))
            watched.add(host.guardian())
            host.process.kill()
            began = trio.current_time()
            assert await watched.are_gone_within(GRACE + SPARE)
            assert trio.current_time() - began > GRACE - SPARE
    assert not [pid for session in sessions for pid in members(session) if lives(pid)]


async def test_a_shell_and_what_runs_in_it_are_gone(tmp_path: Path) -> None:
    with pty_host(tmp_path / "host") as host:
        async with AsyncExitStack() as stack:
            watched = Watched(stack)
            async with cli_on_terminal(*host.local, "--no-resume") as terminal:
                await terminal.shows(PROMPT)
                await terminal.type("(trap '' HUP; exec sleep 1000) & sleep 1000\r")

                async def runs() -> bool:
                    await trio.lowlevel.checkpoint()
                    return len(all_of(host)) == 3

                assert await answered(runs, within=PATIENCE)
                watched.add(*all_of(host), host.guardian())
                host.process.kill()
                assert await watched.are_gone_within(GRACE + SPARE)


def all_of(host: PtyHost) -> list[int]:
    return [pid for child in host.children() for pid in members(child)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs shells of others")
async def test_shells_of_another_user_are_gone(tmp_path: Path) -> None:
    """The guardian keeps the rights of the host."""
    with pty_host(tmp_path / "host", user="nobody", shell="/bin/sh") as host:
        async with AsyncExitStack() as stack:
            watched = Watched(stack)
            script = "trap '' HUP; echo $$; exec sleep 1000"
            pid = await started(stack, host, "-T", "--", "sh", "-c", script)
            assert (await trio.Path(f"/proc/{pid}").stat()).st_uid != 0
            watched.add(pid)
            host.process.kill()
            assert await watched.are_gone_within(GRACE + SPARE)


async def test_a_guardian_that_was_killed_has_a_successor(tmp_path: Path) -> None:
    with pty_host(tmp_path / "host") as host:
        async with AsyncExitStack() as stack:
            watched = Watched(stack)
            script = "echo $$; exec sleep 1000"
            watched.add(await started(stack, host, "-T", "--", "sh", "-c", script))
            first = host.guardian()
            os.kill(first, signal.SIGKILL)

            async def has_another() -> bool:
                await trio.lowlevel.checkpoint()
                return any(is_guardian(pid) for pid in host.everybody() if pid != first)

            assert await answered(has_another, within=PATIENCE)
            assert "guardian of the shells ended (-9)" in (host.folder / "log").read_text()
            watched.add(host.guardian())
            host.process.kill()
            assert await watched.are_gone_within(GRACE)


async def test_a_host_that_ends_in_good_order_takes_its_guardian_along(tmp_path: Path) -> None:
    with pty_host(tmp_path / "host") as host:
        assert (await cli(*host.local, "--", "true")).code == 0
        async with AsyncExitStack() as stack:
            watched = Watched(stack)
            watched.add(host.guardian())
            host.process.terminate()
            assert await watched.are_gone_within(PATIENCE)
        assert await trio.to_thread.run_sync(host.process.wait, PATIENCE) == 0
