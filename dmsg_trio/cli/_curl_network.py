"""How dmsgcurl gets onto the network: it says soon what keeps it, and goes on trying."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from dmsg_trio._errors import DiscoveryError
from dmsg_trio._keys import SecretKey
from dmsg_trio.apps.curl import ExitCode, TransferError
from dmsg_trio.client import Client, open_client
from dmsg_trio.discovery import HttpDiscovery

from ._joining import hint

FIRST_WORD: Final = 1.5  # seconds without an answer until it is said
PAUSE: Final = 0.2  # seconds between two questions


@asynccontextmanager
async def on_network(
    sk: SecretKey | None, url: str, *, sessions: int, within: float, say: Callable[[str], None]
) -> AsyncIterator[Client]:
    """Be a client for the block; `TransferError` if the discovery is of no use for so long."""
    async with HttpDiscovery(url) as discovery:
        await _wait_for_servers(discovery, url, within, say)
        # A dial makes the session that it needs: nothing else has to be waited for.
        async with open_client(
            sk, discovery=discovery, wait=False, min_sessions=sessions
        ) as client:
            yield client


async def _wait_for_servers(
    discovery: HttpDiscovery, url: str, within: float, say: Callable[[str], None]
) -> None:
    fault, has_said = f"{url}: no answer", False
    began = trio.current_time()
    while (passed := trio.current_time() - began) < within:
        if passed >= FIRST_WORD and not has_said:
            say(f"no network yet, trying for {within:g} s: {fault}{hint(url)}")
            has_said = True
        with trio.move_on_at(began + (within if has_said else min(FIRST_WORD, within))):
            try:
                if await discovery.available_servers():
                    return
                fault = f"{url}: no server is registered there"
            except DiscoveryError as error:
                fault = str(error)
            await trio.sleep(PAUSE)
    reason = f"joining the network: nothing within {within:g} s: {fault}{hint(url)}"
    raise TransferError(ExitCode.NOT_CONNECTED, reason)
