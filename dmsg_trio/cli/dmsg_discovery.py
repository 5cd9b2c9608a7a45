"""dmsg-discovery: the registry of servers and clients, over HTTP."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import trio
import typer

from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey, SecretKey
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

logger = logging.getLogger("dmsg-discovery")

KEY_VARIABLE: Final = "DMSG_DISCOVERY_SK"
MAX_KEY_FILE: Final = 4096  # bytes
SECOND: Final = 1_000_000_000  # nanoseconds

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line says, once it is known to be right."""

    host: str | None
    port: int
    store: str
    policy: Policy
    rate: float
    key: SecretKey | None = field(default=None, repr=False)


def main() -> None:
    """Run the command, as the console script and ``python -m`` do."""
    app(prog_name="dmsg-discovery")


@app.command()
def start(
    *,
    addr: Annotated[str, typer.Option("--addr", "-a", help="HOST:PORT to listen on")] = ":9090",
    store: Annotated[
        str,
        typer.Option(help="memory:, sqlite:PATH, or sqlite: for a file in the data directory"),
    ] = "sqlite:",
    test_mode: Annotated[
        bool, typer.Option("--test-mode", "-t", help="let servers advertise loopback addresses")
    ] = False,
    auth: Annotated[
        str,
        typer.Option(envvar="DMSG_DISCOVERY_AUTH", help="passphrase that makes a server official"),
    ] = "",
    official_servers: Annotated[
        str, typer.Option(help="keys of official servers, with commas between them")
    ] = "",
    whitelist_keys: Annotated[
        str, typer.Option(help="keys of network monitors, which may deregister others")
    ] = "",
    client_lifetime: Annotated[
        float, typer.Option(min=0, help="minutes until a silent client is forgotten; 0: never")
    ] = 60,
    rate_limit: Annotated[
        float,
        typer.Option(min=0, help="requests a second of one address, and one key; 0: no limit"),
    ] = 100,
    enable_load_testing: Annotated[
        bool,
        typer.Option("--enable-load-testing", help="check no signatures, times and sequences"),
    ] = False,
    key_file: Annotated[
        Path | None, typer.Option(help=f"file with the secret key; or set {KEY_VARIABLE}")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log details too")] = False,
) -> None:
    """Keep the entries of servers and clients, and answer who is where, until SIGTERM."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
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
                client_lifetime=int(client_lifetime * 60 * SECOND),
            ),
            rate=rate_limit,
            key=read_secret_key(key_file),
        )
        trio.run(serve_until_signal, settings)
    except* (ConfigError, OSError) as errors:
        for error in _leaves(errors):
            print(f"dmsg-discovery: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


# ---- running ----


async def serve_until_signal(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return."""
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            nursery.start_soon(serve, settings)
            async for number in signals:
                logger.info("%s: ending", signal.Signals(number).name)
                nursery.cancel_scope.cancel()
                break


async def serve(settings: Settings) -> None:
    """Open the store and the listeners, and serve on them; run until cancelled."""
    async with open_store(settings.store, time.time_ns) as store:
        service = DiscoveryService(store, settings.policy)
        asgi = make_app(service, limits=_limits(settings.rate), health=Health(datetime.now(tz=UTC)))
        listeners = await _listen(settings.host, settings.port)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_discovery, service, asgi, listeners))
            for listener in listeners:
                host, port = listener.socket.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                logger.info("listening on http://%s:%d", shown, port)
            if settings.key is not None:
                logger.info("public key %s", settings.key.pk)


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


def read_secret_key(path: Path | None) -> SecretKey | None:
    """Read the key from a file that nobody else may read, or from the environment."""
    where = str(path) if path is not None else KEY_VARIABLE
    try:
        text = os.environ.get(KEY_VARIABLE, "") if path is None else _read_private(path)
        return SecretKey.parse(text) if text.strip() or path is not None else None
    except (OSError, ValueError) as error:
        raise ConfigError(f"secret key of {where}: {error}") from None


def _read_private(path: Path) -> str:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise ValueError("others may read the file; use chmod 600")
        return file.read(MAX_KEY_FILE).decode("ascii")


def _keys(option: str, text: str) -> Iterable[PublicKey]:
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            yield PublicKey.parse(part)
        except ValueError as error:
            raise ConfigError(f"{option}: {error}") from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterable[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
