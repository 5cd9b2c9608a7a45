"""The reference's services, as those who call them know them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dmsg_trio._errors import ConfigError, RemoteProtocolError, UnreachableError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.resettable import ResettableStream
from dmsg_trio._wire import gob
from dmsg_trio._wire.pty import (
    ALREADY_RUNNING,
    END_OF_COMMAND,
    NO_SESSION,
    PTY_URI,
    READ,
    SET_SIZE,
    START,
    STOP,
    WHITELIST,
    WHITELIST_ADD,
    WHITELIST_REMOVE,
    WRITE,
    WindowSize,
)
from dmsg_trio._wire.rpc import Method, RpcCaller
from dmsg_trio.apps.pty._requests import (
    PtyRefusedError,
    Request,
    accept,
    receive_request_untrusted,
    refuse,
    request,
)
from dmsg_trio.apps.pty._rpc import RpcClient, RpcError, open_rpc
from dmsg_trio.apps.pty.host._proxy import serve_connection, serve_proxy
from dmsg_trio.apps.pty.host._service import (
    CHUNK,
    MAX_READ,
    Launch,
    Terminal,
    serve_pty,
    serve_whitelist,
)
from dmsg_trio.apps.pty.process import Command, StartError, open_process_on_terminal
from dmsg_trio.testing._pipe import MemoryStream, memory_connection


class Screen:
    """A command that says what it is told to, and keeps what is typed."""

    def __init__(self, name: str, arguments: tuple[str, ...], size: WindowSize) -> None:
        self.command = (name, *arguments)
        self.sizes = [size]
        self.typed = b""
        self.ended = False
        self.takes_input = trio.Event()
        self.takes_input.set()
        self._say, self._said = trio.open_memory_channel[bytes](10)

    def say(self, data: bytes) -> None:
        self._say.send_nowait(data)

    def end(self) -> None:
        self._say.close()

    async def read(self) -> bytes:
        try:
            return await self._said.receive()
        except trio.EndOfChannel:
            return b""

    async def write(self, data: bytes) -> None:
        await self.takes_input.wait()
        if self.ended:
            raise trio.BrokenResourceError
        self.typed += data

    def resize(self, size: WindowSize) -> None:
        self.sizes.append(size)


class Host:
    """Where commands are started, and what became of them."""

    def __init__(self) -> None:
        self.screens: list[Screen] = []
        self.may_end = trio.Event()
        self.may_end.set()

    @asynccontextmanager
    async def launch(
        self, name: str, arguments: tuple[str, ...], size: WindowSize
    ) -> AsyncIterator[Terminal]:
        if name == "/nonexistent":
            raise StartError("fork/exec /nonexistent: no such file or directory")
        screen = Screen(name, arguments, size)
        self.screens.append(screen)
        try:
            yield screen
        finally:
            with trio.CancelScope(shield=True):
                await self.may_end.wait()
            screen.ended = True

    @property
    def screen(self) -> Screen:
        return self.screens[-1]


@asynccontextmanager
async def calling(launch: Launch) -> AsyncIterator[RpcClient]:
    """Be a client of the terminal service for the block."""
    near, far = memory_connection()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_pty, far, launch)
        async with near, open_rpc(near) as rpc:
            yield rpc


async def fails(rpc: RpcClient, method: Method, argument: gob.Value, text: str) -> None:
    with pytest.raises(RpcError) as failed:
        await rpc.call(method, argument)
    assert str(failed.value) == text


SHELL: gob.Value = {"Name": "/bin/sh", "Arg": ["-c", "echo hi"]}


# ---- a terminal ----


@pytest.mark.parametrize(
    ("method", "argument"), [(READ, 10), (READ, 0), (WRITE, b"x"), (SET_SIZE, {}), (STOP, {})]
)
async def test_without_a_command_there_is_nothing_to_talk_to(
    method: Method, argument: gob.Value
) -> None:
    async with calling(Host().launch) as rpc:
        await fails(rpc, method, argument, NO_SESSION)


async def test_a_command_is_started_with_its_arguments_and_size() -> None:
    host = Host()
    async with calling(host.launch) as rpc:
        size: gob.Value = {"Rows": 30, "Cols": 100, "X": 640, "Y": 480}
        await rpc.call(START, {"Name": "/bin/sh", "Arg": ["-c", "echo hi"], "Size": size})
        assert host.screen.command == ("/bin/sh", "-c", "echo hi")
        assert host.screen.sizes == [WindowSize(30, 100, 640, 480)]


async def test_a_terminal_without_a_size_has_none_until_it_is_given_one() -> None:
    host = Host()
    async with calling(host.launch) as rpc:
        await rpc.call(START, SHELL)
        await rpc.call(SET_SIZE, {"Rows": 50, "Cols": 132})
        assert host.screen.sizes == [WindowSize(0, 0), WindowSize(50, 132)]


async def test_a_command_that_cannot_be_started_leaves_room_for_another() -> None:
    async with calling(Host().launch) as rpc:
        why = "fork/exec /nonexistent: no such file or directory"
        await fails(rpc, START, {"Name": "/nonexistent"}, why)
        await fails(rpc, START, {}, "exec: no command")
        await rpc.call(START, SHELL)


async def test_one_command_runs_at_a_time() -> None:
    async with calling(Host().launch) as rpc:
        await rpc.call(START, SHELL)
        await fails(rpc, START, SHELL, ALREADY_RUNNING)


async def test_a_read_that_waits_holds_up_no_write() -> None:
    host, given = Host(), list[gob.Value]()
    async with calling(host.launch) as rpc:
        await rpc.call(START, SHELL)
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                given.append(await rpc.call(READ, 100))

            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            assert await rpc.call(WRITE, b"hello\n") == 6
            assert (host.screen.typed, given) == (b"hello\n", [])
            host.screen.say(b"hello\r\n")
    assert given == [b"hello\r\n"]


async def test_reads_get_no_more_than_they_ask_for_and_lose_nothing() -> None:
    host = Host()
    async with calling(host.launch) as rpc:
        await rpc.call(START, SHELL)
        host.screen.say(b"a" * CHUNK + b"bcdef")
        assert await rpc.call(READ, 0) == b""
        assert await rpc.call(READ, MAX_READ) == b"a" * CHUNK
        assert await rpc.call(READ, 2) == b"bc"
        assert await rpc.call(READ, 32768) == b"def"


@pytest.mark.parametrize("size", [-1, -(2**63), MAX_READ + 1, 2**63 - 1])
async def test_reads_of_absurd_sizes_are_errors_and_no_more(size: int) -> None:
    host = Host()
    async with calling(host.launch) as rpc:
        await rpc.call(START, SHELL)
        why = f"a read of {size} bytes: from 0 to {MAX_READ} may be asked for"
        await fails(rpc, READ, size, why)
        host.screen.say(b"alive")
        assert await rpc.call(READ, 100) == b"alive"


async def test_the_end_of_a_command_is_told_to_all_who_read_until_it_is_stopped() -> None:
    host = Host()
    async with calling(host.launch) as rpc:
        await rpc.call(START, SHELL)
        host.screen.say(b"last words")
        host.screen.end()
        assert await rpc.call(READ, 100) == b"last words"
        await fails(rpc, READ, 100, END_OF_COMMAND)
        await fails(rpc, READ, 100, END_OF_COMMAND)
        await fails(rpc, START, SHELL, ALREADY_RUNNING)
        await rpc.call(STOP, {})
        await fails(rpc, READ, 100, NO_SESSION)


async def test_what_is_typed_for_a_command_that_has_ended_is_dropped() -> None:
    host = Host()
    async with calling(host.launch) as rpc:
        await rpc.call(START, SHELL)
        host.screen.ended = True
        assert await rpc.call(WRITE, b"x") == 1
        assert host.screen.typed == b""


async def test_after_a_stop_another_command_can_be_started() -> None:
    host = Host()
    async with calling(host.launch) as rpc:
        for _ in range(3):
            await rpc.call(START, SHELL)
            await rpc.call(STOP, {})
            await fails(rpc, STOP, {}, NO_SESSION)
    assert [screen.ended for screen in host.screens] == [True] * 3


async def test_a_stop_waits_for_nobody_and_ends_those_who_wait() -> None:
    host = Host()
    async with calling(host.launch) as rpc:
        await rpc.call(START, SHELL)
        host.screen.takes_input = trio.Event()
        host.may_end = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, rpc, READ, 100, END_OF_COMMAND)
            nursery.start_soon(fails, rpc, READ, 100, END_OF_COMMAND)
            nursery.start_soon(fails, rpc, WRITE, b"x", NO_SESSION)
            await wait_all_tasks_blocked()
            await rpc.call(STOP, {})
        assert not host.screen.ended
        host.may_end.set()


async def test_the_next_command_waits_until_the_stopped_one_is_gone() -> None:
    host = Host()
    async with calling(host.launch) as rpc:
        await rpc.call(START, SHELL)
        host.may_end = trio.Event()
        await rpc.call(STOP, {})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rpc.call, START, SHELL)
            await wait_all_tasks_blocked()
            assert len(host.screens) == 1
            await fails(rpc, START, SHELL, ALREADY_RUNNING)
            host.may_end.set()
        assert len(host.screens) == 2


async def test_a_command_ends_with_its_connection_whoever_waits_for_it() -> None:
    host = Host()
    near, far = memory_connection()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_pty, far, host.launch)
        async with open_rpc(near) as rpc:
            await rpc.call(START, SHELL)
            async with trio.open_nursery() as readers:
                readers.start_soon(rpc.call, READ, 100)
                await wait_all_tasks_blocked()
                readers.cancel_scope.cancel()
        assert not host.screen.ended
        await near.aclose()
    assert host.screen.ended


async def test_bytes_that_are_no_calls_end_the_connection_and_its_command() -> None:
    host = Host()
    near, far = memory_connection()
    caller = RpcCaller()
    await near.send_all(caller.call(START, SHELL)[1] + caller.call(READ, 10)[1])
    with pytest.raises(RemoteProtocolError, match="a message of 18446744073709551615 bytes"):
        async with open_service_nursery() as nursery:
            nursery.start_soon(serve_pty, far, host.launch)
            assert await near.receive_some()
            await near.send_all(b"\xf8" + b"\xff" * 8)
            await trio.sleep_forever()
    assert host.screen.ended


# ---- a real one ----


def launch_here(
    name: str, arguments: tuple[str, ...], size: WindowSize
) -> AbstractAsyncContextManager[Terminal]:
    command = Command(argv=(name, *arguments), environment={"PATH": os.environ["PATH"]})
    return open_process_on_terminal(command, size)


async def read_all(rpc: RpcClient) -> bytes:
    """Read until the command ends."""
    output = b""
    with pytest.raises(RpcError) as ended:
        while True:
            piece = await rpc.call(READ, 32768)
            assert isinstance(piece, bytes)
            output += piece
    assert str(ended.value) == END_OF_COMMAND
    return output


async def test_a_real_command_reads_writes_and_ends() -> None:
    async with calling(launch_here) as rpc:
        script = "stty size; read x; echo got $x; seq 20000 | tail -c 100000 | wc -c"
        argument: gob.Value = {
            "Name": "/bin/sh",
            "Arg": ["-c", script],
            "Size": {"Rows": 30, "Cols": 100},
        }
        with trio.fail_after(20):
            await rpc.call(START, argument)
            assert await rpc.call(READ, 32768) == b"30 100\r\n"
            await rpc.call(WRITE, b"hello\n")
            assert (await read_all(rpc)).split() == [b"hello", b"got", b"hello", b"100000"]


async def test_a_real_command_that_cannot_be_started_says_so_as_the_reference_does() -> None:
    async with calling(launch_here) as rpc:
        why = "fork/exec /nonexistent: no such file or directory"
        await fails(rpc, START, {"Name": "/nonexistent"}, why)


async def test_a_real_command_is_stopped_while_it_is_read_and_another_one_starts() -> None:
    async with calling(launch_here) as rpc:
        with trio.fail_after(20):
            await rpc.call(START, {"Name": "/bin/cat"})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fails, rpc, READ, 100, END_OF_COMMAND)
                await wait_all_tasks_blocked()
                await rpc.call(STOP, {})
            await rpc.call(START, {"Name": "/bin/echo", "Arg": ["again"]})
            assert await read_all(rpc) == b"again\r\n"


# ---- the allow list ----


class Keys:
    """An allow list in memory."""

    def __init__(self) -> None:
        self.keys: list[PublicKey] = []

    async def add(self, keys: Iterable[PublicKey], /) -> None:
        wanted = list(keys)
        known = [pk for pk in wanted if pk in self.keys]
        self.keys += [pk for pk in wanted if pk not in known]
        if known:
            names = ",".join(map(str, known))
            raise ConfigError(f"skipping append for {names}. Already exists")

    async def remove(self, keys: Iterable[PublicKey], /) -> None:
        unwanted = set(keys)
        self.keys = [pk for pk in self.keys if pk not in unwanted]


async def test_the_allow_list_is_shown_and_changed() -> None:
    near, far = memory_connection()
    a, b, c = (SecretKey.generate().pk for _ in range(3))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_whitelist, far, Keys())
        async with near, open_rpc(near) as rpc:
            assert await rpc.call(WHITELIST, {}) == []
            await rpc.call(WHITELIST_ADD, [a.raw, b.raw])
            assert await rpc.call(WHITELIST, {}) == [a.raw, b.raw]
            why = f"skipping append for {a},{b}. Already exists"
            await fails(rpc, WHITELIST_ADD, [a.raw, c.raw, b.raw], why)
            assert await rpc.call(WHITELIST, {}) == [a.raw, b.raw, c.raw]
            await rpc.call(WHITELIST_REMOVE, [b.raw])
            await rpc.call(WHITELIST_REMOVE, [b.raw])
            assert await rpc.call(WHITELIST, {}) == [a.raw, c.raw]


@pytest.mark.parametrize(
    ("raw", "why"),
    [(b"", "33 bytes, not 0"), (b"\x02" * 32, "33 bytes, not 32"), (bytes(33), "not a point")],
)
async def test_what_is_no_key_is_not_added(raw: bytes, why: str) -> None:
    near, far = memory_connection()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_whitelist, far, Keys())
        async with near, open_rpc(near) as rpc:
            with pytest.raises(RpcError, match=why):
                await rpc.call(WHITELIST_ADD, [raw])
            assert await rpc.call(WHITELIST, {}) == []


# ---- a terminal of another host ----


class OtherHost:
    """A host that can be dialed."""

    def __init__(self, host: Host | None = None, refusal: str | None = None) -> None:
        self._host = host or Host()
        self._refusal = refusal
        self.asked: list[str] = []
        self.ends: list[MemoryStream] = []

    async def dial(self, nursery: trio.Nursery) -> MemoryStream:
        near, far = memory_connection()
        self.ends.append(far)
        nursery.start_soon(self._serve, far)
        return near

    async def _serve(self, far: MemoryStream) -> None:
        async with far:
            if self._refusal is not None:
                await refuse(far, self._refusal)
                return
            self.asked.append((await receive_request_untrusted(far)).path)
            await accept(far)
            await serve_pty(far, self._host.launch)


ASKED = Request("dmsgpty/connect")


async def unreachable() -> MemoryStream:
    raise UnreachableError(306)


@pytest.mark.parametrize("proxied", [True, False])
async def test_another_host_is_used_as_this_one_is(proxied: bool) -> None:
    other_host = Host()
    other = OtherHost(other_host)
    near, far = memory_connection()
    async with trio.open_nursery() as nursery:
        serve = serve_proxy if proxied else partial(serve_connection, asked=ASKED)
        nursery.start_soon(serve, far, partial(other.dial, nursery))
        assert await near.receive_some(1) == b"\x00"
        if not proxied:
            await request(near, PTY_URI)
        async with near, open_rpc(near) as rpc:
            await rpc.call(START, {"Name": "/bin/sh", "Size": {"Rows": 30, "Cols": 100}})
            other_host.screen.say(b"hello")
            assert await rpc.call(READ, 100) == b"hello"
    assert other.asked == [PTY_URI]
    assert other_host.screen.sizes == [WindowSize(30, 100)]
    assert other_host.screen.ended


async def test_another_host_that_cannot_be_reached_is_a_refusal_with_a_reason() -> None:
    near, far = memory_connection()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_proxy, far, unreachable)
        with pytest.raises(PtyRefusedError, match="nobody listens on this port"):
            await request(near, "dmsgpty/proxy")
        await near.aclose()


@pytest.mark.parametrize(
    ("said", "told"), [("not on the list", "not on the list"), ("", "without saying why")]
)
async def test_the_refusal_of_another_host_is_passed_on(said: str, told: str) -> None:
    other = OtherHost(refusal=said)
    near, far = memory_connection()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_proxy, far, partial(other.dial, nursery))
        with pytest.raises(PtyRefusedError, match=told):
            await request(near, "dmsgpty/proxy")
        await near.aclose()


async def test_a_connection_carries_the_end_of_one_direction_and_goes_on_with_the_other() -> None:
    near, far = memory_connection()
    other_near, other_far = memory_connection()

    async def dial() -> MemoryStream:
        return other_near

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, far, dial, ASKED)
        assert await near.receive_some(1) == b"\x00"
        await near.send_all(b"question")
        await near.send_eof()
        assert b"".join([data async for data in other_far]) == b"question"
        await other_far.send_all(b"answer")
        await other_far.send_eof()
        assert b"".join([data async for data in near]) == b"answer"


async def test_a_proxied_terminal_ends_with_its_client_although_the_other_host_does_not_end(
    autojump_clock: MockClock,
) -> None:
    near, far = memory_connection()
    other_near, other_far = memory_connection()

    async def dial() -> MemoryStream:
        return other_near

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_proxy, far, dial)
            await receive_request_untrusted(other_far)
            await accept(other_far)
            assert await near.receive_some(1) == b"\x00"
            await near.aclose()
        assert b"".join([data async for data in other_far]) == b""


class Droppable(ResettableStream):
    """A stream that can be dropped, as those of the network can."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream
        self.was_reset = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def reset(self) -> None:
        self.was_reset = True
        self._stream.cut()


async def test_a_connection_that_is_reset_resets_the_other_one_too() -> None:
    near, far = memory_connection()
    other_near, other_far = memory_connection()
    dialed = Droppable(other_near)

    async def dial() -> Droppable:
        return dialed

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, far, dial, ASKED)
        assert await near.receive_some(1) == b"\x00"
        near.cut()
    assert dialed.was_reset
    with pytest.raises(trio.BrokenResourceError):
        await other_far.receive_some()
