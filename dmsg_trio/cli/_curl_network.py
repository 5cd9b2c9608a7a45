"""How dmsgcurl gets onto the network: it says soon what keeps it, and goes on trying."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import trio

from dmsg_trio._errors import DiscoveryError, DmsgError
from dmsg_trio._keys import SecretKey
from dmsg_trio.apps.curl import ExitCode, TransferError
from dmsg_trio.client import Client, open_client
from dmsg_trio.discovery import Entry, HttpDiscovery

from ._joining import wait_for_servers


@asynccontextmanager
async def on_network(
    sk: SecretKey | None, url: str, *, sessions: int, within: float, say: Callable[[str], None]
) -> AsyncIterator[Client]:
    """Be a client for the block; `TransferError` if the discovery is of no use for so long."""
    discovery = _Heard(url)
    async with discovery:
        try:
            await wait_for_servers(discovery, url, within, say)
        except DmsgError as error:
            code = ExitCode.NOT_CONNECTED if discovery.was_heard else ExitCode.TIMEOUT
            raise TransferError(code, f"joining the network: {error}") from None
        # A dial makes the session that it needs: nothing else has to be waited for.
        async with open_client(
            sk, discovery=discovery, wait=False, min_sessions=sessions
        ) as client:
            yield client


class _Heard(HttpDiscovery):
    """Knows whether anything was ever heard of it, be it that nobody listens there."""

    was_heard = False

    async def available_servers(self) -> list[Entry]:
        """List the servers, as the discovery has them."""
        try:
            servers = await super().available_servers()
        except DiscoveryError as error:
            silent = isinstance(error.__cause__, trio.TooSlowError | httpx.TimeoutException)
            self.was_heard = self.was_heard or not silent
            raise
        self.was_heard = True
        return servers
