"""Ways to a host, and which protocol is spoken at their end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import Client
from dmsg_trio._address import Address
from dmsg_trio._errors import UnreachableError
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.forward import FORWARD_URI
from dmsg_trio._wire.pty import PROXY_URI, PTY_URI
from dmsg_trio._wire.shell import SHELL_URI
from dmsg_trio.apps.pty._local import LocalSocket
from dmsg_trio.apps.pty._marked import MarkedStream
from dmsg_trio.apps.pty._requests import (
    PtyRefusedError,
    PtyUnansweredError,
    accept,
    accept_as_asked,
    receive_request_untrusted,
    refuse,
)
from dmsg_trio.apps.pty._routes import (
    CONNECT_URI,
    DirectRoute,
    HostUnreachedError,
    LocalRoute,
    NoLocalHostError,
)
from dmsg_trio.apps.pty.remote._choosing import open_remote_shell
from dmsg_trio.apps.pty.remote._remote import AttachedAgain, ConnectionLost, GivenUp, Wanted
from dmsg_trio.testing import Network
from tests.apps.pty.shells import Host, echo, open_host

HOST = Address(SecretKey(b"\x07" * 32).pk, 22)
Serve = Callable[[trio.abc.HalfCloseableStream], Awaitable[None]]


class LocalHost:
    """A program behind a local socket, which answers requests by a table: yes, or a reason for no."""

    def __init__(
        self, answers: dict[str, str | None], *, far: str | None = None, marks: bool = False
    ) -> None:
        self.asked: list[str] = []
        self.marked: list[bool] = []  # whether that was asked for
        self._marks = marks
        self._answers = answers  # None: yes
        self._far = far

    async def serve(self, stream: trio.abc.HalfCloseableStream) -> None:
        async with stream:
            request = await receive_request_untrusted(stream)
            self.asked.append(request.path)
            if (reason := self._answers.get(request.path, "")) is not None:
                await self._refuse(stream, reason)
                return
            if self._marks:
                self.marked.append(request.wants_marks)
                stream = await accept_as_asked(stream, request)
            else:
                await accept(stream)
            if request.path == CONNECT_URI:
                assert request.address() == HOST
                self.asked.append((await receive_request_untrusted(stream)).path)
                if self._far is not None:
                    await self._refuse(stream, self._far)
                    return
                await accept(stream)
            await stream.send_all(b"it is me")

    async def _refuse(self, stream: trio.abc.HalfCloseableStream, reason: str) -> None:
        if reason:
            await refuse(stream, reason)
        else:
            await stream.send_all(b"\x01")  # as the reference does it


@asynccontextmanager
async def listening(host: LocalHost, path: Path) -> AsyncIterator[LocalSocket]:
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(path))
    listener.listen()
    async with open_service_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, host.serve, [trio.SocketListener(listener)])
        yield LocalSocket("unix", str(path))


async def first_words(stream: trio.abc.HalfCloseableStream) -> bytes:
    async with stream:
        return bytes(await stream.receive_some())


# ---- through the local host ----


async def test_the_host_of_this_machine_is_asked_itself(tmp_path: Path) -> None:
    host = LocalHost({SHELL_URI: None})
    async with listening(host, tmp_path / "s") as socket:
        route = LocalRoute(socket)
        assert await first_words(await route.open(SHELL_URI)) == b"it is me"
        with pytest.raises(PtyRefusedError, match="without saying why"):
            await route.open("dmsgpty/other")
    assert host.asked == [SHELL_URI, "dmsgpty/other"]


@pytest.mark.parametrize("marks", [True, False])
@pytest.mark.parametrize("far", [None, HOST])
async def test_a_forward_is_had_also_of_a_host_that_marks_no_end(
    tmp_path: Path, far: Address | None, *, marks: bool
) -> None:
    """One that is older than marks says yes as ever, and is taken at its word."""
    host = LocalHost({FORWARD_URI: None, CONNECT_URI: None, SHELL_URI: None}, marks=marks)
    async with listening(host, tmp_path / "s") as socket:
        async with await LocalRoute(socket, far).open(FORWARD_URI) as stream:
            assert isinstance(stream, MarkedStream) is marks
            assert await stream.receive_some() == b"it is me"
        assert await first_words(await LocalRoute(socket, far).open(SHELL_URI)) == b"it is me"
    assert host.marked == ([True, False] if marks else [])


async def test_another_host_is_spoken_to_through_the_local_one(tmp_path: Path) -> None:
    host = LocalHost({CONNECT_URI: None})
    async with listening(host, tmp_path / "s") as socket:
        assert await first_words(await LocalRoute(socket, HOST).open(SHELL_URI)) == b"it is me"
    assert host.asked == [CONNECT_URI, SHELL_URI]


async def test_a_refusal_of_the_far_host_is_told_from_the_local_ones(tmp_path: Path) -> None:
    async with listening(LocalHost({CONNECT_URI: None}, far="not you"), tmp_path / "s") as socket:
        with pytest.raises(PtyRefusedError, match="not you"):
            await LocalRoute(socket, HOST).open(SHELL_URI)
    async with listening(LocalHost({CONNECT_URI: "it is dead"}), tmp_path / "t") as socket:
        with pytest.raises(HostUnreachedError, match="it is dead"):
            await LocalRoute(socket, HOST).open(SHELL_URI)


async def test_a_local_host_of_the_reference_carries_terminals_only(tmp_path: Path) -> None:
    host = LocalHost({PROXY_URI: None})
    async with listening(host, tmp_path / "s") as socket:
        route = LocalRoute(socket, HOST)
        with pytest.raises(PtyRefusedError) as refused:
            await route.open(SHELL_URI)
        assert refused.value.reason == ""
        assert await first_words(await route.open(PTY_URI)) == b"it is me"
    assert host.asked == [CONNECT_URI, PROXY_URI]


async def test_without_a_local_host_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoLocalHostError, match=f"no host answers at {tmp_path}/s"):
        await LocalRoute(LocalSocket("unix", str(tmp_path / "s"))).open(SHELL_URI)


# ---- as a client of the network ----


@asynccontextmanager
async def two_clients() -> AsyncIterator[tuple[Client, Client]]:
    async with Network() as network, network.client() as a, network.client() as b:
        yield a, b


async def test_a_client_dials_the_host_itself(autojump_clock: MockClock) -> None:
    async with two_clients() as (a, b), b.listen(22) as listener, trio.open_nursery() as nursery:
        route = DirectRoute(a, Address(b.pk, 22))

        async def answer(data: bytes) -> None:
            async with await listener.accept() as stream:
                assert (await receive_request_untrusted(stream)).path == SHELL_URI
                await stream.send_all(data)

        nursery.start_soon(answer, b"\x00hello")
        assert await first_words(await route.open(SHELL_URI)) == b"hello"
        nursery.start_soon(answer, b"\x01\x02no")
        with pytest.raises(PtyRefusedError, match="no"):
            await route.open(SHELL_URI)
        nursery.start_soon(answer, b"")
        with pytest.raises(PtyUnansweredError):
            await route.open(SHELL_URI)


async def test_a_host_that_is_not_there_is_out_of_reach(autojump_clock: MockClock) -> None:
    async with two_clients() as (a, b):
        for host in Address(b.pk, 22), HOST:
            with pytest.raises(UnreachableError):
                await DirectRoute(a, host).open(SHELL_URI)


# ---- which protocol ----


class Links:
    """A route to a host of shells, which can be closed to us."""

    def __init__(self, host: Host) -> None:
        self._dial = host.dial_as()
        self.refusal: str | None = None
        self.asked: list[str] = []

    async def open(self, uri: str) -> trio.abc.HalfCloseableStream:
        self.asked.append(uri)
        if self.refusal is not None:
            raise PtyRefusedError(self.refusal)
        return await self._dial()


async def test_a_shell_is_had_over_the_protocol_that_resumes(autojump_clock: MockClock) -> None:
    async with open_host(echo) as host:
        links = Links(host)
        async with open_remote_shell(links, Wanted(argv=("x",), keep=60)) as shell:
            assert shell.cannot == ()
            host.links[-1].cut()
            assert isinstance(await anext(shell), ConnectionLost)
            assert isinstance(await anext(shell), AttachedAgain)
    assert links.asked == [SHELL_URI, SHELL_URI]


async def test_who_is_refused_when_coming_back_does_not_try_for_ever(
    autojump_clock: MockClock,
) -> None:
    async with open_host(echo) as host:
        links = Links(host)
        async with open_remote_shell(links, Wanted(argv=("x",), keep=60)) as shell:
            links.refusal = "the key is not allowed here"
            host.links[-1].cut()
            began = trio.current_time()
            events = [event async for event in shell]
            assert events[-1] == GivenUp("the key is not allowed here")
            assert trio.current_time() - began < 2


async def test_a_no_with_a_reason_is_final_and_one_without_leads_to_the_reference(
    autojump_clock: MockClock,
) -> None:
    async with open_host(echo) as host:
        for reason, asked in ("not you", [SHELL_URI]), ("", [SHELL_URI, PTY_URI]):
            links = Links(host)
            links.refusal = reason
            with pytest.raises(PtyRefusedError):
                async with open_remote_shell(links, Wanted(argv=("x",))):
                    pass
            assert links.asked == asked
