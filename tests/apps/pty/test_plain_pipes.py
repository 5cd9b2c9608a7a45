"""Commands with pipes on a host that has terminals only, with real commands."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import Output
from dmsg_trio.apps.pty.host._service import serve_pty
from dmsg_trio.apps.pty.process import Command, TerminalProcess, open_process_on_terminal
from dmsg_trio.apps.pty.remote._plain import open_plain_shell
from dmsg_trio.apps.pty.remote._plain_pipes import Unwrapped, Unwrapper
from dmsg_trio.apps.pty.remote._remote import CommandEnded, RemoteEvent, RemoteShell, Wanted
from dmsg_trio.testing._pipe import memory_connection

PATIENCE = 30  # seconds
MARK = "5ab1e" * 4


@asynccontextmanager
async def launch(
    name: str, arguments: tuple[str, ...], size: WindowSize
) -> AsyncIterator[TerminalProcess]:
    command = Command(argv=(name, *arguments), environment={"PATH": os.environ["PATH"]})
    async with open_process_on_terminal(command, size) as process:
        yield process


@asynccontextmanager
async def open_shell(*argv: str) -> AsyncIterator[RemoteShell]:
    near, far = memory_connection()

    async def serve() -> None:
        async with far:
            with suppress(trio.BrokenResourceError):
                await serve_pty(far, launch)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            async with near, open_plain_shell(near, Wanted(argv=argv or None)) as shell:
                yield shell


async def all_of(shell: RemoteShell) -> tuple[bytes, RemoteEvent]:
    output, last = b"", None
    async for event in shell:
        if isinstance(event, Output):
            output += event.data
        last = event
    assert last is not None
    return output, last


async def run(*argv: str, stdin: bytes = b"") -> tuple[bytes, RemoteEvent]:
    async with open_shell(*argv) as shell, trio.open_nursery() as nursery:

        async def feed() -> None:
            await shell.send_input(stdin)
            await shell.end_input()

        nursery.start_soon(feed)
        found = await all_of(shell)
        nursery.cancel_scope.cancel()
    return found


async def test_bytes_pass_as_they_are_and_so_does_the_end_of_input() -> None:
    for data in (b"", bytes(range(256)) * 64, random.Random(2).randbytes(200_000)):
        assert await run("cat", stdin=data) == (data, CommandEnded(0))


async def test_arguments_arrive_as_they_are() -> None:
    given = ("%s|", "a b", "", "$HOME'\"", "\n", "-x")
    assert await run("printf", *given) == (b"a b||$HOME'\"|\n|-x|", CommandEnded(0))


async def test_how_a_command_ended_is_told() -> None:
    assert await run("sh", "-c", "exit 7") == (b"", CommandEnded(7))
    output, ending = await run("no-such-command")
    assert b"no-such-command" in output
    assert ending == CommandEnded(127)


async def test_without_a_command_a_shell_reads_the_input() -> None:
    assert await run(stdin=b"echo $((6*7))\nexit 5\n") == (b"42\n", CommandEnded(5))


async def test_a_command_sees_no_terminal() -> None:
    script = "for n in 0 1 2; do test -t $n && echo $n; done; echo err >&2"
    assert await run("sh", "-c", script) == (b"err\n", CommandEnded(0))


async def test_a_command_need_not_read_its_input() -> None:
    assert (await run("true", stdin=bytes(300_000)))[1] == CommandEnded(0)


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 143), ("HUP", 129)])
async def test_a_signal_reaches_the_command_alone(name: str, code: int) -> None:
    async with open_shell("sh", "-c", "echo begun; exec sleep 1000") as shell:
        await anext(shell)
        await shell.end_input()
        await shell.signal(name)
        assert (await all_of(shell))[1] == CommandEnded(code)


async def test_leaving_ends_the_command_also_when_cancelled(tmp_path: Path) -> None:
    file = tmp_path / "ended"
    with trio.CancelScope() as scope:
        async with open_shell(
            "sh", "-c", f"trap 'echo > {file}; exit' HUP; echo; while :; do sleep 0.01; done"
        ) as shell:
            await anext(shell)
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert file.exists()


# ---- the marks ----


def test_a_mark_in_any_pieces_is_found_and_nothing_of_the_output_is_lost() -> None:
    said = f"{MARK}out {MARK[:7]}put{MARK[:3]}{MARK}12.".encode()
    for size in range(1, len(said)):
        unwrapper, output, code = Unwrapper(MARK), b"", None
        for start in range(0, len(said), size):
            found = unwrapper.receive_data(said[start : start + size])
            output += found.data
            code = found.code if found.code is not None else code
        assert (output, code) == (f"out {MARK[:7]}put{MARK[:3]}".encode(), 12)


def test_what_comes_before_it_is_ready_is_the_complaint() -> None:
    unwrapper = Unwrapper(MARK)
    assert unwrapper.receive_data(b"sh: stty: not found\n") == Unwrapped()
    assert unwrapper.complaint == "sh: stty: not found"


@pytest.mark.parametrize("code", [b"x.", b"256.", b"-1.", b"00000", b"."])
def test_a_code_that_is_none_is_the_hosts_fault(code: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="an exit code"):
        Unwrapper(MARK).receive_data(MARK.encode() + MARK.encode() + code)
