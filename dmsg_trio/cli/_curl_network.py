"""How dmsgcurl gets onto the network: it says soon what keeps it, and goes on trying."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from dmsg_trio._errors import DmsgError
from dmsg_trio._keys import SecretKey
from dmsg_trio.apps.curl import ExitCode, TransferError
from dmsg_trio.client import Client, open_client
from dmsg_trio.discovery import HttpDiscovery

from ._joining import wait_for_servers


@asynccontextmanager
async def on_network(
    sk: SecretKey | None, url: str, *, sessions: int, within: float, say: Callable[[str], None]
) -> AsyncIterator[Client]:
    """Be a client for the block; `TransferError` if the discovery is of no use for so long."""
    async with HttpDiscovery(url) as discovery:
        try:
            await wait_for_servers(discovery, url, within, say)
        except DmsgError as error:
            raise TransferError(ExitCode.NOT_CONNECTED, f"joining the network: {error}") from None
        # A dial makes the session that it needs: nothing else has to be waited for.
        async with open_client(
            sk, discovery=discovery, wait=False, min_sessions=sessions
        ) as client:
            yield client
