"""A command on a terminal or on pipes: what it is given, and what comes of what it does."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import trio

from dmsg_trio._wire.pty import WindowSize
from dmsg_trio.apps.pty.process import (
    LINGER,
    Command,
    Exit,
    OutputKind,
    PipedProcess,
    StartError,
    TerminalProcess,
    login_environment,
    open_process_on_pipes,
    open_process_on_terminal,
)

PATIENCE: Final = 30  # seconds for what a command should do at once
USUAL_SIZE: Final = WindowSize(24, 80)
IS_ROOT: Final = os.geteuid() == 0
EVERY_BYTE: Final = bytes(range(256))


def shell(script: str, *arguments: str, user: str | None = None) -> Command:
    environment = login_environment(user, term="xterm", extra={})
    return Command(
        argv=("/bin/sh", "-c", script, "sh", *arguments), environment=environment, user=user
    )


@asynccontextmanager
async def on_terminal(
    command: Command | str, size: WindowSize = USUAL_SIZE
) -> AsyncIterator[TerminalProcess]:
    command = shell(command) if isinstance(command, str) else command
    with trio.fail_after(PATIENCE):
        async with open_process_on_terminal(command, size) as process:
            yield process


@asynccontextmanager
async def on_pipes(command: Command | str) -> AsyncIterator[PipedProcess]:
    command = shell(command) if isinstance(command, str) else command
    with trio.fail_after(PATIENCE):
        async with open_process_on_pipes(command) as process:
            yield process


async def read_until(process: TerminalProcess, text: bytes) -> bytes:
    said = b""
    while text not in said:
        piece = await process.read()
        assert piece, f"it ended before {text!r}: {said!r}"
        said += piece
    return said


async def read_all(process: TerminalProcess) -> bytes:
    said = b""
    while piece := await process.read():
        said += piece
    return said


async def read_both(process: PipedProcess) -> tuple[bytes, bytes]:
    said = dict.fromkeys(OutputKind, b"")
    while (piece := await process.read()) is not None:
        kind, data = piece
        said[kind] += data
    return said[OutputKind.OUTPUT], said[OutputKind.ERRORS]


async def output_of(command: Command | str) -> str:
    async with on_pipes(command) as process:
        await process.end_input()
        output, errors = await read_both(process)
        assert errors == b""
        return output.decode()


# ---- what it is given ----


async def test_a_command_on_a_terminal_leads_a_session_with_the_terminal_and_its_size() -> None:
    script = 'stty size; ps -o pid=,sid=,pgid=,tpgid= -p $$; tty; exec 3</dev/tty && echo "has $$"'
    async with on_terminal(script, WindowSize(30, 100)) as process:
        lines = (await read_all(process)).decode().split("\r\n")
        assert await process.wait() == Exit(code=0)
    assert lines[0] == "30 100"
    assert {int(number) for number in lines[1].split()} == {process.pid}
    assert lines[2].startswith("/dev/")
    assert lines[3] == f"has {process.pid}"


async def test_backspace_takes_a_whole_character() -> None:
    async with on_terminal("stty -echo; echo ready; head -n 1") as process:
        assert await process.read() == b"ready\r\n"
        await process.write("aé\x7f日\x7fb\n".encode())
        assert await read_all(process) == b"ab\r\n"


LIST_FILES: Final = """
import os, sys
for number in range(1024):
    try:
        os.fstat(number)
    except OSError:
        continue
    print(number)
