"""dmsgpty-host: shells on this machine, for the keys on its allow list."""

from __future__ import annotations

import logging
import os
import pwd
import shlex
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from dmsg_trio._errors import ConfigError
from dmsg_trio._files import MAX_SETTINGS
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio.apps.pty._places import PTY_PORT
from dmsg_trio.apps.pty.host._config import HostConfig, host_config
from dmsg_trio.apps.pty.host._sources import (
    ENV_PREFIX,
    Source,
    allowed_in,
    form_of_config,
    from_bytes,
    from_common_variables,
    from_environment,
    from_file,
    from_flags,
)

from ._access import keys_named
from ._main import main_of
from ._options import HERE, KeyOptions, LogOptions, spread
from ._private_files import write_private
from ._run import STOPS, program, run
from ._version import Version

if TYPE_CHECKING:
    from dmsg_trio.client import Client

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
    given = [] if not confstdin else [_standard_input(keys)]
    path = _path(confpath, optional=confstdin)
    config = host_config(
        [
            from_common_variables(os.environ),
            *given,
            *([from_file(path)] if path is not None and path.exists() else []),
            from_environment(os.environ, envprefix),
            from_flags(flags),
        ],
        key=keys.secret_key(),
        allow_file=path,
        allowed=(
            *keys_named(allow or (), "--allow"),
            *(pk for each in given for pk in allowed_in(each)),
        ),
    )
    log.set_up()
    _check_rights(config.options.user)
    run(partial(serve, config), service=True)


def _standard_input(keys: KeyOptions) -> Source:
    if keys.key_stdin or str(keys.key_file) == "-":
        raise ConfigError("standard input cannot be both the configuration and the key")
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


async def serve(config: HostConfig) -> None:
    """Be a host; the first signal drains it, the next one is left to `run`, which cancels."""
    import trio

    from dmsg_trio._net.nurseries import open_service_nursery
    from dmsg_trio.apps.pty.host._allow import AllowList
    from dmsg_trio.apps.pty.host._audit import Audit
    from dmsg_trio.apps.pty.host._host import PtyHost
    from dmsg_trio.client import open_client

    async def reload_on_signal(
        *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        had_terminal = has_terminal()
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                if had_terminal and not has_terminal():
                    # Nobody who closes a window means to leave a way in behind.
                    logger.info("SIGHUP: the terminal is gone, ending")
                    host.drain()
                    return
                allow.reload()
                logger.info("SIGHUP: %d keys may enter", len(allow.keys))

    async def drain_on_signal() -> None:
        with trio.open_signal_receiver(*STOPS) as signals:
            async for _ in signals:
                break
        host.drain()

    for warning in config.warnings:
        logger.warning("%s", warning)
    allow = AllowList(config.allow_file, given=config.allowed)
    audit = Audit(config.audit_log)
    try:
        async with (
            open_client(
                config.secret_key,
                discovery=config.discovery,
                min_sessions=config.min_sessions,
                wait=False,
            ) as client,
            open_service_nursery() as nursery,
        ):
            host = PtyHost(client, config.options, allow, audit)
            await nursery.start(reload_on_signal)
            await nursery.start(allow.watch)
            nursery.start_soon(drain_on_signal)
            nursery.start_soon(_tell_when_registered, client, config.discovery)
            async with trio.open_nursery() as serving:
                await serving.start(host.serve)
                print(welcome(config, allow.keys), flush=True)
    finally:
        audit.close()


async def _tell_when_registered(client: Client, discovery: str) -> None:
    await client.wait_registered()
    logger.info("registered at %s", discovery)


def has_terminal() -> bool:
    """Tell whether this process was started at a terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def welcome(config: HostConfig, allowed: tuple[PublicKey, ...]) -> str:
    """Tell whoever started the host where it is and how to get in."""
    pk, options = config.secret_key.pk, config.options
    address = str(pk) if options.port == PTY_PORT else f"{pk}:{options.port}"
    discovery = "" if config.discovery == HERE else f" --discovery {shlex.quote(config.discovery)}"
    lines = [
        f"key     {pk}",
        f"port    {options.port}, of the network at {config.discovery}",
        f"socket  {options.address}",
        f"enter   dmsgpty-cli --key-file FILE{discovery} {address}",
    ]
    if allowed:
        lines.append(f"allowed {len(allowed)} " + ("key" if len(allowed) == 1 else "keys"))
    else:
        by_hand = f', or write it to "wl" in {config.allow_file}' if config.allow_file else ""
        lines.append(
            "allowed nobody: the allow list is empty. "
            f"To add a key: dmsgpty-cli whitelist-add PK{by_hand}"
        )
    return "\n".join(lines)


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
    sk = SecretKey.generate()
    environment = from_common_variables(os.environ), from_environment(os.environ, envprefix)
    form = form_of_config(sk, *environment)
    write_private(path.resolve() if unsafe else path, form, overwrite=unsafe, option="--unsafe")
    print(sk.pk)
