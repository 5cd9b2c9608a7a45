"""What the tests of the web terminal have in common: shells without a host, a server, a client."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import msgspec
import trio
from wsproto.connection import ConnectionType

from dmsg_trio._errors import DmsgError
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import Output
from dmsg_trio.apps.pty.process import Command, TerminalProcess, open_process_on_terminal
from dmsg_trio.apps.pty.remote._remote import CommandEnded, RemoteEvent
from dmsg_trio.apps.pty.ui._access import Access
from dmsg_trio.apps.pty.ui._messages import SUBPROTOCOL
from dmsg_trio.apps.pty.ui._server import serve_ui
from dmsg_trio.apps.pty.ui._shell import OpenShell
from dmsg_trio.apps.pty.ui._websocket import WebSocket

LABEL = "the test's host"

# ---- shells ----


class ScriptedShell:
    """A shell of which the test says what it does, and sees what is done to it."""

    cannot: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.tell, self._events = trio.open_memory_channel[RemoteEvent](0)
        self.input = bytearray()
        self.sizes: list[WindowSize] = []
        self._resized = trio.Condition()
        self._typed = trio.Condition()
        self.reads_input = trio.Event()
        self.reads_input.set()
        self.is_over = trio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RemoteEvent:
        return await self._events.receive()

    async def send_input(self, data: bytes) -> None:
        await self.reads_input.wait()
        async with self._typed:
            self.input += data
            self._typed.notify_all()

    async def has_input(self, data: bytes) -> None:
        async with self._typed:
            while self.input != data:
                await self._typed.wait()

    async def resize(self, size: WindowSize) -> None:
        async with self._resized:
            self.sizes.append(size)
            self._resized.notify_all()

    async def has_size(self, size: WindowSize) -> None:
        async with self._resized:
            while self.sizes[-1] != size:
                await self._resized.wait()

    async def end_input(self) -> None: ...
    async def signal(self, name: str) -> None: ...
    async def detach(self) -> None: ...
    async def hang_up(self) -> None: ...


class ScriptedHost:
    """Opens scripted shells, or refuses to."""

    def __init__(self) -> None:
        self.shells: list[ScriptedShell] = []
        self.refusal = ""
        self._opened = trio.Condition()

    @asynccontextmanager
    async def open_shell(self, size: WindowSize) -> AsyncIterator[ScriptedShell]:
        if self.refusal:
            raise DmsgError(self.refusal)
        shell = ScriptedShell()
        shell.sizes.append(size)
        async with self._opened:
            self.shells.append(shell)
            self._opened.notify_all()
        try:
            yield shell
        finally:
            shell.is_over.set()

    async def shell(self, index: int = 0) -> ScriptedShell:
        """Wait for a shell to be opened."""
        async with self._opened:
            while len(self.shells) <= index:
                await self._opened.wait()
        return self.shells[index]


class LocalShell(ScriptedShell):
    """A command on a terminal of this machine."""

    def __init__(self, process: TerminalProcess) -> None:
        super().__init__()
        self.process = process

    async def __anext__(self) -> RemoteEvent:
        if data := await self.process.read():
            return Output(data)
        ending = await self.process.wait()
        return CommandEnded(ending.code, ending.signal)

    async def send_input(self, data: bytes) -> None:
        await self.process.write(data)

    async def resize(self, size: WindowSize) -> None:
        self.process.resize(size)


@dataclass
class LocalHost:
    """Opens shells of this machine."""

    home: Path
    argv: tuple[str, ...] = ("bash", "--norc", "--noprofile")
    pids: list[int] = field(default_factory=list)

    @asynccontextmanager
    async def open_shell(self, size: WindowSize) -> AsyncIterator[LocalShell]:
        environment = {
            "PATH": os.environ["PATH"],
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "PS1": "> ",
        }
        command = Command(argv=self.argv, environment=environment, directory=self.home)
        async with open_process_on_terminal(command, size) as process:
            self.pids.append(process.pid)
            yield LocalShell(process)


# ---- the server ----


@dataclass(frozen=True)
class Ui:
    port: int
    access: Access

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def link(self) -> str:
        return f"{self.url}#token={self.access.new_token()}"


@asynccontextmanager
async def running_ui(
    open_shell: OpenShell, access: Access | None = None, *, port: int = 0
) -> AsyncIterator[Ui]:
    access = access or Access(token_needed=False)
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    async with open_service_nursery() as nursery:
        await nursery.start(partial(serve_ui, listeners, access, open_shell, label=LABEL))
        yield Ui(listeners[0].socket.getsockname()[1], access)


class Proxy:
    """Carries connections to a port, and can break all of them."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._scopes: set[trio.CancelScope] = set()

    def cut(self) -> None:
        """Break the connections that are there."""
        for scope in self._scopes:
            scope.cancel()

    async def carry(self, near: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", self._target) as far:
            with trio.CancelScope() as scope:
                self._scopes.add(scope)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_copy, near, far)
                    nursery.start_soon(_copy, far, near)
            self._scopes.remove(scope)
            await trio.aclose_forcefully(near)


