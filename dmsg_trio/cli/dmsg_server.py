"""dmsg-server: relays streams between clients, as a configuration file says."""

from __future__ import annotations

import logging
import resource
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, TypeVar

import typer

from dmsg_trio._errors import ConfigError
from dmsg_trio._files import MAX_SETTINGS
from dmsg_trio._keys import SecretKey

from ._main import main_of
from ._options import KeyOptions, Level, LogOptions, refuse_typed, spread
from ._private_files import write_private
from ._run import STOPS, program, run
from ._version import Version

if TYPE_CHECKING:
    from dmsg_trio.server._config import ServerConfig

DISCOVERY: Final = "http://dmsgd.skywire.skycoin.com"  # of the production network
TEST_DISCOVERY: Final = "http://dmsgd.skywire.dev"
OTHER_FILES: Final = 64  # open at once, beside the connections of sessions

T = TypeVar("T")

logger = logging.getLogger("dmsg_trio.server")

app = program(no_args_is_help=True)
config_app = program(no_args_is_help=True)
app.add_typer(config_app, name="config", help="Make configuration files.")


def main() -> NoReturn:
    """Run the command, as the console script and ``python -m`` do."""
    main_of(app, "dmsg-server", "server")


@app.callback()
def dmsg_server(*, _version: Version = False) -> None:
    """Relay encrypted streams between clients."""


# ---- start ----


@app.command()
@spread
def start(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="A JSON file; - is standard input.")
    ] = None,
    *,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The same as CONFIG.")
    ] = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the configuration from standard input.")
    ] = False,
    listen: Annotated[
        str | None, typer.Option(help="Where to accept sessions; over 'local_address'.")
    ] = None,
    public_address: Annotated[
        str | None, typer.Option(help="Where clients find the server; over 'public_address'.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics", "-m", help="Where to serve /metrics, not at the health endpoint."
        ),
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option(
            envvar="DMSG_SERVER_AUTH",
            callback=refuse_typed,
            help="Passphrase that makes a server official; only by the variable.",
        ),
    ] = None,
    drain_time: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds that running streams get after the first signal."),
    ] = None,
    keys: KeyOptions,
    log: LogOptions,
) -> None:
    """Relay streams until SIGTERM or SIGINT; then finish what runs. A second signal ends at once."""
    settings = _read(file, config, stdin=stdin, keys=keys)
    settings = replace(
        settings,
        local_address=_or(listen, settings.local_address),
        public_address=_or(public_address, settings.public_address),
        metrics_address=_or(metrics, settings.metrics_address),
        server_type=_or(auth, settings.server_type),
        drain_time=_or(drain_time, settings.drain_time),
    )
    source = context.get_parameter_source("log_level")
    if source is not None and source.name == "DEFAULT":
        log = replace(log, log_level=Level(settings.log_level))
    log.set_up()
    _raise_file_limit(2 * settings.max_sessions + OTHER_FILES)
    run(partial(serve, settings), service=True)


async def serve(config: ServerConfig) -> None:
    """Run a server; the first signal drains it, the next one is left to `run`, which cancels."""
    import trio

    from dmsg_trio.server.serving import serve_from_config

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_from_config, config)
        with trio.open_signal_receiver(*STOPS) as signals:
            async for _ in signals:
                break
        server.drain()


def _read(file: Path | None, config: Path | None, *, stdin: bool, keys: KeyOptions) -> ServerConfig:
    named = [path for path in (file, config) if path is not None] + [Path("-")] * stdin
    if len(named) != 1:
        raise ConfigError(
            "one configuration is needed, as CONFIG, --config or --stdin, "
            f"and {len(named)} are named; 'dmsg-server config gen' makes one"
        )
    (path,) = named
    from dmsg_trio.server._config import load_config, parse_config

    if str(path) != "-":
        return load_config(path, key=keys.secret_key())
    if keys.key_stdin or str(keys.key_file) == "-":
        raise ConfigError("standard input cannot be both the configuration and the key")
    data = sys.stdin.buffer.read(MAX_SETTINGS + 1)
    return parse_config(data, where="standard input", key=keys.secret_key())


def _or(given: T | None, configured: T) -> T:
    return configured if given is None else given


def _raise_file_limit(wanted: int) -> None:
    """Allow this process a file for each session, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        logger.warning(
            "this process may open %d files, for 'max_sessions' it needs %d: see LimitNOFILE",
            allowed,
            wanted,
        )


# ---- config ----


@config_app.callback()
def config() -> None:
    """Make configuration files."""


@config_app.command()
def gen(
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write; standard output without it, or with -."
        ),
    ] = None,
    test: Annotated[
        bool, typer.Option("--testenv", "-t", help="Name the discovery of the test network.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the file, and the key in it.")
    ] = False,
) -> None:
    """Write a configuration with a new key, for its owner alone; print the public key.

    On standard output the whole of it is printed, secret key included.
    """
    from dmsg_trio.server._config import form_of_config

    sk = SecretKey.generate()
    form = form_of_config(sk, discovery=TEST_DISCOVERY if test else DISCOVERY)
    if output is None or str(output) == "-":
        print(form.decode())
        return
    write_private(output, form, overwrite=force, option="--force")
    print(sk.pk)
