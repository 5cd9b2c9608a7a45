"""How a tool gets onto the network: soon, or it says in one line what is missing."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import trio

from dmsg_trio._errors import DiscoveryError, DmsgError, ErrorCode, UnreachableError
from dmsg_trio._keys import SecretKey
from dmsg_trio.client import Client, open_client
from dmsg_trio.discovery import HttpDiscovery

from ._options import HERE
from ._run import one_line

FIRST_WORD: Final = 1.5  # seconds until a program tells that there is no network yet
PAUSE: Final = 0.2  # seconds between two tries

T = TypeVar("T")


@asynccontextmanager
async def joined(
    sk: SecretKey | None, url: str, within: float, *, min_sessions: int = 1
) -> AsyncIterator[Client]:
    """Be a client for the block; `DmsgError` if there is no session within so many seconds."""
    deadline = trio.current_time() + within
    async with HttpDiscovery(url) as discovery:
        await wait_for_servers(discovery, url, within)
        async with open_client(
            sk, discovery=discovery, wait=False, min_sessions=min_sessions
        ) as client:
            with trio.move_on_at(deadline) as limit:
                await client.wait_registered()
            if limit.cancelled_caught:
                fault = (
                    "took no entry of ours" if client.sessions else "named no server that answers"
                )
                raise DmsgError(f"the discovery at {url} {fault} within {within:g} s")
            yield client


async def wait_until_reachable(client: Client, url: str) -> None:
    """Wait until others can reach the client; tell who waits what it is that takes long."""
    with trio.move_on_after(FIRST_WORD):
        await client.wait_registered()
        return
    fault = await _what_keeps(client, url)
    print(f"no network yet: {fault}; trying on", file=sys.stderr, flush=True)
    await client.wait_registered()
    print("on the network now", file=sys.stderr, flush=True)


async def _what_keeps(client: Client, url: str) -> str:
    if client.sessions:
        return f"{url} took no entry of ours"
    async with HttpDiscovery(url) as discovery:
        try:
            with trio.fail_after(FIRST_WORD):
                if await discovery.available_servers():
                    return f"no server that {url} names answers"
                return f"{url}: no server is registered there"
        except DiscoveryError as error:
            return one_line(str(error)) + hint(url)
        except trio.TooSlowError:
            return f"{url}: no answer"


def why(error: UnreachableError) -> str:
    """Say on one line why a dial failed; a key that nobody knows is what happens most."""
    if error.code == ErrorCode.ENTRY_NOT_FOUND:
        return "no client of this key is registered at the discovery"
    return one_line(str(error))


def hint(url: str) -> str:
    """Tell who asks on this machine how to get a network there."""
    return "; 'dmsg up' runs a network on this machine" if url == HERE else ""


def say_on_stderr(text: str) -> None:
    """Tell who waits what it is that takes long."""
    print(text, file=sys.stderr, flush=True)


async def wait_for_servers(
    discovery: HttpDiscovery, url: str, within: float, say: Callable[[str], None] = say_on_stderr
) -> None:
    """Wait until the discovery names a server, and say soon if it does not; `DmsgError` at last."""

    async def named() -> None:
        if not await discovery.available_servers():
            raise DiscoveryError(f"{url}: no server is registered there")

    await answer_of(named, url, within, say)


async def answer_of(
    ask: Callable[[], Awaitable[T]],
    url: str,
    within: float,
    say: Callable[[str], None] = say_on_stderr,
) -> T:
    """Ask a discovery until it answers, and say soon if it does not; `DmsgError` at last."""
    fault, has_said = f"{url}: no answer", False
    began = trio.current_time()
    while (passed := trio.current_time() - began) < within:
        if passed >= FIRST_WORD and not has_said:
            say(f"no network yet, trying for {within:g} s: {one_line(fault)}{hint(url)}")
            has_said = True
        with trio.move_on_at(began + (within if has_said else min(FIRST_WORD, within))):
            try:
                return await ask()
            except DiscoveryError as error:
                fault = str(error)
            await trio.sleep(PAUSE)
    raise DmsgError(f"no network within {within:g} s: {fault}{hint(url)}")
