"""How programs end: by themselves, by a signal, by an error, and when nobody reads on."""

import errno
import io
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from dmsg_trio._errors import ConfigError, DiscoveryError
from dmsg_trio.cli._run import call, clearly, one_line, printable, run
from tests.cli.running import environment

# ---- by themselves ----


def test_what_a_program_returns_is_returned() -> None:
    async def answer() -> int:
        await trio.lowlevel.checkpoint()
        return 42

    assert run(answer) == 42


def test_a_program_that_returns_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call(lambda: sys.stdout.write("done"))
    assert ended.value.code == 0
    assert capsys.readouterr().out == "done"


# ---- by an error ----


def refusal(program: Callable[[], Awaitable[object]], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        run(program)
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    return err


async def fail_in_nurseries() -> None:
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as inner:
            inner.start_soon(fail, DiscoveryError("http://d: no answer"))
        outer.start_soon(trio.sleep_forever)


async def fail(error: Exception) -> None:
    raise error


def test_an_error_is_one_line_however_deep_it_happened(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(fail_in_nurseries, capsys) == "error: http://d: no answer\n"


def test_of_several_errors_the_first_is_told_and_the_others_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def program() -> None:
        raise ExceptionGroup("", [ConfigError("a"), ExceptionGroup("", [ConfigError("b")])])

    assert refusal(program, capsys) == "error: a (and 1 more)\n"


def test_an_error_of_many_lines_is_told_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    async def program() -> None:
        raise ConfigError("not found\n  through 02ab: refused\n  through 03cd: \x1b[2Jtimeout")

    line = refusal(program, capsys)
    assert line == "error: not found; through 02ab: refused; through 03cd: \ufffd[2Jtimeout\n"


@pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG])
def test_who_debugs_sees_where_it_happened(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    logger = logging.getLogger("dmsg_trio.cli")
    if level == logging.NOTSET:
        monkeypatch.setenv("DMSG_DEBUG", "1")
    logger.setLevel(level)
    try:
        told = refusal(fail_in_nurseries, capsys)
    finally:
        logger.setLevel(logging.NOTSET)
    assert "Traceback (most recent call last)" in told
    assert "in fail" in told
    assert told.endswith("\nerror: http://d: no answer\n")


def test_a_bug_stays_a_bug() -> None:
    async def program() -> None:
        raise ExceptionGroup("", [ConfigError("a"), KeyError("b")])

    with pytest.raises(ExceptionGroup) as caught:
        run(program)
    assert caught.group_contains(KeyError)


def test_an_interrupt_before_anything_runs_is_no_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        clearly(interrupted)
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "")


# ---- by a signal ----

PROGRAM = """
import sys
import trio
from dmsg_trio.cli._run import call, run

async def wait():
    print("ready", flush=True)
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            {goodbye}
            print("goodbye", flush=True)

call(lambda: run(wait, service={service}))
"""


def start(goodbye: str = "await trio.sleep(0)", *, service: bool = False) -> subprocess.Popen[str]:
    program = PROGRAM.format(goodbye=goodbye, service=service)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("service", [False, True])
def test_a_signal_lets_a_program_say_goodbye(number: int, service: bool) -> None:
    process = start(service=service)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (out, err) == ("goodbye\n", "")
    assert process.returncode == (0 if service else 128 + number)


@pytest.mark.parametrize("goodbye", ["await trio.sleep_forever()", "__import__('time').sleep(99)"])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_whatever_a_program_does(goodbye: str, second: int) -> None:
    process = start(f"print('staying', flush=True); {goodbye}", service=True)
    assert process.stdout is not None
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "staying\n"
    began = time.monotonic()
    process.send_signal(second)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == -second
    assert time.monotonic() - began < 20


def test_a_program_that_ends_well_in_spite_of_a_signal_was_still_stopped() -> None:
    async def hardly_stopped() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.lowlevel.checkpoint()

    with pytest.raises(SystemExit) as ended:
        run(hardly_stopped)
    assert ended.value.code == 128 + signal.SIGTERM


def test_signals_mean_afterwards_what_they_meant_before() -> None:
    async def nothing() -> None:
        await trio.lowlevel.checkpoint()

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run(nothing)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# ---- when nobody reads on ----


def output_to_nobody(program: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program whose standard output is a pipe that nobody reads any more."""
    near, far = os.pipe()
    os.close(near)
    try:
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            stdout=far,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    finally:
        os.close(far)


@pytest.mark.parametrize(
    "program",
    [
        "call(lambda: print('short, so it is written at the end'))",
        "call(lambda: print('x' * 1_000_000))",
        "call(lambda: run(talk))",
    ],
)
def test_a_reader_that_is_gone_is_no_reason_for_a_traceback(program: str) -> None:
    done = output_to_nobody(f"""
        from dmsg_trio.cli._run import call, run
        async def talk():
            print("hello", flush=True)
        {program}
    """)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_connection_that_breaks_is_another_matter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def break_connection() -> None:
        raise BrokenPipeError(errno.EPIPE, "of a socket")

    with (tmp_path / "out").open("w") as readable, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", readable)
        with pytest.raises(ExceptionGroup) as caught:
            clearly(break_connection)
    assert caught.group_contains(BrokenPipeError)


# ---- text of others ----


@given(st.text())
@example("\x1b]0;title\x07\x9b2J\u202egnp.exe\u2028\x00\x7f\r\n")
def test_what_others_wrote_is_shown_without_any_power(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert printable(shown) == shown


@given(st.text("aé \N{CJK UNIFIED IDEOGRAPH-4E2D}\N{GRINNING FACE}"))
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_lines_are_joined_without_their_indentation() -> None:
    assert one_line("a\n  b\r\n\tc\x1b") == "a; b; c\ufffd"


def test_the_error_line_goes_where_errors_go(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)

    def refuse() -> None:
        raise ConfigError("no")

    with pytest.raises(SystemExit):
        clearly(refuse)
    assert err.getvalue() == "error: no\n"
