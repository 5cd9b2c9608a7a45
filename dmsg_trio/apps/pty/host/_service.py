"""The reference's services for one connection: a terminal, the allow list, and another host's terminal.

What they answer, errors included, is what callers of the reference know.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias, cast

import trio

from dmsg_trio._errors import ConfigError, DmsgError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire import gob
from dmsg_trio._wire.pty import (
    ALREADY_RUNNING,
    END_OF_COMMAND,
    NO_SESSION,
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
from dmsg_trio.apps.pty._rpc import Handler, Handlers, RpcError, serve_rpc

MAX_READ: Final = 1024 * 1024  # bytes that a Read may ask for
CHUNK: Final = 32 * 1024  # bytes that a Read gets at the most, as callers of the reference ask for


# ---- a terminal ----


class Terminal(Protocol):
    """A command on a terminal."""

    async def read(self) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    def resize(self, size: WindowSize) -> None: ...


# Starts a command, by name and arguments, on a terminal of a size, and ends it with the block.
Launch: TypeAlias = Callable[
    [str, tuple[str, ...], WindowSize], AbstractAsyncContextManager[Terminal]
]


async def serve_pty(stream: trio.abc.Stream, launch: Launch) -> None:
    """Be the ``pty`` service until the connection ends, and its command with it."""
    async with open_pty_service(launch) as service:
        await serve_rpc(stream, service.handlers)


@asynccontextmanager
async def open_pty_service(launch: Launch) -> AsyncIterator[PtyService]:
    """Have a service for the block, whose commands end with it."""
    async with open_service_nursery() as nursery:
        yield PtyService(launch, nursery)


@dataclass(eq=False)
class _Session:
    """A command from its start until it is stopped, whether it still runs or not."""

    terminal: Terminal
    stopped: trio.Event = field(default_factory=trio.Event)
    unread: bytes = b""  # of what the terminal gave, what no Read has asked for yet
    reading: trio.Lock = field(default_factory=trio.Lock)  # Reads have their turns, as at a file
    writing: trio.Lock = field(default_factory=trio.Lock)
    waiting: set[trio.CancelScope] = field(default_factory=set)

    @contextmanager
    def until_stopped(self, otherwise: str) -> Iterator[None]:
        """Run the block until the session is stopped, and raise ``otherwise`` if it was."""
        with trio.CancelScope() as scope:
            self.waiting.add(scope)
            try:
                yield
            finally:
                self.waiting.discard(scope)
        if scope.cancelled_caught:
            raise RpcError(otherwise)

    def stop(self) -> None:
        self.stopped.set()
        for scope in self.waiting:
            scope.cancel()


class PtyService:
    """One terminal at a time, with the calls of the reference."""

    def __init__(self, launch: Launch, nursery: trio.Nursery) -> None:
        self._launch = launch
        self._nursery = nursery
        self._session: _Session | None = None
        self._starting = False
        # A command that was stopped may take its time to end: the next one waits for it, so that
        # nobody can pile them up.
        self._vacant = trio.Event()
        self._vacant.set()
        self.handlers: Handlers = {
            START: self._start,
            STOP: self._stop,
            READ: self._read,
            WRITE: self._write,
            SET_SIZE: self._set_size,
        }

    async def _start(self, argument: gob.Value) -> gob.Value:
        if self._session is not None or self._starting:
            raise RpcError(ALREADY_RUNNING)
        command = cast("Mapping[str, gob.Value]", argument)
        name = cast("str", command["Name"])
        if not name:
            raise RpcError("exec: no command")
        arguments = tuple(cast("Sequence[str]", command["Arg"]))
        size = _size(command["Size"] or {})
        self._starting = True
        try:
            await self._vacant.wait()
            self._session = await self._nursery.start(self._run, name, arguments, size)
        except DmsgError as error:
            raise RpcError(str(error)) from error
        finally:
            self._starting = False
        return {}

    async def _run(
        self,
        name: str,
        arguments: tuple[str, ...],
        size: WindowSize,
        *,
        task_status: trio.TaskStatus[_Session],
    ) -> None:
        self._vacant = trio.Event()
        try:
            async with self._launch(name, arguments, size) as terminal:
                session = _Session(terminal)
                task_status.started(session)
                await session.stopped.wait()
        finally:
            self._vacant.set()

    async def _stop(self, _: gob.Value) -> gob.Value:
        self._running.stop()
        self._session = None
        return {}

    async def _read(self, argument: gob.Value) -> gob.Value:
        session, size = self._running, cast("int", argument)
        if not 0 <= size <= MAX_READ:
            raise RpcError(f"a read of {size} bytes: from 0 to {MAX_READ} may be asked for")
        if not size:
            return b""
        # Callers of the reference take this error, and no other, for the end of a session.
        with session.until_stopped(END_OF_COMMAND):
            async with session.reading:
                data = session.unread or await session.terminal.read()
                taken = min(size, CHUNK)
                session.unread = data[taken:]
                data = data[:taken]
            if not data:
                raise RpcError(END_OF_COMMAND)
            return data

    async def _write(self, argument: gob.Value) -> gob.Value:
        session, data = self._running, cast("bytes", argument)
        with session.until_stopped(NO_SESSION):
            async with session.writing:
                # Nobody reads any more what is typed for a command that has ended.
                with suppress(trio.BrokenResourceError):
                    await session.terminal.write(data)
        return len(data)

    async def _set_size(self, argument: gob.Value) -> gob.Value:
        self._running.terminal.resize(_size(argument))
        return {}

    @property
    def _running(self) -> _Session:
        if self._session is None:
            raise RpcError(NO_SESSION)
        return self._session


def _size(value: gob.Value) -> WindowSize:
    numbers = cast("Mapping[str, int]", value)
    rows, columns, width, height = (numbers.get(name, 0) for name in ("Rows", "Cols", "X", "Y"))
    return WindowSize(rows=rows, columns=columns, width=width, height=height)


# ---- the allow list ----


class KeyList(Protocol):
    """The keys that may enter; `ConfigError` says why it cannot be changed."""

    @property
    def keys(self) -> Sequence[PublicKey]: ...
    async def add(self, keys: Iterable[PublicKey], /) -> None: ...
    async def remove(self, keys: Iterable[PublicKey], /) -> None: ...


async def serve_whitelist(stream: trio.abc.Stream, allowed: KeyList) -> None:
    """Be the ``whitelist`` service until the connection ends."""

    async def show(_: gob.Value) -> gob.Value:
        return [pk.raw for pk in allowed.keys]

    def changing(change: Callable[[Iterable[PublicKey]], Awaitable[None]]) -> Handler:
        async def handle(argument: gob.Value) -> gob.Value:
            try:
                keys = [PublicKey(raw) for raw in cast("Sequence[bytes]", argument)]
                await change(keys)
            except (ValueError, ConfigError) as error:
                raise RpcError(str(error)) from error
            return {}

        return handle

    handlers = {
        WHITELIST: show,
        WHITELIST_ADD: changing(allowed.add),
        WHITELIST_REMOVE: changing(allowed.remove),
    }
    await serve_rpc(stream, handlers)
