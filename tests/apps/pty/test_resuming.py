"""A shell outlives its streams: nothing is lost, nothing comes twice."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import (
    INPUT_WINDOW,
    MAX_PAYLOAD,
    OUTPUT_WINDOW,
    Attach,
    Detached,
    Errors,
    Event,
    Input,
    Output,
    Refused,
    Sessions,
    ShellReader,
    Start,
    Started,
    Taken,
    TakenOver,
    encode,
)
from dmsg_trio.apps.pty.process import Exit
from dmsg_trio.apps.pty.remote._remote import (
    AttachedAgain,
    CommandEnded,
    ConnectionLost,
    GivenUp,
    RemoteEvent,
    ShellRefusedError,
    Wanted,
)
from dmsg_trio.apps.pty.remote._resuming import (
    list_sessions,
    open_attached_shell,
    open_resuming_shell,
)
from dmsg_trio.apps.pty.remote._session import ResumingShell
from dmsg_trio.testing._pipe import MemoryStream, memory_connection
from tests.apps.pty.shells import Host, Played, echo, open_host

KEPT = Wanted(argv=("it",), keep=60)


class Breaking(MemoryStream):
    """An end of a connection that breaks after so many bytes each way."""

    def __init__(self, stream: MemoryStream, sends: float, receives: float) -> None:
        self._stream = stream
        self._sends = sends
        self._receives = receives

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if len(data) > self._sends:
            await self._stream.send_all(data[: int(self._sends)])
            await trio.sleep(0.001)  # so that it arrives
            self._stream.cut()
            raise trio.BrokenResourceError("cut")
        self._sends -= len(data)
        await self._stream.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = await self._stream.receive_some(max_bytes)
        if len(data) > self._receives:
            data, self._receives = data[: int(self._receives)], 0
            self._stream.cut()
            if not data:
                raise trio.BrokenResourceError("cut")
        else:
            self._receives -= len(data)
        return data

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


def breaking_dial(host: Host, cuts: list[tuple[int, int]]) -> Callable[[], Awaitable[Breaking]]:
    dial = host.dial_as()

    async def dial_breaking() -> Breaking:
        sends, receives = cuts.pop(0) if cuts else (math.inf, math.inf)
        return Breaking(await dial(), sends, receives)

    return dial_breaking


async def read_all(shell: ResumingShell) -> list[RemoteEvent]:
    return [event async for event in shell]


def joined(events: list[RemoteEvent], kind: type[Output | Errors] = Output) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, kind))


async def send_in_pieces(shell: ResumingShell, data: bytes, size: int) -> None:
    for start in range(0, len(data), size):
        await shell.send_input(data[start : start + size])
    await shell.end_input()


@settings(max_examples=60)
@given(
    cuts=st.lists(st.tuples(st.integers(0, 150_000), st.integers(0, 150_000)), max_size=8),
    size=st.integers(1, 600_000),
    piece=st.sampled_from([1000, 65536, 700_000]),
)
async def test_what_is_echoed_comes_back_whole_however_often_the_link_breaks(
    autojump_clock: MockClock, cuts: list[tuple[int, int]], size: int, piece: int
) -> None:
    data = random.Random(size).randbytes(size)
    async with open_host(echo) as host, trio.open_nursery() as nursery:
        async with open_resuming_shell(breaking_dial(host, list(cuts)), KEPT) as shell:
            nursery.start_soon(send_in_pieces, shell, data, piece)
            events = await read_all(shell)
    assert joined(events) == data
    assert events[-1] == CommandEnded(7, None)
    assert len(host.commands) == 1


@given(cuts=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 600)), max_size=10))
async def test_a_command_is_started_once_and_its_end_is_told_however_early_a_link_breaks(
    autojump_clock: MockClock, cuts: list[tuple[int, int]]
) -> None:
    async def speak(command: Played) -> None:
        for number in range(20):
            await command.sink.send(Output(b"%d " % number))
            await command.sink.send(Errors(b"%d!" % number))
        command.finish(Exit(signal="TERM"))

    async with open_host(speak) as host:
        async with open_resuming_shell(breaking_dial(host, list(cuts)), KEPT) as shell:
            events = await read_all(shell)
        assert joined(events) == b"".join(b"%d " % number for number in range(20))
        assert joined(events, Errors) == b"".join(b"%d!" % number for number in range(20))
        assert events[-1] == CommandEnded(None, "TERM")
    assert len(host.commands) == 1


async def test_a_loss_is_told_and_the_exit_comes_after_it(autojump_clock: MockClock) -> None:
    async with open_host(echo) as host:
        async with open_resuming_shell(host.dial_as(), KEPT) as shell:
            await shell.send_input(b"one")
            assert await anext(shell) == Output(b"one")
            host.links[-1].cut()
            assert isinstance(await anext(shell), ConnectionLost)
            host.commands[0].finish(Exit(code=3))
            assert await anext(shell) == AttachedAgain()
            assert await anext(shell) == CommandEnded(3)
            await trio.sleep(1)
            assert "0 sessions" in repr(host.shells)


async def test_the_shell_is_given_up_when_keep_is_over(autojump_clock: MockClock) -> None:
    async with open_host(echo) as host:
        async with open_resuming_shell(host.dial_as(), KEPT) as shell:
            host.is_reachable = False
            began = trio.current_time()
            host.links[-1].cut()
            assert isinstance(await anext(shell), ConnectionLost)
            assert await anext(shell) == GivenUp("no way there")
            assert 59 < trio.current_time() - began < 61
            with pytest.raises(trio.BrokenResourceError):
                await shell.send_input(b"more")
            await trio.sleep(2)
    ((_, command, line),) = host.notes.lines
    assert (command, line.signal, line.reason) == (("it",), "HUP", "alone for 60 s")


async def test_without_keep_a_lost_stream_is_the_end_on_both_sides(
    autojump_clock: MockClock,
) -> None:
    async with open_host(echo) as host:
        async with open_resuming_shell(host.dial_as(), Wanted(argv=("it",))) as shell:
            host.links[-1].cut()
            assert await read_all(shell) == [GivenUp("the connection was cut")]
            await trio.sleep(0.01)
        assert [line.signal for *_, line in host.notes.lines] == ["HUP"]


async def test_what_cannot_be_started_is_refused_with_the_code_of_a_shell(
    autojump_clock: MockClock,
) -> None:
    async with open_host(echo) as host:
        with pytest.raises(ShellRefusedError, match="no such file") as refused:
            async with open_resuming_shell(host.dial_as(), Wanted(argv=("nothing",))):
                pass
        assert refused.value.code == 127
        host.is_reachable = False
        with pytest.raises(OSError, match="no way there"):
            async with open_resuming_shell(host.dial_as(), KEPT):
                pass


async def test_input_waits_while_the_command_does_not_read(autojump_clock: MockClock) -> None:
    async def sleep(command: Played) -> None:
        await trio.sleep_forever()

    async with open_host(sleep) as host:
        async with open_resuming_shell(host.dial_as(), KEPT) as shell:
            await shell.send_input(bytes(INPUT_WINDOW))
            with trio.move_on_after(5) as waited:
                await shell.send_input(b"x")
            assert waited.cancelled_caught


async def test_who_detaches_finds_in_the_list_what_the_next_one_attaches_to(
    autojump_clock: MockClock,
) -> None:
    async with open_host(echo) as host:
        async with open_resuming_shell(host.dial_as(), KEPT) as shell:
            await shell.send_input(b"one")
            assert await anext(shell) == Output(b"one")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(shell.detach)
                assert await anext(shell) == Detached(24 * 3600)
        await trio.sleep(3600)
        (info,) = await list_sessions(await host.dial_as()())
        assert (info.session, info.argv, info.attached) == (shell.session, ("it",), False)
        async with open_attached_shell(host.dial_as(), info.session) as again:
            await again.send_input(b"two")
            await again.end_input()
            assert await read_all(again) == [Output(b"two"), CommandEnded(7)]
        assert await list_sessions(await host.dial_as()()) == []


async def test_who_was_taken_over_does_not_come_back(autojump_clock: MockClock) -> None:
    async with open_host(echo) as host:
        async with open_resuming_shell(host.dial_as(), KEPT) as first:
            host.is_reachable = False
            host.links[0].cut()
            await trio.sleep(1)
            host.is_reachable = True
            async with open_attached_shell(host.dial_as(), first.session) as second:
                events = await read_all(first)
                assert events[-1] == TakenOver()
                await second.send_input(b"still here")
                await second.end_input()
                assert await read_all(second) == [Output(b"still here"), CommandEnded(7)]


async def test_who_is_taken_over_while_attached_is_told(autojump_clock: MockClock) -> None:
    async with open_host(echo) as host:
        async with open_resuming_shell(host.dial_as(), KEPT) as first:
            async with open_attached_shell(host.dial_as(), first.session):
                assert await read_all(first) == [TakenOver()]
                assert len(host.links) == 2


async def test_sizes_and_signals_reach_the_command(autojump_clock: MockClock) -> None:
    async with open_host(echo) as host:
        async with open_resuming_shell(host.dial_as(), KEPT) as shell:
            await shell.resize(WindowSize(50, 132))
            await shell.signal("INT")
            await trio.sleep(0.1)
            assert host.commands[0].sizes == [WindowSize(50, 132)]
            assert host.commands[0].signals == [2]
            await shell.hang_up()
            assert await read_all(shell) == [CommandEnded(None, "HUP")]


async def test_who_is_cancelled_ends_the_command_at_once(autojump_clock: MockClock) -> None:
    """A signal to the program cancels all of it: the host hears of that, and waits for nobody."""
    async with open_host(echo) as host:
        with trio.CancelScope() as scope:
            async with open_resuming_shell(host.dial_as(), KEPT) as shell:
                await shell.send_input(b"x")
                await anext(shell)
                began = trio.current_time()
                scope.cancel()
                await anext(shell)
        assert scope.cancelled_caught
        assert trio.current_time() - began < 1
        assert host.commands[0].exit == Exit(signal="HUP")
        # Nobody will come back to ask how it ended, so that is not kept.
        assert await list_sessions(await host.dial_as()()) == []


async def test_leaving_the_block_ends_the_command(autojump_clock: MockClock) -> None:
    async with open_host(echo) as host:
        async with open_resuming_shell(host.dial_as(), KEPT):
            pass
        await trio.sleep(0.1)
        assert [line.reason for *_, line in host.notes.lines] == ["its client hung up"]


# ---- hosts that break the rules ----


class HostileHost:
    """Answers the first claim with STARTED and then with ``said``, the next with ``later``."""

    def __init__(self, nursery: trio.Nursery, said: list[Event], later: list[Event]) -> None:
        self._nursery = nursery
        self._said = [said, later]

    async def dial(self) -> MemoryStream:
        near, far = memory_connection()
        self._nursery.start_soon(self._serve, far, self._said.pop(0))
        return near

    async def _serve(self, stream: MemoryStream, said: list[Event]) -> None:
        async with stream:
            (claim,) = ShellReader(client=False).receive_data(await stream.receive_some())
            assert isinstance(claim, Start | Attach)
            for event in said:
                if isinstance(event, Started):
                    event = replace(event, session=claim.session)
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(encode(event))
            await trio.sleep(0.01)  # so that it arrives
            if self._said:
                stream.cut()
            await trio.sleep(1)


def started(*, input: int = 0, taken: int = 0, output: int = 0) -> Started:  # noqa: A002
    return Started(session="0" * 32, input=input, taken=taken, output=output, keep=60)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([started(output=1)], "output from byte 1 on, not from 0"),
        ([started(input=1)], "the host has 1 bytes of input, not 0 to 0"),
        ([started(), started()], "STARTED twice on one stream"),
        ([started(), Taken(1)], "the command took 1 bytes of input, not 0 to 0"),
        ([started(), Sessions(())], "Sessions within a session"),
        ([started(), Refused("oh")], "the host found fault with us: oh"),
        ([started(), Input(b"x")], "a frame of type 0x03 from the wrong side"),
        ([Output(b"x")], "Output before STARTED"),
        ([Refused("gone")], "gone"),
        (
            [started()] + [Output(bytes(MAX_PAYLOAD))] * 20,
            f"{OUTPUT_WINDOW + MAX_PAYLOAD} bytes of output into a window of {OUTPUT_WINDOW}",
        ),
    ],
)
async def test_a_host_that_breaks_the_rules_is_given_up(
    autojump_clock: MockClock, said: list[Event], reason: str
) -> None:
    async with trio.open_nursery() as nursery:
        host = HostileHost(nursery, [started()], said)
        async with open_resuming_shell(host.dial, KEPT) as shell:
            while True:
                event = await anext(shell)
                if isinstance(event, GivenUp):
                    break
                await trio.sleep(1)
            assert event == GivenUp(reason)
            with pytest.raises(StopAsyncIteration):
                await anext(shell)


async def test_a_list_that_ends_before_its_end_is_no_list(autojump_clock: MockClock) -> None:
    near, far = memory_connection()
    await far.send_all(encode(Sessions((), more=True)))
    await far.send_eof()
    with pytest.raises(trio.BrokenResourceError, match="within the list"):
        await list_sessions(near)
    for answer, error in ((Refused("no"), ShellRefusedError), (Input(b"x"), RemoteProtocolError)):
        near, far = memory_connection()
        await far.send_all(encode(answer))
        with pytest.raises(error):
            await list_sessions(near)
