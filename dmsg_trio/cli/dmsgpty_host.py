"""dmsgpty-host: shells on this machine, for the keys on its allow list."""

from __future__ import annotations

import logging
import os
import pwd
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from dmsg_trio._errors import ConfigError
from dmsg_trio._files import MAX_SETTINGS
from dmsg_trio._keys import SecretKey
from dmsg_trio.apps.pty._places import ENV_PREFIX

from ._access import keys_named
from ._main import main_of
from ._options import KeyOptions, LogOptions, spread
from ._private_files import write_private
from ._run import program, run
from ._version import Version

if TYPE_CHECKING:
    from dmsg_trio.apps.pty.host._sources import Source

CONFIG: Final = "./config.json"  # where the reference looks

logger = logging.getLogger("dmsg_trio.pty")

app = program()


def main() -> NoReturn:
    """Run the command, as the console script and ``python -m`` do."""
    main_of(app, "dmsgpty-host", "pty", "host")


EnvPrefix = Annotated[
    str, typer.Option("--envprefix", help="What the names of the variables begin with.")
]


# ---- the host ----


@app.callback(invoke_without_command=True)
@spread
def dmsgpty_host(
    context: typer.Context,
    *,
    confpath: Annotated[
        str, typer.Option("--confpath", "-c", help="The configuration; '' is none.")
    ] = CONFIG,
    confstdin: Annotated[
        bool, typer.Option("--confstdin", help="Read a configuration from standard input, too.")
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            "--wl",
            metavar="PK",
            help="A key that may enter while this host runs; again for more, or with commas.",
        ),
    ] = None,
    dmsgdisc: Annotated[
        str | None, typer.Option(help="URL of the discovery.", show_default=False)
    ] = None,
    dmsgsessions: Annotated[
        int | None, typer.Option(help="How many servers to be at; 0 is all of them.  [default: 1]")
    ] = None,
    dmsgport: Annotated[
        int | None, typer.Option(help="The dmsg port to listen on.  [default: 22]")
    ] = None,
    clinet: Annotated[
        str | None, typer.Option(help="Of the local socket: unix or tcp.  [default: unix]")
    ] = None,
    cliaddr: Annotated[
        str | None,
        typer.Option(help="Where the local socket is.  [default: dmsgpty.sock in $TMPDIR or /tmp]"),
    ] = None,
    envprefix: EnvPrefix = ENV_PREFIX,
    user: Annotated[str | None, typer.Option(help="Run shells as this user; needs root.")] = None,
    no_new_privileges: Annotated[
        bool, typer.Option("--no-new-privileges", help="Let no command gain any: no sudo, no su.")
    ] = False,
    shell: Annotated[
        str | None, typer.Option(help="The shell to run, if not the user's login shell.")
    ] = None,
    audit_log: Annotated[
        str | None, typer.Option(help="File that tells who ran what; the log without it.")
    ] = None,
    _version: Version = False,
    keys: KeyOptions,
    log: LogOptions,
) -> None:
    """Give shells on this machine to the keys on its allow list, until SIGTERM or SIGINT.

    SIGHUP reads the allow list again. A flag counts over a variable, and that over the file.
    """
    if context.invoked_subcommand is not None:
        return
    flags = {
        "dmsgdisc": dmsgdisc,
        "dmsgsessions": dmsgsessions,
        "dmsgport": dmsgport,
        "clinet": clinet,
        "cliaddr": cliaddr,
        "user": user,
        "no_new_privileges": no_new_privileges,
        "shell": shell,
        "audit_log": audit_log,
    }
    path = _path(confpath, optional=confstdin)
    from dmsg_trio.apps.pty.host import _sources as sources
    from dmsg_trio.apps.pty.host._config import host_config

    from ._pty_host_run import serve

    given = [] if not confstdin else [_standard_input(keys)]
    config = host_config(
        [
            sources.from_common_variables(os.environ),
            *given,
            *([sources.from_file(path)] if path is not None and path.exists() else []),
            sources.from_environment(os.environ, envprefix),
            sources.from_flags(flags),
        ],
        key=keys.secret_key(),
        allow_file=path,
        allowed=(
            *keys_named(allow or (), "--allow"),
            *(pk for each in given for pk in sources.allowed_in(each)),
        ),
    )
    log.set_up()
    _check_rights(config.options.user)
    run(partial(serve, config), service=True)


def _standard_input(keys: KeyOptions) -> Source:
    if keys.key_stdin or str(keys.key_file) == "-":
        raise ConfigError("standard input cannot be both the configuration and the key")
    from dmsg_trio.apps.pty.host._sources import from_bytes

    return from_bytes(sys.stdin.buffer.read(MAX_SETTINGS + 1), "standard input")


def _path(confpath: str, *, optional: bool) -> Path | None:
    """Find the file, which may be missing if it was not named or is not needed."""
    if not confpath:
        return None
    path = Path(confpath)
    if not path.exists() and confpath != CONFIG and not optional:
        raise ConfigError(
            f"cannot read {path}: No such file or directory; 'dmsgpty-host confgen' makes one"
        )
    return path


def _check_rights(user: str | None) -> None:
    """Say now that shells of another user cannot be had, and not to the first who wants one."""
    if user and os.geteuid() not in (0, pwd.getpwnam(user).pw_uid):
        raise ConfigError(f"user: only root can run shells as {user}")
    if not user and os.geteuid() == 0:
        logger.warning("shells run as root: --user names somebody who may do less")


# ---- confgen ----


@app.command()
def confgen(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path(CONFIG),
    *,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Overwrite the file, and the key in it.")
    ] = False,
    envprefix: EnvPrefix = ENV_PREFIX,
) -> None:
    """Write a configuration with a new key, for its owner alone; print the public key.

    The variables of the host count for what is written.
    """
    from dmsg_trio.apps.pty.host import _sources as sources

    sk = SecretKey.generate()
    environment = (
        sources.from_common_variables(os.environ),
        sources.from_environment(os.environ, envprefix),
    )
    form = sources.form_of_config(sk, *environment)
    write_private(path.resolve() if unsafe else path, form, overwrite=unsafe, option="--unsafe")
    print(sk.pk)