"""


async def test_no_descriptor_is_inherited_but_the_first_three() -> None:
    with open(os.devnull) as host_file:  # noqa: ASYNC230
        high = fcntl.fcntl(host_file, fcntl.F_DUPFD, 100)  # and it is inheritable
    argv = (sys.executable, "-I", "-S", "-c", LIST_FILES)
    command = Command(argv=argv, environment={})
    try:
        async with on_terminal(command) as process:
            assert (await read_all(process)).split() == [b"0", b"1", b"2"]
        assert (await output_of(command)).split() == ["0", "1", "2"]
    finally:
        os.close(high)


async def test_nothing_of_the_hosts_environment_is_inherited() -> None:
    os.environ["SECRET_OF_THE_HOST"] = "1"
    try:
        command = Command(argv=("/usr/bin/env",), environment={"A": "1", "Ü": "ö"})
        assert sorted((await output_of(command)).splitlines()) == ["A=1", "Ü=ö"]
    finally:
        del os.environ["SECRET_OF_THE_HOST"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
async def test_signals_are_neither_ignored_nor_blocked() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        command = Command(argv=("cat", "/proc/self/status"), environment={"PATH": "/bin:/usr/bin"})
        status = await output_of(command)
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    values = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    ours = ~(1 << 31 | 1 << 32)  # all but the two that the C library keeps for itself
    assert [int(values[name], 16) & ours for name in ("SigIgn", "SigBlk", "SigCgt")] == [0, 0, 0]


async def test_no_command_is_the_login_shell_at_home(tmp_path: Path) -> None:
    environment = login_environment(None, term=None, extra={})
    home = environment["HOME"]
    (tmp_path / ".profile").write_text("echo profile\n")
    quiet = environment | {"HOME": str(tmp_path)}  # not what this machine's own profile does
    async with on_pipes(Command(environment=quiet)) as process:
        await process.write(b'echo "$0"; pwd; exit 7\n')
        output, _ = await read_both(process)
        assert await process.wait() == Exit(code=7)
    *profile, name, directory = output.decode().splitlines()
    assert profile in (["profile"], [])  # a zsh has another file
    assert name == "-" + Path(environment["SHELL"]).name
    assert os.path.samefile(directory, home)  # noqa: ASYNC240


async def test_a_command_runs_where_it_was_told_and_is_called_as_it_was_told(
    tmp_path: Path,
) -> None:
    command = Command(
        argv=("sh", "-c", 'pwd; ps -o args= -p "$$"'),
        environment={"PATH": os.defpath},
        directory=tmp_path,
        argv0="my-name",
    )
    directory, _, name = (await output_of(command)).partition("\n")
    assert os.path.samefile(directory, tmp_path)  # noqa: ASYNC240
    assert name.startswith("my-name -c")


@pytest.mark.skipif(not IS_ROOT, reason="only root becomes others")
async def test_root_becomes_the_named_user_for_good() -> None:
    script = 'id -un; id -Gn; echo "$USER"; stat -c %U "$(tty)"; echo here > /dev/tty; pwd'
    async with on_terminal(shell(script, user="nobody")) as process:
        lines = (await read_all(process)).decode().split("\r\n")
    assert lines[0] == "nobody"
    assert "root" not in lines[1].split()
    assert lines[2:5] == ["nobody", "nobody", "here"]
    assert lines[5] == "/"  # as its home is not there


async def test_who_is_not_root_becomes_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(StartError, match=r"^only root can run commands as root$"):
        async with on_pipes(shell("true", user="root")):
            pass


async def test_everybody_can_be_named_as_who_they_are() -> None:
    myself = login_environment(None, term=None, extra={})["USER"]
    assert await output_of(shell("id -un", user=myself)) == f"{myself}\n"


@pytest.mark.skipif(not IS_ROOT, reason="only root becomes others")
async def test_another_user_can_open_their_pipes_again() -> None:
    async with on_pipes(shell("echo again > /dev/stderr; id -u", user="nobody")) as process:
        output, errors = await read_both(process)
    assert errors == b"again\n"
    assert int(output) != 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")
@pytest.mark.parametrize("wanted", [False, True])
async def test_new_privileges_are_given_up_when_asked_for(wanted: bool) -> None:
    command = Command(
        argv=("grep", "NoNewPrivs", "/proc/self/status"),
        environment={"PATH": "/bin:/usr/bin"},
        no_new_privileges=wanted,
    )
    assert await output_of(command) == f"NoNewPrivs:\t{int(wanted)}\n"


def test_a_login_environment_takes_only_what_is_harmless() -> None:
    extra = {
        "LC_ALL": "de_DE.UTF-8",
        "COLORTERM": "truecolor",
        "LD_PRELOAD": "/tmp/evil.so",
        "PYTHONPATH": "/tmp",
        "PATH": "/tmp",
        "HOME": "/tmp",
        "LC_ALL=x\nLD_PRELOAD": "/tmp",
        "LANG": "x" * 5000,
        "BASH_ENV": "/tmp/evil",
    }
    plain = login_environment(None, term="xterm-256color", extra={})
    environment = login_environment(None, term="xterm-256color", extra=extra)
    assert environment == plain | {"LC_ALL": "de_DE.UTF-8", "COLORTERM": "truecolor"}
    assert set(plain) == {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "TERM"}


@pytest.mark.parametrize("term", ["../../etc/passwd", "", "a b", "x" * 65, "vt\n"])
def test_a_term_that_names_no_terminal_is_a_dumb_one(term: str) -> None:
    assert login_environment(None, term=term, extra={})["TERM"] == "dumb"


# ---- what cannot be started ----


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("/nonexistent",), "fork/exec /nonexistent: no such file or directory"),
        (("/etc/passwd",), "fork/exec /etc/passwd: permission denied"),
        (("/",), "fork/exec /: permission denied"),
        (("/etc/passwd/x",), "fork/exec /etc/passwd/x: not a directory"),
        (("nonexistent",), 'exec: "nonexistent": executable file not found in $PATH'),
        (("/bin/echo", "x" * 5_000_000), "fork/exec /bin/echo: argument list too long"),
    ],
)
async def test_what_cannot_be_run_is_told_as_the_reference_tells_it(
    argv: tuple[str, ...], text: str
) -> None:
    with pytest.raises(StartError) as caught:
        async with on_terminal(Command(argv=argv, environment={"PATH": os.defpath})):
            pass
    assert str(caught.value) == text
    assert caught.value.number > 0


async def test_a_directory_and_a_user_that_are_not_there_are_told() -> None:
    command = Command(argv=("true",), environment={}, directory=Path("/nonexistent"))
    with pytest.raises(StartError, match=r"^chdir /nonexistent: no such file or directory$"):
        async with on_pipes(command):
            pass
    with pytest.raises(StartError, match=r"^no user 'n o b o d y' on this machine$"):
        async with on_pipes(Command(argv=("true",), environment={}, user="n o b o d y")):
            pass


@pytest.mark.parametrize("word", ["a\0b", "\ud800"])
def test_words_that_no_system_takes_make_no_command(word: str) -> None:
    with pytest.raises(StartError, match="not a word"):
        Command(argv=("echo", word), environment={})
    with pytest.raises(StartError, match="not a word"):
        Command(argv0=word, environment={})
    with pytest.raises(StartError, match="not a word"):
        Command(environment={"A": word})


# ---- bytes ----


async def test_every_byte_passes_a_raw_terminal_both_ways() -> None:
    async with on_terminal("stty raw -echo; echo ready; cat") as process:
        await read_until(process, b"ready\n")
        await process.write(EVERY_BYTE + "grüße 你好 🙂".encode())
        said = await read_until(process, "🙂".encode())
        assert said == EVERY_BYTE + "grüße 你好 🙂".encode()


async def test_every_byte_passes_pipes_and_the_outputs_stay_apart() -> None:
    async with on_pipes("echo problem >&2; cat") as process:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.write, EVERY_BYTE * 4096)
            output = b""
            errors = b""
            while len(output) < 256 * 4096:
                piece = await process.read()
                assert piece is not None
                if piece[0] is OutputKind.OUTPUT:
                    output += piece[1]
                else:
                    errors += piece[1]
        await process.end_input()
        assert await process.read() is None
        assert await process.wait() == Exit(code=0)
    assert output == EVERY_BYTE * 4096
    assert errors == b"problem\n"


async def test_neither_output_of_a_command_starves_the_other() -> None:
    async with on_pipes("yes >&2 & exec yes") as process:
        seen: list[OutputKind] = []
        while len(set(seen)) < 2:
            seen.append(await read_kind(process))
        # Each had time to fill its pipe behind the piece that is in our hands.
        for _ in range(10):
            await trio.testing.wait_all_tasks_blocked(0.01)
            pieces = [await read_kind(process) for _ in OutputKind]
            assert set(pieces) == set(OutputKind)


async def read_kind(process: PipedProcess) -> OutputKind:
    piece = await process.read()
    assert piece is not None
    return piece[0]


async def test_a_read_takes_all_that_is_there() -> None:
    async with on_terminal("stty raw; head -c 1000000 /dev/zero") as process:
        size, largest = 0, 0
        while piece := await process.read():
            size += len(piece)
            largest = max(largest, len(piece))
    assert size == 1_000_000
    assert 4096 < largest <= 128 * 1024


async def test_output_that_was_not_read_in_time_is_read_after_the_exit() -> None:
    async with on_terminal("stty raw; head -c 9000 /dev/zero; exit 3") as process:
        assert await process.wait() == Exit(code=3)
        assert len(await read_all(process)) == 9000
        assert await process.read() == b""


# ---- input that waits ----


async def test_a_paste_of_a_megabyte_reaches_a_reader_that_is_slow() -> None:
    pasted = b"0123456789abcde\n" * 65536
    script = (
        "stty raw -echo; echo ready; dd bs=512 count=1000000 2>/dev/null | head -c 1048576 | cksum"
    )
    async with on_terminal(script) as process:
        await read_until(process, b"ready\n")
        await process.write(pasted)
        counted = await read_until(process, b"\n")
    async with on_pipes("cksum") as process:
        await process.write(pasted)
        await process.end_input()
        expected, _ = await read_both(process)
    assert counted.strip() == expected.strip()


async def test_writing_to_a_command_that_never_reads_waits_and_can_be_cancelled() -> None:
    async with on_terminal("stty raw -echo; echo ready; sleep 1000") as process:
        await read_until(process, b"ready")
        with trio.move_on_after(0.3) as scope:
            await process.write(bytes(1_000_000))
        assert scope.cancelled_caught
    async with on_pipes("sleep 1000") as process:
        with trio.move_on_after(0.3) as scope:
            await process.write(bytes(1_000_000))
        assert scope.cancelled_caught


async def test_writing_breaks_when_the_command_ends() -> None:
    async with on_terminal("stty raw -echo; echo ready; sleep 1000") as process:
        await read_until(process, b"ready")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.wait)
            nursery.start_soon(expect_broken, process)
            await trio.testing.wait_all_tasks_blocked(0.1)
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(trio.BrokenResourceError):
            await process.write(b"")
    async with on_pipes("exit") as process:
        await process.wait()
        with pytest.raises(trio.BrokenResourceError):
            await process.write(bytes(1_000_000))


async def expect_broken(process: TerminalProcess) -> None:
    with pytest.raises(trio.BrokenResourceError):
        await process.write(bytes(1_000_000))


async def test_input_ends_behind_what_is_being_written() -> None:
    async with on_pipes("wc -c") as process, trio.open_nursery() as nursery:
        nursery.start_soon(process.write, bytes(1_000_000))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(process.end_input)
        output, _ = await read_both(process)
        assert int(output) == 1_000_000


# ---- signals and sizes ----


async def test_a_shell_hears_of_a_new_size() -> None:
    script = 'trap "stty size; exit 0" WINCH; echo ready; while :; do sleep 0.02; done'
    async with on_terminal(script) as process:
        await read_until(process, b"ready")
        process.resize(WindowSize(50, 132, 1000, 700))
        assert b"50 132\r\n" in await read_all(process)


async def test_control_c_interrupts_what_runs_in_the_foreground() -> None:
    async with on_terminal("sh -c 'echo ready; exec sleep 1000'; echo after $?") as process:
        await read_until(process, b"ready")
        await process.write(b"\x03")
        assert b"^C" in await read_all(process)
        assert await process.wait() == Exit(signal="INT")


async def test_a_signal_goes_to_the_foreground_and_not_to_the_shell() -> None:
    command = Command(argv=("/bin/sh", "-i"), environment={"PATH": os.defpath, "PS1": "$ "})
    async with on_terminal(command) as process:
        await process.write(b"sh -c 'echo rea''dy; exec sleep 1000'\n")
        await read_until(process, b"ready")
        process.signal(signal.SIGTERM)
        await process.write(b"echo sta''tus $?\n")
        await read_until(process, b"status 143")


async def test_a_signal_on_pipes_goes_to_the_whole_group() -> None:
    script = 'trap "echo me too" TERM; (trap - TERM; echo ready; exec sleep 1000); echo "got $?"'
    async with on_pipes(script) as process:
        assert await process.read() == (OutputKind.OUTPUT, b"ready\n")
        process.signal(signal.SIGTERM)
        output, _ = await read_both(process)
    assert output.endswith(b"me too\ngot 143\n")


@pytest.mark.parametrize("codes", [range(start, start + 32) for start in range(0, 256, 32)])
async def test_every_exit_code_is_told(codes: range) -> None:
    for code in codes:
        async with on_pipes(Command(argv=("/bin/sh", "-c", f"exit {code}"), environment={})) as it:
            assert await it.wait() == Exit(code=code)


@pytest.mark.parametrize("name", ["HUP", "INT", "KILL", "TERM", "USR1", "SEGV", "PIPE"])
async def test_the_signal_that_ended_a_command_is_told(name: str) -> None:
    async with on_pipes(f"kill -{name} $$; sleep 1000") as process:
        assert await process.wait() == Exit(signal=name)


# ---- what a command leaves behind ----


async def test_output_on_a_terminal_ends_with_the_command() -> None:
    async with on_terminal("sleep 1000 & echo said") as process:
        assert await read_all(process) == b"said\r\n"
        assert await process.wait() == Exit(code=0)


async def test_output_on_pipes_ends_soon_after_the_command() -> None:
    async with on_pipes("(echo said; sleep 1000) & exit 4") as process:
        assert await process.wait() == Exit(code=4)
        since = trio.current_time()
        assert await read_both(process) == (b"said\n", b"")
        assert trio.current_time() - since < LINGER + PATIENCE / 2


async def test_output_on_pipes_ends_even_if_others_write_on_for_ever() -> None:
    async with on_pipes("yes & exit 0") as process:
        output, _ = await read_both(process)
        assert set(output) <= set(b"y\n")
