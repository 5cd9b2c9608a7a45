"""dmsgpty-cli as people and scripts use it: in terminals and on pipes, against a host on this machine."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from dmsg_trio._keys import SecretKey
from dmsg_trio.cli import dmsgpty_cli
from dmsg_trio.cli._pty_talk import exit_code
from dmsg_trio.cli.dmsgpty_cli import BREAK, _split
from tests.cli.pty_programs import (
    NOWHERE,
    PROMPT,
    PtyHost,
    cli,
    cli_on_terminal,
    cli_running,
    is_gone,
    program,
    pty_host,
)
from tests.cli.running import NOBODY, Done, dmsg, environment, line_of
from tests.cli.terminals import Terminal, open_terminal
from tests.waiting import PATIENCE, answered

pytestmark = pytest.mark.network

CTRL_C, CTRL_D, CTRL_Z = "\x03", "\x04", "\x1a"
OWN_FAILURE = 255


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PtyHost]:
    """One host for all that leaves it as it was, which is seen to at the end."""
    with pty_host(tmp_path_factory.mktemp("host")) as host:
        yield host
        assert host.children() == []
    assert host.process.returncode == 0
    log = (host.folder / "log").read_text()
    assert "fault" not in log
    assert "Traceback" not in log


class Here:
    """Runs the CLI in this process, which is faster, where its standard input does not matter."""

    def __init__(self, files: pytest.CaptureFixture[bytes]) -> None:
        self._files = files

    def __call__(self, *arguments: str) -> Done:
        self._files.readouterr()
        with pytest.raises(SystemExit) as ended:
            dmsgpty_cli.app(list(arguments), prog_name="dmsgpty-cli")
        said = self._files.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err.decode())


@pytest.fixture
def here(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Here:
    for name in [name for name in os.environ if name.startswith("DMSG")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("dmsg_trio.cli._options.set_up_logging", lambda *_, **__: None)
    return Here(capfdbinary)


# ---- in a terminal ----


async def test_a_session_from_the_prompt_to_its_exit(host: PtyHost) -> None:
    async with cli_on_terminal(*host.local, rows=30, columns=100) as terminal:
        before = terminal.modes()
        assert b"\x1b]0;dmsgpty\x07" in await terminal.shows(PROMPT)
        assert terminal.modes() != before
        await terminal.type("stty size; echo $TERM\r")
        await terminal.shows("\r\n30 100\r\nxterm-256color\r\n")
        terminal.resize(50, 132)
        await terminal.shows(PROMPT)

        async def has_new_size() -> bool:
            await terminal.type("stty size\r")
            await terminal.shows("stty size\r\n")
            return await terminal.shows(PROMPT) == b"50 132\r\n"

        assert await answered(has_new_size, within=PATIENCE)
        await terminal.type("printf '%s' 'ä漢字🙂' | od -An -tx1\r")
        await terminal.shows("c3 a4 e6 bc a2 e5 ad 97 f0 9f 99 82")
        await terminal.shows(PROMPT)
        await terminal.type("printf '\\346\\274'; sleep 0.05; printf '\\242|\\377|\\n'\r")
        await terminal.shows(b"\r\n\xe6\xbc\xa2|\xff|\r\n")
        await terminal.type("exit 7\r")
        assert await terminal.exit_code() == 7
        assert terminal.modes() == before
        await terminal.shows("\x1b[23;0t")


async def test_keys_go_to_the_command_there_and_not_to_the_program_here(host: PtyHost) -> None:
    async with cli_on_terminal(*host.local) as terminal:
        await terminal.shows(PROMPT)
        await terminal.type("sh -c 'echo go; exec sleep 1000'\r")
        await terminal.shows("\r\ngo\r\n")
        await terminal.type(CTRL_C)
        await terminal.shows(PROMPT)
        await terminal.type("cat\r")
        await terminal.type("once\r")
        await terminal.shows("once\r\nonce\r\n")
        await terminal.type(CTRL_Z)
        await terminal.shows("Stopped")
        await terminal.shows(PROMPT)
        await terminal.type("fg\r")
        await terminal.shows("cat\r\n")
        await terminal.type("again\r")
        await terminal.shows("again\r\nagain\r\n")
        await terminal.type(CTRL_D)
        await terminal.shows(PROMPT)
        await terminal.type(CTRL_D)
        assert await terminal.exit_code() == 0


async def test_the_escape_character_helps_is_typed_and_leaves(host: PtyHost) -> None:
    async with cli_on_terminal(*host.local) as terminal:
        before = terminal.modes()
        await terminal.shows(PROMPT)
        await terminal.type("echo $$-\r")
        await terminal.shows("$$-\r\n")
        shell = int((await terminal.shows("-\r\n")).strip())
        await terminal.shows(PROMPT)
        await terminal.type("~?")
        await terminal.shows("~.   end the session")
        await terminal.type("~~x~.\r")
        await terminal.shows("~x~.\r\n")
        await terminal.shows(PROMPT)
        await terminal.type("cat\r")
        await terminal.shows("cat\r\n")
        await terminal.type("\r~.")
        assert await terminal.exit_code() == OWN_FAILURE
        assert terminal.modes() == before
        assert await is_gone(shell)


# What a full screen program says before and, if it can, after.
SWITCHES_ON = r"\033[?1049h\033[22;0;0t\033[?1000;1006h\033[?2004h\033[?25l"
SWITCHED_OFF = b"\x1b[0m\x1b[?25h\x1b[?1000l\x1b[?1006l\x1b[?2004l\x1b[?1049l\x1b[23;0t"


@pytest.mark.parametrize("ending", ["leave", "hang up", "kill"])
async def test_a_full_screen_that_is_cut_off_is_given_back(host: PtyHost, ending: str) -> None:
    async with cli_on_terminal(*host.local) as terminal:
        before = terminal.modes()
        await terminal.shows(PROMPT)
        await terminal.type(f"printf '{SWITCHES_ON}dra''wn'; cat; kill -9 $$\r")
        await terminal.shows("drawn")
        match ending:
            case "leave":
                await terminal.type("\r~.")
            case "hang up":
                terminal.process.send_signal(signal.SIGHUP)
            case _:
                await terminal.type(CTRL_D)
        await terminal.shows(SWITCHED_OFF)
        match ending:
            case "leave":
                await terminal.shows("[the session is ended]")
            case "kill":
                await terminal.shows("[ended by SIGKILL]")
        await terminal.shows("\x1b[23;0t")
        await terminal.exit_code()
        assert terminal.modes() == before


async def test_a_session_is_left_listed_and_gone_on_with(host: PtyHost) -> None:
    async with cli_on_terminal(*host.local) as terminal:
        before = terminal.modes()
        await terminal.shows(PROMPT)
        await terminal.type("NAME=kept\r")
        await terminal.shows(PROMPT)
        await terminal.type("~d")
        await terminal.shows("[detached: the session goes on]")
        assert await terminal.exit_code() == 0
        assert terminal.modes() == before
    (line,) = (await cli("ls", *host.local)).lines
    name, state, *_, command = line.split(maxsplit=4)
    assert (state, command) == ("detached", "login shell")
    assert '"detached"' not in (shown := (await cli("ls", *host.local, "--json")).out.decode())
    assert f'"session": "{name}' in shown
    async with cli_on_terminal("attach", name, *host.local) as terminal:
        await terminal.type("\recho $NAME-\r")
        await terminal.shows("kept-")
        await terminal.type("exit 3\r")
        assert await terminal.exit_code() == 3
    done = await cli("attach", name, *host.local)
    assert done.code == OWN_FAILURE
    assert done.err == f"error: no sessions there begin with '{name}'; see 'ls'\n"


async def test_the_program_here_is_suspended_and_comes_back(host: PtyHost) -> None:
    env = {**environment(), "PS1": "local> ", "CLI": program("dmsgpty-cli")}
    async with open_terminal(["sh", "-i"], {**env, "ENV": ""}) as terminal:
        await terminal.shows("local> ")
        await terminal.type(f"$CLI {' '.join(host.local)}\r")
        await terminal.shows(PROMPT)
        await terminal.type("~\x1a")
        await terminal.shows("Stopped")
        await terminal.shows("local> ")
        await terminal.type("stty -a\r")
        await terminal.shows(" icanon")
        await terminal.shows("local> ")
        terminal.resize(40, 90)
        await terminal.type("fg\r")
        await terminal.shows("socket\r\n")
        await terminal.type("stty size\r")
        await terminal.shows("\r\n40 90\r\n")
        await terminal.type("exit\r")
        await terminal.shows("local> ")
        await terminal.type("exit\r")
        assert await terminal.exit_code() == 0


async def test_a_paste_of_a_megabyte_arrives_as_it_is(host: PtyHost, tmp_path: Path) -> None:
    """Raw, every byte; and in lines, as a terminal has them."""
    random_bytes = random.Random(0).randbytes(1_000_000)
    letters = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz é漢", k=70))
    lines = f"{letters}\n" * (1_000_000 // 80)
    for name, prepare, data in (
        ("raw", "stty raw -echo", random_bytes),
        ("lines", "stty -echo", lines.encode()),
    ):
        path = tmp_path / name
        script = f"{prepare}; echo ready; head -c {len(data)} > {path}; echo done"
        options = (*host.local, "-t", "-e", "none")
        async with cli_on_terminal(*options, "--", "sh", "-c", script) as terminal:
            await terminal.shows("ready")
            await terminal.type(data)
            await terminal.shows("done")
            assert await terminal.exit_code() == 0
        assert path.read_bytes() == data


async def session(terminal: Terminal) -> int:
    """Wait for the prompt; give the number of the shell."""
    await terminal.shows(PROMPT)
    await terminal.type("echo $$-\r")
    await terminal.shows("$$-\r\n")
    return int((await terminal.shows("-\r\n")).strip())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_a_signal_ends_the_shell_at_once_and_gives_the_terminal_back(
    host: PtyHost, number: signal.Signals
) -> None:
    async with cli_on_terminal(*host.local) as terminal:
        before = terminal.modes()
        shell = await session(terminal)
        terminal.process.send_signal(number)
        assert await terminal.exit_code() == 128 + number
        assert terminal.modes() == before
        assert await is_gone(shell)


async def test_a_window_that_is_closed_ends_the_shell(host: PtyHost) -> None:
    async with cli_on_terminal(*host.local) as terminal:
        shell = await session(terminal)
        terminal.close()
        await terminal.exit_code()
        assert await is_gone(shell)


async def test_a_host_that_dies_gives_the_terminal_back(tmp_path: Path) -> None:
    with pty_host(tmp_path / "host") as host:
        async with cli_on_terminal(*host.local, "--no-resume") as terminal:
            before = terminal.modes()
            shell = await session(terminal)
            host.process.kill()
            assert await terminal.exit_code() == OWN_FAILURE
            assert terminal.modes() == before
            assert await is_gone(shell)  # its terminal was closed
        async with cli_on_terminal(*host.local) as terminal:
            await terminal.shows("error: no host answers at")
            assert await terminal.exit_code() == OWN_FAILURE
            assert terminal.modes() == before


async def test_who_waits_for_a_lost_host_can_leave(tmp_path: Path) -> None:
    with pty_host(tmp_path / "host") as host:
        async with cli_on_terminal(*host.local) as terminal:
            before = terminal.modes()
            await session(terminal)
            host.process.kill()
            await terminal.shows("[connection lost, trying again")
            await terminal.type("\r~.")
            assert await terminal.exit_code() == OWN_FAILURE
            assert terminal.modes() == before


# ---- on pipes ----


async def test_a_tree_comes_through_as_it_is(host: PtyHost, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(20):
        (tmp_path / "tree" / str(number)).write_bytes(random.Random(number).randbytes(20_000))
    command = ("tar", "cz", "-C", str(tmp_path), "tree")
    done = await cli(*host.local, "--", *command)
    assert (done.code, done.err) == (0, "")
    with tarfile.open(fileobj=io.BytesIO(done.out)) as archive:
        for number in range(20):
            file = archive.extractfile(f"tree/{number}")
            assert file is not None
            assert file.read() == random.Random(number).randbytes(20_000)


async def test_twenty_megabytes_go_both_ways_at_once(host: PtyHost) -> None:
    data = random.Random(0).randbytes(20_000_000)
    done = await cli(*host.local, "--", "cat", stdin=data)
    assert (done.code, done.err) == (0, "")
    assert done.out == data


async def test_output_and_errors_stay_apart_and_the_end_of_input_arrives(host: PtyHost) -> None:
    script = "cat; echo out; echo err >&2; tty; exit 9"
    done = await cli(*host.local, "--", "sh", "-c", script, stdin=b"in\n")
    assert (done.code, done.out, done.err) == (9, b"in\nout\nnot a tty\n", "err\n")


@pytest.mark.parametrize(
    ("options", "code", "err"),
    [
        (("true",), 0, ""),
        (("sh", "-c", "exit 255"), 255, ""),
        (("sh", "-c", "kill -9 $$"), 137, ""),
        (("sh", "-c", "kill -TERM $$"), 143, ""),
        (
            ("/nonexistent",),
            127,
            "dmsgpty-cli: fork/exec /nonexistent: no such file or directory\n",
        ),
        (("/",), 126, "dmsgpty-cli: fork/exec /: permission denied\n"),
    ],
    ids=["0", "255", "killed", "terminated", "not found", "not run"],
)
def test_the_exit_code_is_the_command_s(
    host: PtyHost, here: Here, options: tuple[str, ...], code: int, err: str
) -> None:
    done = here(*host.local, "--", *options)
    assert (done.code, done.err) == (code, err)


async def test_the_same_program_is_there_as_dmsg_pty_cli(host: PtyHost) -> None:
    done = await dmsg("pty", "cli", *host.local, "--", "sh", "-c", "echo hi; exit 5")
    assert (done.code, done.out) == (5, b"hi\n")
    done = await dmsg("pty", "cli", "nonsense")
    assert done.code == OWN_FAILURE
    assert done.err.startswith("error: ")


async def test_a_reader_that_has_enough_ends_the_command(host: PtyHost) -> None:
    script = "echo $$; exec cat /dev/zero"
    async with cli_running(*host.local, "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        with trio.fail_after(PATIENCE):
            pid = int(await line_of(process.stdout))
            await process.stdout.aclose()
            assert await process.wait() == OWN_FAILURE
            assert process.stderr is not None
            assert [piece async for piece in process.stderr] == []
        assert await is_gone(pid)


async def test_a_command_that_reads_no_more_gets_no_more(host: PtyHost) -> None:
    done = await cli(*host.local, "--", "head", "-c", "5", stdin=bytes(5_000_000))
    assert (done.code, done.out) == (0, bytes(5))


async def test_a_signal_ends_the_command_at_once(host: PtyHost) -> None:
    for number in signal.SIGTERM, signal.SIGHUP:
        async with cli_running(
            *host.local, "--", "sh", "-c", "echo $$; exec sleep 1000"
        ) as process:
            assert process.stdout is not None
            with trio.fail_after(PATIENCE):
                pid = int(await line_of(process.stdout))
                process.send_signal(number)
                assert await process.wait() == 128 + number
            assert await is_gone(pid)


async def test_who_was_started_to_outlive_the_terminal_does(host: PtyHost) -> None:
    """As with nohup: SIGHUP is ignored from the start."""
    command = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", program("dmsgpty-cli"), *host.local]
    script = "echo ready; read line; echo $line"
    process = await trio.lowlevel.open_process(
        [*command, "--", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with trio.fail_after(PATIENCE):
        assert await line_of(process.stdout) == b"ready\n"
        process.send_signal(signal.SIGHUP)
        await process.stdin.send_all(b"still here\n")
        assert await line_of(process.stdout) == b"still here\n"
        assert await process.wait() == 0
    await process.stdin.aclose()
    await process.stdout.aclose()


async def test_a_cli_that_is_killed_leaves_its_shell_for_as_long_as_it_wished(
    tmp_path: Path,
) -> None:
    script = ("sh", "-c", "echo $$; exec sleep 1000")
    with pty_host(tmp_path / "host", keep_time=1) as host:
        for options, stays in (("--no-resume",), False), ((), True):
            async with cli_running(*host.local, *options, "--", *script) as process:
                assert process.stdout is not None
                with trio.fail_after(PATIENCE):
                    pid = int(await line_of(process.stdout))
                process.kill()
                await process.wait()
                began = trio.current_time()
                assert await is_gone(pid)
                assert (trio.current_time() - began >= 0.8) is stays
        assert host.children() == []
        reasons = {line["reason"] for line in host.audited()}
        assert len(reasons) == 2


# ---- what cannot be ----


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("-r", "none/socket"), "no host runs on this machine: none/socket is not there"),
        (("-r", "none/socket", NOBODY), "no key to go by, and no host runs on this machine"),
        (("nonsense",), "nonsense"),
        (("--escape", "~~", NOBODY), "--escape: one ASCII character or 'none'"),
        (("-L", "80", NOBODY), "not [bind:]port:host:port: '80'"),
        (("--addr", NOBODY, NOBODY), "one host is enough"),
        ((NOBODY, "-t", "top"), "options stand before PK"),
        (("whitelist-add", "02", "-r", "none/socket"), "a public key is 66 hex digits"),
        (("cp", "a"), "cp needs a source and a target"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_failure_of_ours_is_one_line_and_255(
    here: Here, arguments: tuple[str, ...], error: str
) -> None:
    done = here(*arguments)
    assert done.code == OWN_FAILURE
    assert done.out == b""
    assert error in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1


async def test_without_a_network_it_says_so_soon(tmp_path: Path) -> None:
    key = SecretKey.generate().reveal().hex()
    began = trio.current_time()
    words = ("--timeout", "3", NOBODY, "--", "true")
    done = await cli(*words, discovery=NOWHERE, env={"DMSG_SK": key})
    assert trio.current_time() - began < 20
    assert done.code == OWN_FAILURE
    soon, last = done.err.splitlines()
    assert soon.startswith(f"no network yet, trying for 3 s: {NOWHERE}")
    assert last.startswith(f"error: no network within 3 s: {NOWHERE}")


def test_the_allow_list_is_shown_and_changed(here: Here, tmp_path: Path) -> None:
    with pty_host(tmp_path / "host") as host:
        done = here("whitelist", *host.local)
        assert (done.code, done.out) == (0, b"")
        assert here("whitelist-add", *host.local, NOBODY).code == 0
        done = here("whitelist-add", *host.local, NOBODY)
        assert (done.code, done.err) == (
            1,
            f"error: skipping append for {NOBODY}. Already exists\n",
        )
        assert here("whitelist", *host.local).lines == [NOBODY]
        assert here("whitelist", *host.local, "--json").lines == [f'["{NOBODY}"]']
        assert here("whitelist-remove", *host.local, NOBODY).code == 0
        assert here("whitelist", *host.local, "--json").lines == ["[]"]


def test_changes_of_the_allow_list_are_told_as_json(here: Here, tmp_path: Path) -> None:
    a, b = str(SecretKey.generate().pk), str(SecretKey.generate().pk)
    with pty_host(tmp_path / "host") as host:

        def told(command: str, *keys: str) -> tuple[int, object, str]:
            done = here(command, *host.local, "--json", *keys)
            assert len(done.lines) == 1
            return done.code, json.loads(done.out), done.err

        assert told("whitelist-add", a, a) == (0, {"added": [a], "already_there": []}, "")
        assert told("whitelist-add", a, b) == (
            1,
            {"added": [b], "already_there": [a]},
            f"error: skipping append for {a}. Already exists\n",
        )
        assert told("whitelist-remove", a) == (0, {"removed": [a], "not_there": []}, "")
        assert told("whitelist-remove", a, b) == (0, {"removed": [b], "not_there": [a]}, "")
        assert here("whitelist", *host.local, "--json").lines == ["[]"]
        host.config.chmod(0o666)
        code, form, error = told("whitelist-add", a)
        assert (code, form) == (1, {"added": [], "already_there": []})
        assert error.startswith("error: others can write to ")
        assert error.count("\n") == 1


# ---- ports ----


async def test_ports_are_forwarded_both_ways_while_nothing_runs(host: PtyHost) -> None:
    async def shout(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(bytes(data).upper())

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    target = listeners[0].socket.getsockname()[1]
    spec = f"0:127.0.0.1:{target}"
    async with (
        trio.open_nursery() as nursery,
        cli_running(*host.local, "-N", "-L", spec, "-R", spec) as process,
    ):
        nursery.start_soon(trio.serve_listeners, shout, listeners)
        assert process.stderr is not None
        with trio.fail_after(PATIENCE):
            port = 0
            for where in b"here leads", b"there leads":
                line = await line_of(process.stderr)
                assert where in line
                port = int(line.split(b"127.0.0.1:")[1].split()[0])
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    await stream.send_all(b"hello")
                    assert await stream.receive_some() == b"HELLO"
            process.terminate()
            assert await process.wait() == 128 + signal.SIGTERM
            with pytest.raises(OSError, match="all attempts to connect"):
                while True:  # the host learns of it soon
                    await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
        nursery.cancel_scope.cancel()


def test_a_port_that_is_taken_ends_it(host: PtyHost, here: Here) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for option in "-L", "-R":
            done = here(*host.local, option, f"{port}:127.0.0.1:1", "--", "true")
            assert done.code == OWN_FAILURE
            assert "in use" in done.err
            assert done.err.count("\n") == 1


# ---- without a process ----


@pytest.mark.parametrize(
    ("code", "name", "exits"),
    [
        (0, None, 0), (255, None, 255), (None, None, 0), (None, "TERM", 143), (None, "KILL", 137),
        (None, "40", 168), (None, "INFO", 255), (None, "99999", 255), (None, "0", 255),
    ],
)  # fmt: skip
def test_exit_codes_are_those_of_a_shell(code: int | None, name: str | None, exits: int) -> None:
    assert exit_code(code, name) == exits


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["PK"], ("PK", ())),
        (["PK", "ls", "-l"], ("PK", ("ls", "-l"))),
        (["PK", BREAK, "ls", "--", "x"], ("PK", ("ls", "--", "x"))),
        (["PK", "grep", BREAK, "x"], ("PK", ("grep", "--", "x"))),
        ([BREAK, "ls"], ("", ("ls",))),
        (["PK", BREAK], ("PK", ())),
        ([""], ("", ())),
    ],
)
def test_a_host_and_a_command_are_told_apart(
    words: list[str], meant: tuple[str, tuple[str, ...]]
) -> None:
    assert _split(words[0], words[1:]) == meant
