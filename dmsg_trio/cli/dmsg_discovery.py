"""dmsg-discovery: the registry of servers and clients, over HTTP."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final, NoReturn

import typer

from dmsg_trio._errors import ConfigError

from ._access import keys_named
from ._main import main_of
from ._options import KeyOptions, LogOptions, refuse_typed, spread
from ._run import program, run
from ._version import Version

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
        typer.Option(
            envvar="DMSG_DISCOVERY_AUTH",
            callback=refuse_typed,
            help="Passphrase that makes a server official; only by the variable.",
        ),
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
    official = keys_named([official_servers], "--official-servers")
    monitors = keys_named([whitelist_keys], "--whitelist-keys")
    from dmsg_trio.discovery.serving import Policy

    from ._discovery_run import Settings, serve

    settings = Settings(
        host=host,
        port=port,
        store=store,
        policy=Policy(
            test_mode=test_mode,
            load_testing=enable_load_testing,
            auth=auth,
            official_servers=frozenset(official),
            monitors=frozenset(monitors),
            client_lifetime=int(client_lifetime * MINUTE),
        ),
        rate=rate_limit,
        key=keys.secret_key(),
    )
    run(partial(serve, settings), service=True)


# ---- reading what the user wrote ----


def parse_listen_address(text: str) -> tuple[str | None, int]:
    """Read ``HOST:PORT``, ``[V6]:PORT`` or ``:PORT`` (all interfaces)."""
    from dmsg_trio._net.tcp import parse_host_port

    try:
        host, port = parse_host_port(text)
    except ValueError as error:
        raise ConfigError(f"--addr is HOST:PORT: {error}") from None
    return host or None, port
