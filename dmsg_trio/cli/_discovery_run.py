"""dmsg-discovery at work: its store, its listeners, and its place on dmsg itself."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final

import trio
from starlette.types import ASGIApp

from dmsg_trio._asgi import serve_app
from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._net.tcp import open_listeners_at, reason_of
from dmsg_trio.client import open_client
from dmsg_trio.discovery import Entry
from dmsg_trio.discovery.serving import (
    DiscoveryService,
    Health,
    Limits,
    Policy,
    RateLimiter,
    make_app,
    open_store,
    serve_discovery,
)

from ._listening import shown_place

logger = logging.getLogger("dmsg_trio.cli.dmsg_discovery")

DMSG_PORT: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line says, once it is known to be right."""

    host: str | None
    port: int
    store: str
    policy: Policy
    rate: float
    key: SecretKey | None = field(default=None, repr=False)


async def serve(settings: Settings) -> None:
    """Open the store and the listeners, and serve on them; run until cancelled."""
    async with open_store(settings.store, time.time_ns) as store:
        service = DiscoveryService(store, settings.policy)
        health = Health(datetime.now(tz=UTC))
        asgi = make_app(service, limits=_limits(settings.rate), health=health)
        listeners = await _listen(settings.host, settings.port)
        if settings.key is not None:
            logger.info("public key %s", settings.key.pk)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_discovery, service, asgi, listeners))
            for listener in listeners:
                host, port = listener.socket.getsockname()[:2]
                logger.info("listening on http://%s", shown_place(host, port))
            if settings.key is not None:
                nursery.start_soon(_serve_on_dmsg, settings.key, service, asgi, health)


async def _serve_on_dmsg(
    sk: SecretKey, service: DiscoveryService, asgi: ASGIApp, health: Health
) -> None:
    """Answer on port 80 of dmsg as well, in sessions with all servers that are registered.

    Who wants to reach the discovery so knows its key, and that it is at every server.
    """
    own = OwnDiscovery(service)
    async with open_client(sk, discovery=own, min_sessions=0, wait=False) as client:
        health.dmsg_address = f"{client.pk}:{DMSG_PORT}"
        logger.info("listening on dmsg://%s", health.dmsg_address)
        await serve_app(
            asgi,
            client.listen(DMSG_PORT),
            client_address=lambda stream: (str(stream.remote.pk), stream.remote.port),
        )


class OwnDiscovery:
    """The discovery as its own client sees it: asked directly, and not told of that client."""

    def __init__(self, service: DiscoveryService) -> None:
        self._service = service

    async def entry(self, pk: PublicKey) -> Entry:
        """Look up an entry among our own."""
        return await self._service.entry(pk)

    async def available_servers(self) -> list[Entry]:
        """The servers with free sessions."""
        return await self._service.available_servers()

    async def all_servers(self) -> list[Entry]:
        """All servers."""
        return await self._service.all_servers()

    async def publish(self, entry: Entry) -> None:
        """Nothing: as in the reference, the discovery has no entry of itself."""

    async def withdraw(self, entry: Entry) -> None:
        """Nothing, likewise."""


def _limits(rate: float) -> Limits | None:
    if not rate:
        return None
    limiter = partial(RateLimiter, trio.current_time, rate=rate, burst=max(1, int(2 * rate)))
    return Limits(by_source=limiter(), by_key=limiter())


async def _listen(host: str | None, port: int) -> list[trio.SocketListener]:
    try:
        return await open_listeners_at(host, port)
    except OSError as error:
        place = shown_place(host or "", port)
        raise ConfigError(f"cannot listen on {place}: {reason_of(error)}") from error
