"""dmsgpty-ui: a terminal in the browser, on any machine that has a key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from dmsg_trio._errors import ConfigError
from dmsg_trio._identity import read_private_file
from dmsg_trio.apps.pty._places import PTY_PORT

from ._main import main_of
from ._options import LogOptions, spread
from ._parties import parse_address
from ._pty_way import WayOptions
from ._run import program, run
from ._version import Version

ADDRESS: Final = "127.0.0.1:8080"  # the reference's port, for this machine alone
USUAL_SHELL: Final = "/bin/bash"  # what the reference runs; arguments without a command are for it
MIN_TOKEN: Final = 16  # characters

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
    log.set_up()
    from dmsg_trio._net.tcp import parse_host_port
    from dmsg_trio.apps.pty.ui._access import Access, parse_origin

    from ._pty_ui_run import Service

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
    service = Service(
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
