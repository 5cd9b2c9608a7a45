"""Which protocol to have a remote shell over: shell/1, or what the reference speaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from dmsg_trio._wire.pty import PTY_URI
from dmsg_trio._wire.shell import SHELL_URI
from dmsg_trio.apps.pty._requests import PtyRefusedError
from dmsg_trio.apps.pty._routes import Route

from ._plain import open_plain_shell
from ._remote import RemoteShell, ShellRefusedError, Wanted
from ._resuming import open_resuming_shell


@asynccontextmanager
async def open_remote_shell(route: Route, wanted: Wanted) -> AsyncIterator[RemoteShell]:
    """Start a command on the host at the end of ``route``, by the best means that it has."""
    try:
        first: trio.abc.HalfCloseableStream | None = await route.open(SHELL_URI)
    except PtyRefusedError as error:
        if error.reason:
            raise
        # Only the reference says no without a reason: to what it does not know, or to this key.
        first = None
    if first is None:
        stream = await route.open(PTY_URI)
        try:
            async with open_plain_shell(stream, wanted) as plain:
                yield plain
        finally:
            await trio.aclose_forcefully(stream)
        return
    streams = [first]

    async def dial() -> trio.abc.HalfCloseableStream:
        if streams:
            return streams.pop()
        try:
            return await route.open(SHELL_URI)
        except PtyRefusedError as error:
            # Another try would be refused as well, and who waits for it should know why.
            raise ShellRefusedError(error.reason) from error

    async with open_resuming_shell(dial, wanted) as shell:
        yield shell
