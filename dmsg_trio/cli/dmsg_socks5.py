"""dmsg-socks5: programs here go out to the internet at another key, by SOCKS5."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from dmsg_trio._address import Address
from dmsg_trio._errors import ConfigError
from dmsg_trio._keys import PublicKey, SecretKey

from ._access import AllowedKeys, AllowFile, audience, keys_named
from ._listening import LOOPBACK, Bind, listen_here, shown_place
from ._main import main_of
from ._options import (
    HERE,
    AsJson,
    KeyOptions,
    LogOptions,
    ReferenceDiscovery,
    SecretArgument,
    ToolLogOptions,
    spread,
)
from ._parties import parse_address
from ._run import one_line, program, run
from ._secrets import refuse_on_command_line
from ._version import Version

if TYPE_CHECKING:
    from dmsg_trio.apps.socks5 import AllowList, ExitOptions

SOCKS_PORT: Final = 1081  # of dmsg, and of loopback
VARIABLE: Final = "DMSGSK"  # as the reference calls it

logger = logging.getLogger("dmsg_trio.socks5")

app = program(no_args_is_help=True)


def main() -> NoReturn:
    """Run the command, as the console script and ``python -m`` do."""
    main_of(app, "dmsg-socks5", "socks")


@app.callback()
def dmsg_socks5(
    *,
    _version: Version = False,
) -> None:
    """Go out to the internet at another key: a SOCKS5 proxy over dmsg, TCP and UDP."""


Dport = Annotated[
    int, typer.Option("--dport", "-q", min=1, max=65535, help="The dmsg port of the server.")
]


def _key(keys: KeyOptions, secret: str) -> SecretKey:
    refuse_on_command_line(secret, VARIABLE)
    return keys.secret_key(VARIABLE) or SecretKey.generate()


# ---- server ----


@app.command()
@spread
def server(
    *,
    dport: Dport = SOCKS_PORT,
    wl: AllowedKeys = None,
    allow_file: AllowFile = None,
    anyone: Annotated[
        bool, typer.Option("--anyone", help="Let everybody go out here who has the key.")
    ] = False,
    allow_target: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-target",
            metavar="HOST",
            help="A private target that is allowed: name, address or network, :port; again for more.",
        ),
    ] = None,
    allow_private: Annotated[
        bool,
        typer.Option("--allow-private", help="Allow all: this machine, its networks, its cloud."),
    ] = False,
    connect_timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds for a target to answer.")
    ] = 20,
    idle_timeout: Annotated[
        float, typer.Option(min=0, help="End connections after so many silent seconds; 0: never.")
    ] = 0,
    max_connections: Annotated[int, typer.Option(min=1, help="At once, of all keys.")] = 2048,
    max_per_key: Annotated[int, typer.Option(min=1, help="At once, of one key.")] = 512,
    discovery: ReferenceDiscovery = HERE,
    as_json: AsJson = False,
    secret: SecretArgument = "",
    keys: KeyOptions,
    log: LogOptions,
) -> None:
    """Connect to the internet for the keys on a list, until SIGTERM or SIGINT.

    Each connection is a line of the log. This machine and the networks around it are no targets
    unless they are allowed. The key may also be in the variable DMSGSK; without one there is a new
    key each time.
    """
    from dmsg_trio.apps.socks5 import AllowList, Exemption, ExitOptions, TargetRules

    given = keys_named(wl or (), "--wl")
    if anyone and (wl or allow_file):
        raise ConfigError("--anyone makes no sense with --wl or --allow-file")
    if not (anyone or given or allow_file):
        raise ConfigError(
            "who may go out here? --wl PK or --allow-file FILE name the keys; --anyone lets"
            " everybody use this machine's way to the internet, in its name"
        )
    try:
        exempt = tuple(Exemption.parse(text) for text in allow_target or ())
    except ValueError as error:
        raise ConfigError(f"--allow-target: {error}") from None
    service = _Server(
        sk=_key(keys, secret),
        port=dport,
        discovery=discovery,
        allow=None if anyone else AllowList(allow_file, given=given),
        options=ExitOptions(
            targets=TargetRules(private=allow_private, exempt=exempt),
            connect_timeout=connect_timeout,
            idle_timeout=idle_timeout or math.inf,
            max_connections=max_connections,
            max_per_key=max_per_key,
        ),
        as_json=as_json,
    )
    log.set_up()
    run(service.serve, service=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    sk: SecretKey
    port: int
    discovery: str
    allow: AllowList | None
    options: ExitOptions
    as_json: bool

    async def serve(self) -> None:
        """Serve until cancelled."""
        import trio

        from dmsg_trio.apps.socks5 import serve_socks5
        from dmsg_trio.client import open_client

        from ._joining import wait_until_reachable

        async with (
            open_client(self.sk, discovery=self.discovery, wait=False) as client,
            trio.open_nursery() as nursery,
        ):
            if self.allow is not None:
                nursery.start_soon(self.allow.watch)
            serve = partial(serve_socks5, client, self.port, allow=self.allow, options=self.options)
            await nursery.start(serve)
            await wait_until_reachable(client, self.discovery)
            self._print_place(client.pk)

    def _print_place(self, pk: PublicKey) -> None:
        line = f"dmsg-socks5 client -D {self.discovery} -k {pk}"
        line += "" if self.port == SOCKS_PORT else f" -q {self.port}"
        line += "" if self.allow is None else " --key-file FILE"  # of a key that is on the list
        if self.as_json:
            print(json.dumps({"pk": str(pk), "port": self.port, "client": line}), flush=True)
            return
        private = "everything that this machine can reach"
        if not self.options.targets.private:
            private = "the internet"
            private += f", and {len(self.options.targets.exempt)} more by --allow-target" * bool(
                self.options.targets.exempt
            )
        lines = [
            f"exit     {pk}:{self.port}",
            f"to       {private}",
            f"for      {audience(self.allow)}",
            f"use      {line}",
        ]
        print("\n".join(lines), flush=True)


# ---- client ----


@app.command()
@spread
def client(
    pk: Annotated[str, typer.Argument(metavar="[PK[:PORT]]", help="The server to go out at.")] = "",
    *,
    pk_option: Annotated[
        str, typer.Option("--pk", "-k", metavar="PK", help="The same as an option.")
    ] = "",
    dport: Dport = SOCKS_PORT,
    port: Annotated[
        int, typer.Option("--port", "-p", min=0, max=65535, help="The port here; 0: any.")
    ] = SOCKS_PORT,
    bind: Bind = LOOPBACK,
    discovery: ReferenceDiscovery = HERE,
    as_json: AsJson = False,
    secret: SecretArgument = "",
    keys: KeyOptions,
    log: ToolLogOptions,
) -> None:
    """Be a SOCKS5 proxy for the programs of this machine, until SIGTERM or SIGINT.

    All that they send goes out at the server's key, and names are looked up there. Nothing ever
    goes out from here instead: when the server is away, connections fail.
    """
    if bool(pk) == bool(pk_option):
        raise ConfigError("whose exit? name one public key, as dmsg-socks5 server prints it")
    service = _Client(
        sk=_key(keys, secret),
        remote=parse_address(pk or pk_option, default_port=dport),
        host=bind,
        port=port,
        discovery=discovery,
        as_json=as_json,
    )
    log.set_up()
    run(service.serve, service=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Client:
    sk: SecretKey
    remote: Address
    host: str
    port: int
    discovery: str
    as_json: bool

    async def serve(self) -> None:
        """Serve until cancelled."""
        import trio

        from dmsg_trio.apps.socks5 import fault_of_server, serve_local_socks5
        from dmsg_trio.client import open_client

        from ._joining import wait_until_reachable

        listeners = await listen_here(self.host, self.port, option="--port")
        async with (
            open_client(self.sk, discovery=self.discovery, wait=False) as client,
            trio.open_nursery() as nursery,
        ):
            serve = partial(serve_local_socks5, client, self.remote.pk, self.remote.port, listeners)
            await nursery.start(serve)
            self._print_place(listeners[0].socket.getsockname()[1])
            await wait_until_reachable(client, self.discovery)
            if fault := await fault_of_server(client, self.remote):
                logger.warning("%s", one_line(fault))

    def _print_place(self, port: int) -> None:
        place = shown_place(self.host, port)
        line = f"curl --socks5-hostname {place} https://example.com/"
        if self.as_json:
            print(json.dumps({"proxy": f"socks5h://{place}", "curl": line}), flush=True)
            return
        lines = [
            f"proxy    socks5h://{place}",
            f"exit     {self.remote}",
            f"try      {line}",
            f"browser  SOCKS v5 host {self.host}, port {port}; with 'Proxy DNS' where it is asked",
        ]
        print("\n".join(lines), flush=True)