async def _copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await sink.send_all(data)
        await sink.send_eof()


@asynccontextmanager
async def running_proxy(target: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(target)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy.port = listeners[0].socket.getsockname()[1]
    async with open_service_nursery() as nursery:
        await nursery.start(trio.serve_listeners, proxy.carry, listeners)
        yield proxy


# ---- a client ----


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> object:
        return msgspec.json.decode(self.body)


async def ask(port: int, head: Sequence[str]) -> Answer:
    """Send lines as a request, and read the answer until the end."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all("\r\n".join([*head, "", ""]).encode("latin-1"))
        data = b""
        with trio.fail_after(10):
            async for piece in stream:
                data += piece
    return _answer(data)


async def get(port: int, target: str = "/", *headers: str, host: str = "") -> Answer:
    return await ask(
        port, [f"GET {target} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}", *headers]
    )


def _answer(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), {name.lower(): value for name, value in pairs}, body)


def upgrade(*headers: str) -> list[str]:
    """The headers of a request for a WebSocket."""
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    return [
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        *headers,
    ]


@asynccontextmanager
async def connected(
    port: int, target: str = "/", *headers: str, host: str = "127.0.0.1"
) -> AsyncIterator[WebSocket]:
    """Be the client of a WebSocket; leaving the block breaks the connection, without a word."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}:{port}", *upgrade(*headers), "", ""]
        await stream.send_all("\r\n".join(lines).encode())
        data = b""
        with trio.fail_after(10):
            while b"\r\n\r\n" not in data and (piece := await stream.receive_some()):
                data += piece
        answer = _answer(data)
        assert answer.status == 101, answer
        yield WebSocket(stream, answer.body, end=ConnectionType.CLIENT)


class Page:
    """The page, as far as its protocol goes."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.output = b""

    async def say(self, **message: str | int | None) -> None:
        await self.socket.send(msgspec.json.encode(message).decode())

    async def open(self, **more: str | int | None) -> dict[str, str | int]:
        await self.say(**{"type": "open", "secret": "", "rows": 24, "columns": 80, **more})
        return await self.hear("opened")

    async def hear(self, kind: str, **wanted: str | int) -> dict[str, str | int]:
        """Take what comes, up to a message of this kind."""
        with trio.fail_after(10):
            while True:
                message = await self.socket.receive()
                if isinstance(message, bytes):
                    self.output += message
                    continue
                said = msgspec.json.decode(message, type=dict[str, str | int])
                if said["type"] == kind and said.items() >= wanted.items():
                    return said

    async def see(self, text: bytes) -> None:
        """Take what comes until the output has this in it."""
        with trio.fail_after(10):
            while text not in self.output:
                message = await self.socket.receive()
                self.output += message if isinstance(message, bytes) else b""


@asynccontextmanager
async def opened_page(port: int) -> AsyncIterator[Page]:
    async with connected(port, "/_ui/socket", f"Sec-WebSocket-Protocol: {SUBPROTOCOL}") as socket:
        yield Page(socket)
