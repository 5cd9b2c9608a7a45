"""dmsgpty-ui: a terminal in the browser, on any machine that has a key."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from dmsg_trio._address import Address
from dmsg_trio._errors import ConfigError, DmsgError, UnreachableError
from dmsg_trio._identity import read_private_file
from dmsg_trio._net.tcp import listen_tcp, parse_host_port
from dmsg_trio.apps.pty._places import PTY_PORT

from ._joining import joined, why
from ._main import main_of
from ._options import LogOptions, spread
from ._parties import parse_address
from ._pty_way import WayOptions
from ._run import program, run
from ._version import Version

if TYPE_CHECKING:
    from dmsg_trio._wire.pty import WindowSize
    from dmsg_trio.apps.pty._routes import Route
    from dmsg_trio.apps.pty.remote._remote import RemoteShell
    from dmsg_trio.apps.pty.ui._access import Access

ADDRESS: Final = "127.0.0.1:8080"  # the reference's port, for this machine alone
USUAL_SHELL: Final = "/bin/bash"  # what the reference runs; arguments without a command are for it
KEEP: Final = 600  # seconds for which a shell outlives a connection to its host that was lost
MIN_TOKEN: Final = 16  # characters

logger = logging.getLogger("dmsg_trio.pty.ui")

app = program()


def main() -> NoReturn:
    """Run the command, as the console script and ``python -m`` do."""
    main_of(app, "dmsgpty-ui", "pty", "ui")


@app.command()
@spread
def dmsgpty_ui(
    host: Annotated[
        str, typer.Argument(metavar="[PK[:port]]", help="The host; none is this machine's.")
    ] = "",
    *,
    addr: Annotated[str, typer.Option(help="Where to listen for browsers.")] = ADDRESS,
    cmd: Annotated[
        str, typer.Option(help="What to run, if not the login shell.", show_default=False)
    ] = "",
    arg: Annotated[
        list[str] | None, typer.Option("--arg", help="An argument for it; again for more.")
    ] = None,
    hnet: Annotated[str, typer.Option(help="As --clinet, of which it is the older name.")] = "",
    haddr: Annotated[str, typer.Option(help="As --cliaddr, of which it is the older name.")] = "",
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Give a shell to whoever gets to the address.")
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", help="File with a token of yours, which counts as often as it is used."
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            metavar="URL",
            help="https://name by which browsers reach it through a proxy; again for more.",
        ),
    ] = None,
    _version: Version = False,
    way: WayOptions,
    log: LogOptions,
) -> None:
    """Serve a terminal to browsers, until SIGTERM or SIGINT; print the link that lets one in.

    A link works once; SIGHUP prints another one. Every tab has a shell of its own, which ends when
    the tab is closed. Without a key of yours (--key-file and others) the host on this machine
    carries it; without PK it is a shell on this machine.
    """
    from dmsg_trio.apps.pty.ui._access import Access, parse_origin

    log.set_up()
    try:
        parse_host_port(addr)
        origins = [parse_origin(each) for each in allow_origin or ()]
    except ValueError as error:
        raise ConfigError(str(error)) from None
    access = Access(
        token_needed=not no_token,
        own_token=_own_token(token_file) if token_file is not None else "",
        origins=origins,
    )
    service = _Service(
        address=addr,
        host=parse_address(host, default_port=PTY_PORT) if host else None,
        argv=(cmd or USUAL_SHELL, *(arg or ())) if cmd or arg else None,
        way=replace(way, clinet=hnet or way.clinet, cliaddr=haddr or way.cliaddr),
        access=access,
    )
    run(service.serve, service=True)


def _own_token(path: Path) -> str:
    try:
        token = read_private_file(path).raw.decode().strip()
    except UnicodeDecodeError:
        token = ""
    if len(token) < MIN_TOKEN or len(token.split()) != 1:
        raise ConfigError(
            f"--token-file: {path} is not one word of at least {MIN_TOKEN} characters"
        )
    return token


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    address: str
    host: Address | None
    argv: tuple[str, ...] | None
    way: WayOptions
    access: Access

    async def serve(self) -> None:
        """Serve terminals until cancelled."""
        from dmsg_trio.apps.pty._routes import DirectRoute

        # A client of the network stays; to the host of this machine each shell finds anew.
        if self.host is not None and (sk := self.way.secret_key()) is not None:
            async with joined(sk, self.way.discovery, self.way.timeout) as client:
                await self._serve(DirectRoute(client, self.host))
        else:
            await self._serve(None)

    async def _serve(self, route: Route | None) -> None:
        import trio

        from dmsg_trio.apps.pty.ui._server import serve_ui

        try:
            listeners = await listen_tcp(self.address)
        except OSError as error:
            raise ConfigError(f"--addr: cannot listen on {self.address}: {error}") from error
        async with trio.open_nursery() as nursery:
            open_shell = partial(self._open_shell, route)
            label = str(self.host) if self.host else "this machine"
            await nursery.start(partial(serve_ui, listeners, self.access, open_shell, label=label))
            link = self._link(listeners[0].socket.getsockname()[1])
            with trio.open_signal_receiver(signal.SIGHUP) as signals:
                self._print(link, label)
                async for _ in signals:
                    self._print(link, label)

    @asynccontextmanager
    async def _open_shell(
        self, route: Route | None, size: WindowSize
    ) -> AsyncIterator[RemoteShell]:
        import trio

        from dmsg_trio.apps.pty.remote._choosing import open_remote_shell
        from dmsg_trio.apps.pty.remote._remote import Wanted

        wanted = Wanted(
            argv=self.argv,
            terminal="xterm-256color",
            size=size,
            environment=_environment(),
            keep=KEEP,
        )
        try:
            with trio.move_on_after(self.way.timeout) as limit:
                async with open_remote_shell(route or self._local_route(), wanted) as shell:
                    limit.deadline = inf
                    yield shell
        except UnreachableError as error:
            raise DmsgError(why(error)) from error
        if limit.cancelled_caught:
            raise DmsgError(f"no answer within {self.way.timeout:g} s")

    def _local_route(self) -> Route:
        from dmsg_trio.apps.pty._local import check_socket
        from dmsg_trio.apps.pty._routes import LocalRoute

        socket = self.way.local_socket()
        if not socket.is_there:
            raise ConfigError(f"no host runs on this machine: {socket} is not there")
        if socket.network == "unix":
            check_socket(Path(socket.address))
        return LocalRoute(socket, self.host)

    def _link(self, port: int) -> str:
        host, _ = parse_host_port(self.address)
        if not _is_loopback(host):
            logger.warning(
                "%s is not of this machine alone, and nothing encrypts what goes there:"
                " let a proxy with TLS do that",
                self.address,
            )
        if host in ("", "0.0.0.0", "::"):  # noqa: S104 - that is what is looked for
            host = "127.0.0.1"
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def _print(self, link: str, label: str) -> None:
        token = f"#token={self.access.new_token()}" if self.access.token_needed else ""
        print(f"terminal of {label}: {link}{token}", flush=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _environment() -> dict[str, str]:
    """What a shell may know of its terminal, which shows colours and UTF-8."""
    language = {name: os.environ[name] for name in ("LANG", "LC_ALL") if os.environ.get(name)}
    if not any(value.lower().endswith(("utf-8", "utf8")) for value in language.values()):
        language = {"LANG": "C.UTF-8"}
    return {"COLORTERM": "truecolor", "TERM_PROGRAM": "dmsgpty-ui", **language}
