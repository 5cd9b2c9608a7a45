"""A host: shells on this machine for the keys that may enter, and for its own users.

Two doors lead to the same services: a port of the network, where a key has to be on the allow list
before a byte of its request is read, and a local socket, where the system has checked who comes.
"""

from __future__ import annotations

import logging
import math
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import DmsgError, RemoteProtocolError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.borders import Border
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.resettable import ResettableStream
from dmsg_trio._wire import file_copy, forward, pty, shell
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio.apps.pty._requests import (
    PtyRequestError,
    accept,
    accept_as_asked,
    receive_request_untrusted,
    refuse,
)
from dmsg_trio.apps.pty._routes import CONNECT_URI
from dmsg_trio.apps.pty.copy import CopyError, serve_files
from dmsg_trio.apps.pty.process import (
    Command,
    OutputKind,
    PipedProcess,
    StartError,
    login_environment,
    open_guardian,
    open_process_on_pipes,
)
from dmsg_trio.client import Client, DmsgStream

from ._allow import AllowList
from ._audit import LOCAL, Audit
from ._config import HostOptions
from ._forwards import Forwards
from ._launch import Launcher
from ._listening import open_local_listeners
from ._proxy import serve_connection, serve_proxy
from ._service import Terminal, serve_pty, serve_whitelist
from ._shells import Limits, Shells, TooManySessionsError
from ._watched import open_watched_terminal

DRAIN_TIME: Final = 10  # seconds for those who are attached to hear that the host ends
DIAL_TIME: Final = 30  # seconds to reach another host for a user of this machine
CLOSE_TIME: Final = 1  # seconds for a stream to close
MAX_CONNECTIONS: Final = 1024  # of one key at once; more are reset
MAX_REFUSED: Final = 64  # who are told at once that they may not enter; more are reset
FILES_PROGRAM: Final = "dmsg_trio.apps.pty.copy"
TERMINAL: Final = "xterm-256color"  # callers of the reference do not say what theirs is

logger = logging.getLogger("dmsg_trio.pty")

Owner: TypeAlias = PublicKey | None  # None: a user of this machine


