"""What a host of shells lets whom do, and for how long."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import (
    INPUT_WINDOW,
    MAX_PAYLOAD,
    OUTPUT_WINDOW,
    Attach,
    Detach,
    Done,
    EndOfInput,
    Errors,
    Event,
    Exited,
    HangUp,
    Input,
    List,
    Output,
    Received,
    Refused,
    Sessions,
    ShellReader,
    Start,
    Started,
    Taken,
    TakenOver,
    Violated,
    encode,
)
from dmsg_trio.apps.pty._output_log import OutputLog
from dmsg_trio.apps.pty.host._audit import AuditedSession
from dmsg_trio.apps.pty.host._launch import Launcher
from dmsg_trio.apps.pty.host._shell_session import Patience, ShellSession
from dmsg_trio.apps.pty.host._shells import Limits, Shells
from dmsg_trio.apps.pty.process import Exit
from dmsg_trio.apps.pty.remote._remote import CommandEnded, Dial, ShellRefusedError, Wanted
from dmsg_trio.apps.pty.remote._resuming import (
    list_sessions,
    open_attached_shell,
    open_resuming_shell,
)
from dmsg_trio.testing._pipe import MemoryStream, memory_connection
from tests.apps.pty.shells import A, B, Host, Notes, Played, echo, open_host

KEPT = Wanted(argv=("it",), keep=60)


def start(number: int = 1, *, attempt: int = 0, keep: int = 60) -> Start:
    return Start(
        session=f"{number:032x}", client="c" * 32, attempt=attempt, keep=keep, argv=("it",)
    )


class Peer:
    """A client that says what a test tells it to."""

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        self._reader = ShellReader(client=True)
        self._events: list[Event | Violated] = []

    @classmethod
    async def of(cls, host: Host, *events: Event) -> Peer:
        peer = cls(await host.dial_as()())
        if events:
            await peer.say(*events)
        return peer

    async def say(self, *events: Event) -> None:
        await self.stream.send_all(b"".join(map(encode, events)))

    async def hear(self) -> Event | Violated | None:
        """Wait for the next frame; None is the end."""
        while not self._events:
            data = await self.stream.receive_some()
            if not data:
                return None
            self._events += self._reader.receive_data(data)
        return self._events.pop(0)


async def flood(command: Played) -> None:
    """Write for ever."""
    while True:
        await command.sink.send(Output(bytes(MAX_PAYLOAD)))


async def sleep(command: Played) -> None:
    await trio.sleep_forever()


async def test_a_key_sees_and_has_its_own_sessions_only(autojump_clock: MockClock) -> None:
    async with open_host(echo) as host:
        async with open_resuming_shell(host.dial_as(A), KEPT) as shell:
            assert len(await list_sessions(await host.dial_as(A)())) == 1
            assert await list_sessions(await host.dial_as(B)()) == []
            with pytest.raises(ShellRefusedError, match="there is no such session"):
                async with open_attached_shell(host.dial_as(B), shell.session):
                    pass


async def test_a_removed_key_loses_its_sessions_and_streams_at_once(
    autojump_clock: MockClock,
) -> None:
    async with open_host(echo) as host:
        mine = await Peer.of(host, start())
        assert isinstance(await mine.hear(), Started)
        async with open_resuming_shell(host.dial_as(B), KEPT) as other:
            host.remove(A)
            with pytest.raises(trio.BrokenResourceError):
                while await mine.hear() is not None:
                    pass
            await trio.sleep(0.1)
            assert [(key, line.reason) for key, _, line in host.notes.lines] == [
                (A, "its key was removed")
            ]
            await other.send_input(b"still here")
            assert await anext(other) == Output(b"still here")


@pytest.mark.faulty
async def test_a_bug_in_one_session_ends_that_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_host(echo) as host:
        async with open_resuming_shell(host.dial_as(B), KEPT) as other:
            with monkeypatch.context() as patched:
                patched.setattr(ShellSession, "_read", lambda *_: 1 / 0)
                mine = await Peer.of(host, start())
                while await mine.hear() is not None:
                    pass
            (fault,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
            assert fault.getMessage().endswith("ended by a fault of ours")
            assert [key for key, _, _ in host.notes.lines] == [A]
            await other.send_input(b"still here")
            assert await anext(other) == Output(b"still here")


async def test_a_start_that_is_repeated_starts_nothing(autojump_clock: MockClock) -> None:
    async with open_host(echo) as host:
        first = await Peer.of(host, start())
        assert isinstance(await first.hear(), Started)
        second = await Peer.of(host, start(attempt=1))
        assert isinstance(await second.hear(), Started)
        assert await first.hear() == TakenOver()
        assert await first.hear() is None
        late = await Peer.of(host, start(attempt=1))
        assert await late.hear() == TakenOver()
        assert len(host.commands) == 1


@pytest.mark.parametrize("key_limit", [True, False])
async def test_there_are_so_many_sessions_and_no_more(
    autojump_clock: MockClock, key_limit: bool
) -> None:
    limits = Limits(sessions_per_key=1) if key_limit else Limits(sessions=1)
    async with open_host(echo, limits) as host:
        async with open_resuming_shell(host.dial_as(), KEPT):
            with pytest.raises(ShellRefusedError, match=r"^1 sessions .*, which is the limit$"):
                async with open_resuming_shell(host.dial_as(), KEPT):
                    pass


async def test_an_ended_session_that_nobody_came_back_to_makes_room(
    autojump_clock: MockClock,
) -> None:
    async with open_host(echo, Limits(sessions_per_key=1)) as host:
        gone = await Peer.of(host, start(1))
        assert isinstance(await gone.hear(), Started)
        gone.stream.cut()
        await trio.sleep(1)
        host.commands[0].finish()
        await trio.sleep(1)
        async with open_resuming_shell(host.dial_as(), KEPT) as shell:
            (info,) = await list_sessions(await host.dial_as()())
            assert info.session == shell.session


async def test_a_drain_hangs_up_tells_who_is_there_and_refuses_who_comes(
    autojump_clock: MockClock,
) -> None:
    async with open_host(echo) as host:
        gone = await Peer.of(host, start(1))
        assert isinstance(await gone.hear(), Started)
        gone.stream.cut()
        async with open_resuming_shell(host.dial_as(), KEPT) as shell:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(host.shells.drain)
                assert [event async for event in shell] == [CommandEnded(None, "HUP")]
            assert len(host.notes.lines) == 2
            assert {line.reason for *_, line in host.notes.lines} == {"the host is shutting down"}
            with pytest.raises(ShellRefusedError, match="the host is shutting down"):
                async with open_resuming_shell(host.dial_as(), KEPT):
                    pass


async def test_what_is_idle_is_hung_up_on(autojump_clock: MockClock) -> None:
    async with open_host(echo, Limits(idle=30)) as host:
        async with open_resuming_shell(host.dial_as(), KEPT) as shell:
            await trio.sleep(20)
            await shell.send_input(b"x")
            assert await anext(shell) == Output(b"x")
            began = trio.current_time()
            assert await anext(shell) == CommandEnded(None, "HUP")
            assert 29 < trio.current_time() - began < 31


async def test_a_command_waits_for_a_client_that_does_not_acknowledge(
    autojump_clock: MockClock,
) -> None:
    async with open_host(flood) as host:
        peer = await Peer.of(host, start())
        heard = 0
        with trio.move_on_after(10):
            while event := await peer.hear():
                heard += len(event.data) if isinstance(event, Output) else 0
        assert OUTPUT_WINDOW - 3 * MAX_PAYLOAD < heard <= OUTPUT_WINDOW
        await peer.say(Received(heard))
        assert isinstance(await peer.hear(), Output)


async def test_the_exit_is_kept_until_the_client_says_that_it_knows(
    autojump_clock: MockClock,
) -> None:
    async with open_host(echo) as host:
        peer = await Peer.of(host, start())
        assert isinstance(await peer.hear(), Started)
        await peer.say(Input(b"x"), EndOfInput())
        heard = [await peer.hear() for _ in range(3)]
        assert heard[-1] == Exited(code=7)
        await peer.say(Received(1))
        peer.stream.cut()
        await trio.sleep(50)
        again = Attach(session=f"{1:032x}", client="c" * 32, attempt=1, output=1)
        peer = await Peer.of(host, again)
        assert await peer.hear() == Started(
            session=again.session, input=1, taken=1, output=1, keep=60, input_ended=True
        )
        assert await peer.hear() == Exited(code=7)
        await peer.say(Done())
        assert await peer.hear() is None
        ((_, _, line),) = host.notes.lines
        assert (line.bytes_in, line.bytes_out, line.exit_code) == (1, 1, 7)
        assert repr(host.shells) == "<Shells with 0 sessions>"


async def test_without_a_sign_of_life_not_even_an_exit_is_kept_for_ever(
    autojump_clock: MockClock,
) -> None:
    async with open_host(echo) as host:
        peer = await Peer.of(host, start())
        host.commands.clear()
        assert isinstance(await peer.hear(), Started)
        await peer.say(EndOfInput())
        assert await peer.hear() == Exited(code=7)
        assert await peer.hear() is None
        assert repr(host.shells) == "<Shells with 0 sessions>"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([Received(1)], "1 bytes received, 0 were sent"),
        ([Done()], "done before the exit was told"),
        ([EndOfInput(), Input(b"x")], "1 bytes of input behind its end"),
        ([start()], "Start on a stream that has a session"),
        ([Output(b"x")], "a frame of type 0x82 from the wrong side"),
        (
            [Input(bytes(MAX_PAYLOAD))] * (INPUT_WINDOW // MAX_PAYLOAD) + [Input(b"x")],
            f"{INPUT_WINDOW + 1} bytes of input into a window of {INPUT_WINDOW}",
        ),
    ],
)
async def test_who_breaks_the_rules_is_told_so_and_loses_the_stream(
    autojump_clock: MockClock, said: list[Event], reason: str
) -> None:
    async with open_host(sleep) as host:
        peer = await Peer.of(host, start())
        assert isinstance(await peer.hear(), Started)
        await peer.say(*said)
        while isinstance(answer := await peer.hear(), Taken):
            pass
        assert answer == Refused(reason)
        assert await peer.hear() is None


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Input(b"x"), "Input on a stream without a session"),
        (Output(b"x"), "a frame of type 0x82 from the wrong side"),
        (
            Attach(session="0" * 32, client="0" * 32, attempt=0, output=1),
            "there is no such session: it has ended, or the host was started anew",
        ),
        (None, "no frame within 30 s"),
    ],
)
async def test_a_stream_begins_with_what_it_is_for(
    autojump_clock: MockClock, said: Event | None, reason: str
) -> None:
    async with open_host(sleep) as host:
        peer = await Peer.of(host, *([said] if said else []))
        assert await peer.hear() == Refused(reason)
        assert await peer.hear() is None


async def test_a_count_of_output_that_cannot_be_is_refused(autojump_clock: MockClock) -> None:
    async with open_host(sleep) as host:
        first = await Peer.of(host, start())
        assert isinstance(await first.hear(), Started)
        claim = Attach(session=f"{1:032x}", client="c" * 32, attempt=1, output=5)
        peer = await Peer.of(host, claim)
        assert await peer.hear() == Refused("output from byte 5: there is 0 to 0")


async def test_who_detached_is_kept_longer_and_then_hung_up_on(autojump_clock: MockClock) -> None:
    async with open_host(sleep, Limits(keep_detached=1000)) as host:
        peer = await Peer.of(host, start())
        await peer.say(Detach())
        while await peer.hear() is not None:
            pass
        await trio.sleep(990)
        assert not host.notes.lines
        await trio.sleep(20)
        assert [line.reason for *_, line in host.notes.lines] == ["alone for 1000 s"]


async def test_what_its_client_hung_up_on_is_gone_as_soon_as_it_is_dead(
    autojump_clock: MockClock,
) -> None:
    async with open_host(sleep) as host:
        peer = await Peer.of(host, start())
        assert isinstance(await peer.hear(), Started)
        command = host.commands[0]
        die = command.hang_up

        async def die_slowly() -> Exit:
            await trio.sleep(5)
            return await die()

        command.hang_up = die_slowly  # type: ignore[method-assign]
        await peer.say(HangUp())
        await trio.sleep(2)
        peer.stream.cut()
        await trio.sleep(2.9)
        assert repr(host.shells) == "<Shells with 1 sessions>"
        await trio.sleep(0.2)
        assert repr(host.shells) == "<Shells with 0 sessions>"
        assert [line.reason for *_, line in host.notes.lines] == ["its client hung up"]


async def test_a_session_waits_for_the_stream_that_asked_for_it(
    autojump_clock: MockClock,
) -> None:
    @asynccontextmanager
    async def launch(_: Start) -> AsyncIterator[Played]:
        yield Played()

    patience = Patience(keep=0, detached=0)
    session, line = ShellSession(A, start(keep=0), patience, 0), AuditedSession()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run, launch, line)
        await trio.sleep(29)
        assert session.exit is None
    assert line.reason == "alone for 30 s"


async def test_many_sessions_are_listed_and_long_commands_shortened(
    autojump_clock: MockClock,
) -> None:
    async with open_host(sleep) as host:
        for number in range(20):
            peer = await Peer.of(
                host,
                Start(
                    session=f"{number:032x}",
                    client="c" * 32,
                    attempt=0,
                    keep=60,
                    argv=("\x01" * 10000, "x"),
                ),
            )
            assert isinstance(await peer.hear(), Started)
        asking = await Peer.of(host, List())
        heard = [await asking.hear() for _ in range(3)]
        assert [len(each.sessions) for each in heard if isinstance(each, Sessions)] == [8, 8, 4]
        infos = await list_sessions(await host.dial_as()())
        assert len(infos) == 20
        assert infos[0].argv == ("\x01" * 1023 + "…",)


async def test_a_cancelled_host_ends_its_commands_and_notes_them(
    autojump_clock: MockClock,
) -> None:
    async with open_host(sleep) as host:
        peer = await Peer.of(host, start())
        assert isinstance(await peer.hear(), Started)
    assert len(host.notes.lines) == 1
    assert host.commands[0].exit == Exit(signal="HUP")


# ---- the log of output ----


def test_small_pieces_are_put_together_and_cost_little() -> None:
    log = OutputLog()
    while log.has_room:
        log.append(Output(b"x"))
        log.append(Output(b"y"))
    assert log.end > OUTPUT_WINDOW * 0.85
    assert log.read(1) == Output((b"yx" * MAX_PAYLOAD)[: MAX_PAYLOAD - 1])
    assert log.read(log.end) is None


def test_pieces_that_alternate_are_counted_with_what_they_cost() -> None:
    log = OutputLog()
    while log.has_room:
        log.append(Output(b"x"))
        log.append(Errors(b"y"))
    assert log.end < 20_000
    log.forget(log.end - 1)
    assert log.read(log.end - 1) == Errors(b"y")
    log.forget(log.end)
    assert log.cost == 0


# ---- with real commands ----


@asynccontextmanager
async def open_real_host() -> AsyncIterator[tuple[Shells, Dial]]:
    shells = Shells(Launcher(), Notes())
    async with trio.open_nursery() as nursery:
        await nursery.start(shells.run)

        async def serve(stream: MemoryStream) -> None:
            async with stream:
                await shells.serve(stream, A)

        async def dial() -> MemoryStream:
            near, far = memory_connection()
            nursery.start_soon(serve, far)
            return near

        yield shells, dial
        nursery.cancel_scope.cancel()


async def test_a_real_command_on_pipes_keeps_its_bytes_and_kinds_apart() -> None:
    data = bytes(range(256)) * 1000
    wanted = Wanted(argv=("/bin/sh", "-c", "cat; echo oops >&2; exit 9"), keep=60)
    async with open_real_host() as (_, dial), open_resuming_shell(dial, wanted) as shell:
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                await shell.send_input(data)
                await shell.end_input()

            nursery.start_soon(send)
            events = [event async for event in shell]
    assert b"".join(each.data for each in events if isinstance(each, Output)) == data
    assert b"".join(each.data for each in events if isinstance(each, Errors)) == b"oops\n"
    assert events[-1] == CommandEnded(9)


async def test_a_real_terminal_has_the_size_and_the_name_that_were_asked_for() -> None:
    wanted = Wanted(
        argv=("/bin/sh", "-c", "stty size; echo $TERM; kill -TERM $$"),
        terminal="xterm-256color",
        size=WindowSize(33, 111),
    )
    async with open_real_host() as (_, dial), open_resuming_shell(dial, wanted) as shell:
        events = [event async for event in shell]
    said = b"".join(each.data for each in events if isinstance(each, Output))
    assert said == b"33 111\r\nxterm-256color\r\n"
    assert events[-1] == CommandEnded(None, "TERM")


async def test_a_real_command_is_hung_up_on_and_one_that_is_missing_refused() -> None:
    async with open_real_host() as (shells, dial):
        async with open_resuming_shell(dial, Wanted(argv=("/bin/sleep", "1000"))) as shell:
            await shell.hang_up()
            assert [event async for event in shell] == [CommandEnded(None, "HUP")]
        with pytest.raises(ShellRefusedError, match="no such file or directory") as refused:
            async with open_resuming_shell(dial, Wanted(argv=("/nonexistent",))):
                pass
        assert refused.value.code == 127
        with trio.fail_after(5):
            await shells.drain()
