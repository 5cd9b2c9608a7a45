"""dmsg-discovery: the registry of servers and clients, over HTTP."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Final, NoReturn

import trio
import typer
from starlette.types import ASGIApp

from dmsg_trio._asgi import serve_app
from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey, SecretKey
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

from ._main import main_of
from ._options import KeyOptions, LogOptions, spread
from ._run import program, run
from ._version import Version

logger = logging.getLogger(__name__)

DMSG_PORT: Final = 80
MINUTE: Final = 60_000_000_000  # nanoseconds

app = program()


def main() -> NoReturn:
    """Run the command, as the console script and ``python -m`` do."""
    main_of(app, "dmsg-discovery", "discovery")


@app.command()
@spread
def start(
    *,
    addr: Annotated[str, typer.Option("--addr", "-a", help="HOST:PORT to listen on.")] = ":9090",
    store: Annotated[
        str,
        typer.Option(help="memory:, sqlite:PATH, or sqlite: for a file in the data directory."),
    ] = "sqlite:",
    test_mode: Annotated[
        bool, typer.Option("--test-mode", "-t", help="Let servers advertise loopback addresses.")
    ] = False,
    auth: Annotated[
        str,
        typer.Option(envvar="DMSG_DISCOVERY_AUTH", help="Passphrase that makes a server official."),
    ] = "",
    official_servers: Annotated[
        str, typer.Option(help="Keys of official servers, with commas between them.")
    ] = "",
    whitelist_keys: Annotated[
        str, typer.Option(help="Keys of network monitors, which may deregister others.")
    ] = "",
    client_lifetime: Annotated[
        float, typer.Option(min=0, help="Minutes until a silent client is forgotten; 0: never.")
    ] = 60,
    rate_limit: Annotated[
        float,
        typer.Option(min=0, help="Requests a second of an address, posts of a key; 0: no limit."),
    ] = 100,
    enable_load_testing: Annotated[
        bool,
        typer.Option("--enable-load-testing", help="Check no signatures, times and sequences."),
    ] = False,
    _version: Version = False,
    keys: KeyOptions,
    log: LogOptions,
) -> None:
    """Keep the entries of servers and clients, and answer who is where, until SIGTERM."""
    log.set_up()
    host, port = parse_listen_address(addr)
    settings = Settings(
        host=host,
        port=port,
        store=store,
        policy=Policy(
            test_mode=test_mode,
            load_testing=enable_load_testing,
            auth=auth,
            official_servers=frozenset(_keys("--official-servers", official_servers)),
            monitors=frozenset(_keys("--whitelist-keys", whitelist_keys)),
            client_lifetime=int(client_lifetime * MINUTE),
        ),
        rate=rate_limit,
        key=keys.secret_key(),
    )
    run(partial(serve, settings), service=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line says, once it is known to be right."""

    host: str | None
    port: int
    store: str
    policy: Policy
    rate: float
    key: SecretKey | None = field(default=None, repr=False)


# ---- running ----


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
                shown = f"[{host}]" if ":" in host else host
                logger.info("listening on http://%s:%d", shown, port)
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
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot listen on {host or ''}:{port}: {reason}") from error


# ---- reading what the user wrote ----


def parse_listen_address(text: str) -> tuple[str | None, int]:
    """Read ``HOST:PORT``, ``[V6]:PORT`` or ``:PORT`` (all interfaces)."""
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port[:6]) <= 65535):
        raise ConfigError(f"--addr is HOST:PORT with a port from 0 to 65535, not {text!r}")
    return host.removeprefix("[").removesuffix("]") or None, int(port)


def _keys(option: str, text: str) -> Iterator[PublicKey]:
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            yield PublicKey.parse(part)
        except ValueError as error:
            raise ConfigError(f"{option}: {error}") from None