class PtyHost:
    """The services of a host on this machine."""

    def __init__(
        self, client: Client, options: HostOptions, allow: AllowList, audit: Audit
    ) -> None:
        self._client = client
        self._options = options
        self._allow = allow
        self._audit = audit
        self._launcher = Launcher(
            user=options.user, no_new_privileges=options.no_new_privileges, shell=options.shell
        )
        limits = Limits(
            sessions=options.max_sessions,
            sessions_per_key=options.max_sessions_per_key,
            keep=int(options.keep_time),
            idle=options.idle_time or math.inf,
        )
        self._shells = Shells(self._launcher, audit, limits, while_allowed=allow.while_allowed)
        self._forwards = Forwards(open_ports_only=options.user is not None)
        self._connections: Counter[Owner] = Counter()
        self._refused = 0
        self._drain_wanted = trio.Event()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve both doors until cancelled, or until `drain` has had its way."""
        async with (
            open_guardian(),
            open_local_listeners(self._options) as local,
            self._client.listen(self._options.port) as remote,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(self._shells.run)
            async with trio.open_nursery() as doors:
                serve = partial(trio.serve_listeners, handler_nursery=nursery)
                doors.start_soon(serve, self._serve_local, local)
                doors.start_soon(serve, self._serve_remote, [remote])
                task_status.started()
                await self._drain_wanted.wait()
                doors.cancel_scope.cancel()
            with trio.move_on_after(DRAIN_TIME):
                await self._shells.drain()
            nursery.cancel_scope.cancel()

    def drain(self) -> None:
        """Let nobody in any more, and end all sessions; those who are attached are told why."""
        self._drain_wanted.set()

    # ---- the doors ----

    async def _serve_local(self, stream: trio.SocketStream) -> None:
        async with _closed(stream, LOCAL):
            await self._serve(stream, None, LOCAL)

    async def _serve_remote(self, stream: DmsgStream) -> None:
        pk, source = stream.remote.pk, str(stream.remote)
        async with _closed(stream, source):
            if pk not in self._allow:
                await self._send_away(stream, pk, source)
                return
            if self._connections[pk] >= MAX_CONNECTIONS:
                logger.warning("%d connections: %s is cut off", MAX_CONNECTIONS, source)
                stream.reset()
                return
            self._connections[pk] += 1
            try:
                with self._allow.while_allowed(pk) as allowed:
                    await self._serve(stream, pk, source)
                if allowed.cancelled_caught:
                    stream.reset()
            finally:
                self._connections[pk] -= 1
                if not self._connections[pk]:
                    del self._connections[pk]

    async def _send_away(self, stream: DmsgStream, pk: PublicKey, source: str) -> None:
        """Tell somebody who may not enter; it takes a second, and keys cost nothing."""
        reason = f"the key {pk} is not allowed here"
        if self._refused >= MAX_REFUSED:
            self._audit.refused(key=pk, source=source, reason=reason)
            stream.reset()
            return
        self._refused += 1
        try:
            await self._refuse(stream, reason, pk, source)
        finally:
            self._refused -= 1

    async def _refuse(
        self, stream: trio.abc.HalfCloseableStream, reason: str, owner: Owner, source: str
    ) -> None:
        logger.info("%s refused: %s", source, reason)
        self._audit.refused(key=owner, source=source, reason=reason)
        await refuse(stream, reason)

    # ---- the services ----

    async def _serve(self, stream: trio.abc.HalfCloseableStream, owner: Owner, source: str) -> None:
        """Serve one connection of somebody who may be here."""
        try:
            request = await receive_request_untrusted(stream)
            match request.path:
                case shell.SHELL_URI:
                    await accept(stream)
                    await self._shells.serve(stream, owner, source)
                case pty.PTY_URI:
                    with self._shells.place_for(owner):
                        await accept(stream)
                        await serve_pty(stream, partial(self._launch, owner, source))
                case file_copy.FILES_URI:
                    with self._shells.place_for(owner):
                        await self._serve_files(stream, owner, source)
                case forward.FORWARD_URI:
                    stream = await accept_as_asked(stream, request)
                    command = ("(forward)",)
                    with self._audit.session(key=owner, source=source, command=command) as audited:
                        await self._forwards.serve(stream, owner, audited)
                case pty.WHITELIST_URI if owner is None:
                    await accept(stream)
                    await serve_whitelist(stream, self._allow)
                case pty.PROXY_URI if owner is None:
                    await serve_proxy(stream, partial(self._dial, request.address()))
                case path if path == CONNECT_URI and owner is None:
                    await serve_connection(stream, partial(self._dial, request.address()), request)
                case path:
                    raise PtyRequestError(f"there is no service {path!r} here")
        except (PtyRequestError, TooManySessionsError, StartError) as error:
            await self._refuse(stream, str(error), owner, source)
        except (RemoteProtocolError, CopyError) as error:
            logger.info("%s: %s", source, error)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            logger.debug("%s is gone: %s", source, error)

    async def _dial(self, host: Address) -> DmsgStream:
        try:
            with trio.fail_after(DIAL_TIME):
                return await self._client.open_stream(host.pk, host.port)
        except trio.TooSlowError:
            raise DmsgError(f"{host} did not answer within {DIAL_TIME} s") from None

    @asynccontextmanager
    async def _launch(
        self, owner: Owner, source: str, name: str, arguments: tuple[str, ...], size: WindowSize
    ) -> AsyncIterator[Terminal]:
        """Run a command for a caller of the reference's service."""
        argv = (name, *arguments)
        command = await self._launcher.command(argv, terminal=TERMINAL, extra={})
        idle = self._options.idle_time or math.inf
        with self._audit.session(key=owner, source=source, command=argv) as audited:
            async with open_watched_terminal(command, size, audited, idle=idle) as terminal:
                yield terminal

    async def _serve_files(
        self, stream: trio.abc.HalfCloseableStream, owner: Owner, source: str
    ) -> None:
        with self._audit.session(key=owner, source=source, command=("(files)",)) as audited:
            user = self._options.user
            if user is None:
                await accept(stream)
                outcome = await serve_files(stream, home=Path.home())
                audited.reason = (
                    f"{outcome.files} files, {outcome.bytes} bytes, {outcome.problems} problems"
                )
                return
            command = Command(
                argv=(sys.executable, "-I", "-m", FILES_PROGRAM, user),  # -I: no code of that user
                environment=login_environment(user, term=None, extra={}),
                directory=Path("/"),
                no_new_privileges=self._options.no_new_privileges,
            )
            async with open_process_on_pipes(command) as process:
                await accept(stream)
                await _carry(stream, process)
                how = await process.wait()
            audited.exit_code, audited.signal = how.code, how.signal


async def _carry(stream: trio.abc.HalfCloseableStream, process: PipedProcess) -> None:
    """Be the standard input and output of a process that serves a stream."""

    async def feed() -> None:
        try:
            async for data in stream:
                await process.write(bytes(data))
            await process.end_input()
        except trio.BrokenResourceError:
            pass  # either side is gone; the output tells

    async with open_service_nursery() as nursery:
        nursery.start_soon(feed)
        while (piece := await process.read()) is not None:
            kind, data = piece
            if kind is OutputKind.OUTPUT:
                await stream.send_all(data)
            else:
                logger.info("files: %r", data)
    await stream.send_eof()


@asynccontextmanager
async def _closed(stream: trio.abc.HalfCloseableStream, source: str) -> AsyncIterator[None]:
    """Close the stream behind the block; what is a bug ends no other connection."""
    try:
        with Border(logger, "the connection of %s", source):
            yield
            return
        if isinstance(stream, ResettableStream):
            stream.reset()
    finally:
        with trio.move_on_after(CLOSE_TIME) as scope:
            scope.shield = True
            await stream.aclose()
