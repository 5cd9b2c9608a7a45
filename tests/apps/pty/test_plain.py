"""A shell on a host of the reference: what it does, and what it says that it cannot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio._wire import gob
from dmsg_trio._wire.pty import (
    END_OF_COMMAND,
    PTY_SERVICE,
    PTY_URI,
    READ,
    SET_SIZE,
    START,
    WRITE,
    WindowSize,
)
from dmsg_trio._wire.rpc import Method
from dmsg_trio._wire.shell import SHELL_URI, Output
from dmsg_trio.apps.pty._requests import PtyRefusedError
from dmsg_trio.apps.pty._rpc import Handler, RpcError, serve_rpc
from dmsg_trio.apps.pty.remote._choosing import open_remote_shell
from dmsg_trio.apps.pty.remote._plain import PlainShell, open_plain_shell
from dmsg_trio.apps.pty.remote._remote import (
    CannotError,
    CommandEnded,
    GivenUp,
    RemoteShell,
    ShellRefusedError,
    Wanted,
)
from dmsg_trio.apps.pty.remote._session import ResumingShell
from dmsg_trio.testing._pipe import MemoryStream, memory_connection
from tests.apps.pty.shells import echo, open_host

TOP = Wanted(argv=("top", "-b"), terminal="xterm", size=WindowSize(30, 100, 1, 2))
SIZE = {"X": 1, "Y": 2, "Rows": 30, "Cols": 100}


class Reference:
    """Echoes what is typed until that is an end of transmission."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, gob.Value]] = []
        self._typed, self._output = trio.open_memory_channel[bytes](10)

    async def serve(self, stream: MemoryStream) -> None:
        handlers: dict[Method, Handler] = {
            **dict.fromkeys(PTY_SERVICE, self._not_there),
            START: self._start,
            SET_SIZE: self._size,
            READ: self._read,
            WRITE: self._write,
        }
        async with stream:
            with suppress(trio.BrokenResourceError):
                await serve_rpc(stream, handlers)

    async def _not_there(self, _: gob.Value) -> gob.Value:
        raise RpcError("not there")

    async def _start(self, value: gob.Value) -> gob.Value:
        self.calls.append(("Start", value))
        assert isinstance(value, dict)
        if value["Name"] == "nothing":
            raise RpcError("fork/exec nothing: no such file or directory")
        return {}

    async def _size(self, value: gob.Value) -> gob.Value:
        self.calls.append(("Size", value))
        return {}

    async def _read(self, value: gob.Value) -> gob.Value:
        assert value == 32768
        data = await self._output.receive()
        if data == b"\x04":
            raise RpcError(END_OF_COMMAND)
        return data

    async def _write(self, value: gob.Value) -> gob.Value:
        assert isinstance(value, bytes)
        await self._typed.send(value)
        return len(value)


@asynccontextmanager
async def open_shell(
    reference: Reference, wanted: Wanted = TOP
) -> AsyncIterator[tuple[RemoteShell, MemoryStream]]:
    near, far = memory_connection()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reference.serve, far)
        async with near, open_plain_shell(near, wanted) as shell:
            yield shell, near


async def test_the_size_is_said_twice_since_a_proxy_loses_the_first() -> None:
    reference = Reference()
    async with open_shell(reference) as (shell, _):
        await shell.resize(WindowSize(1, 2))
    assert reference.calls == [
        ("Start", {"Name": "top", "Arg": ["-b"], "Size": SIZE}),
        ("Size", SIZE),
        ("Size", {"X": 0, "Y": 0, "Rows": 1, "Cols": 2}),
    ]


async def test_output_comes_until_the_command_ends_without_a_code() -> None:
    async with open_shell(Reference()) as (shell, _):
        await shell.send_input(b"hello")
        await shell.signal("INT")
        await shell.end_input()
        events = [event async for event in shell]
    assert events == [Output(b"hello"), Output(b"\x03"), CommandEnded()]
    assert "tell how the command ended" in shell.cannot


async def test_long_input_goes_out_in_pieces() -> None:
    async with open_shell(Reference()) as (shell, _):
        await shell.send_input(bytes(100_000))
        assert [await anext(shell) for _ in range(4)] == [
            Output(bytes(size)) for size in (32768, 32768, 32768, 1696)
        ]


async def test_a_lost_connection_is_not_taken_for_the_end_of_the_command() -> None:
    async with open_shell(Reference()) as (shell, stream):
        stream.cut()
        assert [event async for event in shell] == [GivenUp("the connection to the host is lost")]
        with pytest.raises(trio.BrokenResourceError):
            await shell.send_input(b"x")
        await shell.resize(WindowSize(1, 2))


async def test_hanging_up_ends_the_iteration_that_waits(autojump_clock: MockClock) -> None:
    async with open_shell(Reference()) as (shell, _), trio.open_nursery() as nursery:

        async def hang_up() -> None:
            await trio.sleep(1)
            await shell.hang_up()

        nursery.start_soon(hang_up)
        assert [event async for event in shell] == [CommandEnded()]


async def test_what_it_cannot_do_is_said() -> None:
    async with open_shell(Reference()) as (shell, _):
        assert "pass on the environment, TERM included" in shell.cannot
        with pytest.raises(CannotError, match="SIGUSR1"):
            await shell.signal("USR1")
        with pytest.raises(CannotError, match="ends with its connection"):
            await shell.detach()


async def test_a_command_that_cannot_be_started_is_refused_in_the_hosts_words() -> None:
    near, far = memory_connection()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Reference().serve, far)
        async with near:
            with pytest.raises(ShellRefusedError, match="fork/exec nothing: no such file"):
                async with open_plain_shell(near, Wanted(argv=("nothing",), terminal="xterm")):
                    pass


# ---- the choice ----


class Route:
    """A way to a host that knows these services, or refuses with a reason."""

    def __init__(self, nursery: trio.Nursery, reason: str = "") -> None:
        self.asked: list[str] = []
        self._nursery = nursery
        self._reason = reason

    async def open(self, uri: str) -> MemoryStream:
        self.asked.append(uri)
        await trio.lowlevel.checkpoint()
        if uri == SHELL_URI:
            raise PtyRefusedError(self._reason)
        near, far = memory_connection()
        self._nursery.start_soon(Reference().serve, far)
        return near


async def test_a_host_that_knows_no_better_gets_the_calls_of_the_reference() -> None:
    async with trio.open_nursery() as nursery:
        route = Route(nursery)
        async with open_remote_shell(route, TOP) as shell:
            assert isinstance(shell, PlainShell)
        assert route.asked == [SHELL_URI, PTY_URI]


async def test_a_reason_is_the_answer() -> None:
    async with trio.open_nursery() as nursery:
        route = Route(nursery, "this key is not on the list")
        with pytest.raises(PtyRefusedError, match="this key is not on the list"):
            async with open_remote_shell(route, TOP):
                pass
        assert route.asked == [SHELL_URI]


async def test_a_host_of_ours_gets_the_shell_that_resumes(autojump_clock: MockClock) -> None:
    async with open_host(echo) as host:
        dial = host.dial_as()

        class Ours:
            async def open(self, uri: str) -> MemoryStream:
                assert uri == SHELL_URI
                return await dial()

        async with open_remote_shell(Ours(), Wanted(argv=("it",), keep=60)) as shell:
            assert isinstance(shell, ResumingShell)
            host.links[0].cut()
            await shell.send_input(b"x")
            await shell.end_input()
            assert [event async for event in shell][-2:] == [Output(b"x"), CommandEnded(7)]
        assert len(host.links) == 2
