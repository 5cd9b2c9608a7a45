"""The process that ends the sessions of a host which cannot do that any more."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trio

from dmsg_trio.apps.pty.process import (
    Command,
    Exit,
    _guarding,
    login_environment,
    open_guardian,
    open_process_on_pipes,
)
from dmsg_trio.apps.pty.process._guardian import begun, end, ended, is_alive, listen, start_of
from dmsg_trio.apps.pty.process._guarding import Guardian
from tests.waiting import PATIENCE, answered, hearing

if TYPE_CHECKING:
    from dmsg_trio.apps.pty.process._guardian import Sessions

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")

NOBODY: Final = 2**30  # more than there are numbers of processes
LOGGER: Final = _guarding.logger.name


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    files = os.listdir("/dev/fd")
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert len(os.listdir("/dev/fd")) == len(files)


@contextmanager
def session(script: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script as the leader of a session that says when it is ready."""
    with subprocess.Popen(
        ["sh", "-c", f"{script} echo; exec sleep 1000"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def known(*processes: subprocess.Popen[bytes]) -> Sessions:
    return {(each.pid, start_of(each.pid)): {each.pid} for each in processes}


# ---- what the process does ----


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_is_begun_and_not_ended_is_left(size: int) -> None:
    said = begun(7, 100, 7) + begun(8, 101, 8) + begun(7, 100, 9) + ended(8, 101) + ended(5, 99)
    near, far = os.pipe()
    for start in range(0, len(said), size):
        os.write(far, said[start : start + size])
    os.close(far)
    assert listen(near) == {(7, 100): {7, 9}}
    os.close(near)


def test_a_word_that_the_host_died_in_is_left_out() -> None:
    near, far = os.pipe()
    os.write(far, begun(7, 100, 7) + begun(8, 101, 8)[:-1])
    os.close(far)
    assert listen(near) == {(7, 100): {7}}
    os.close(near)


def test_a_session_is_hung_up_on_and_who_ignores_that_is_killed() -> None:
    with session("") as docile, session("trap '' HUP;") as stubborn:
        end(known(docile, stubborn), grace=0.2)
        assert docile.wait() == -signal.SIGHUP
        assert stubborn.wait() == -signal.SIGKILL


def test_a_stopped_session_is_hung_up_on() -> None:
    with session("") as stopped:
        stopped.send_signal(signal.SIGSTOP)
        end(known(stopped))
        assert stopped.wait() == -signal.SIGHUP


def test_nobody_who_got_the_number_later_is_meant() -> None:
    with session("") as stranger:
        ((leader, started),) = known(stranger)
        end({(leader, started - 1): {leader}, (NOBODY, 1): {NOBODY}})
        assert stranger.poll() is None


def test_what_outlives_its_leader_is_found() -> None:
    with session("trap '' HUP; sleep 1000 >/dev/null &") as process:
        sessions = known(process)
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        process.wait()
        assert is_alive(int(child))
        end(sessions, grace=0.1)
        assert not is_alive(int(child))


# ---- what the host does for it ----


def guardian() -> Guardian:
    found = _guarding._current.get()
    assert found is not None
    return found


def number() -> int:
    process = guardian()._process
    assert process is not None
    return process.pid


def let_the_host_die() -> None:
    """Close the channel, as the system does then."""
    channel = guardian()._channel
    assert channel is not None
    channel.close()


async def test_it_ends_what_runs_and_nothing_that_has_ended() -> None:
    async with open_guardian():
        async with open_process_on_pipes(command("exec cat")) as process:
            async with open_process_on_pipes(command("exit 3")) as ended_before:
                assert await ended_before.wait() == Exit(code=3)
            assert {leader for leader, _ in guardian()._sessions} == {process.pid}
            let_the_host_die()
            assert await process.wait() == Exit(signal="HUP")


async def test_it_has_nothing_of_the_host_and_does_not_mind_its_signals() -> None:
    async with open_guardian():
        pid = number()
        assert os.getsid(pid) == pid
        for which in signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT:

            async def is_ignored(which: signal.Signals = which) -> bool:
                await trio.lowlevel.checkpoint()
                return bool(ignored(pid) >> (which - 1) & 1)

            assert await answered(is_ignored, within=PATIENCE)
            os.kill(pid, which)
        files = os.listdir(f"/proc/{pid}/fd")
        places = [os.readlink(f"/proc/{pid}/fd/{number}") for number in files]
        assert sorted(places)[:3] == ["/dev/null"] * 3
        assert len(places) == 4  # and the channel
        assert await trio.Path(f"/proc/{pid}/environ").read_bytes() == b""
        assert is_alive(pid)
    assert not is_alive(pid)


def ignored(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("SigIgn:")[2].split()[0], 16)


async def test_one_that_is_killed_is_replaced_by_one_that_knows_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_guarding, "LASTED", 0)
    with hearing(LOGGER) as log:
        async with open_guardian(), open_process_on_pipes(command("exec cat")) as process:
            first = number()
            os.kill(first, signal.SIGKILL)
            await log.said(r"ended \(-9\), starting another")
            assert number() != first
            let_the_host_die()
            assert await process.wait() == Exit(signal="HUP")


async def test_one_that_does_not_listen_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guarding, "LASTED", 0)
    with hearing(LOGGER) as log:
        async with open_guardian():
            first = number()
            os.kill(first, signal.SIGSTOP)
            while "does not listen" not in log.text:
                guardian().note(NOBODY, 1, NOBODY)
            guardian().forget(NOBODY, 1)
            await log.said(r"starting another")
            assert number() != first


async def test_a_machine_that_has_no_room_for_it_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    popen = subprocess.Popen

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", full)
    with hearing(LOGGER) as log:
        async with open_guardian():
            await log.said("have no guardian.*temporarily unavailable")
            monkeypatch.setattr(subprocess, "Popen", popen)
            async with open_process_on_pipes(command("exec cat")) as process:

                async def look() -> bool:
                    await trio.lowlevel.checkpoint()
                    return guardian()._process is not None

                assert await answered(look, within=PATIENCE)
                let_the_host_die()
                assert await process.wait() == Exit(signal="HUP")


def command(script: str) -> Command:
    environment = login_environment(None, term=None, extra={})
    return Command(argv=("/bin/sh", "-c", script), environment=environment)
