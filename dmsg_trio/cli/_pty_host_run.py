"""dmsgpty-host at work: what its signals do, and what it says when it is there."""

from __future__ import annotations

import logging
import os
import shlex
import signal

import trio

from dmsg_trio._keys import PublicKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.apps.pty._places import PTY_PORT
from dmsg_trio.apps.pty.host._allow import AllowList
from dmsg_trio.apps.pty.host._audit import Audit
from dmsg_trio.apps.pty.host._config import HostConfig
from dmsg_trio.apps.pty.host._host import PtyHost
from dmsg_trio.client import Client, open_client

from ._numbers import count
from ._options import HERE
from ._run import STOPS

logger = logging.getLogger("dmsg_trio.pty")


async def serve(config: HostConfig) -> None:
    """Be a host; the first signal drains it, the next one is left to `run`, which cancels."""

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
        lines.append(f"allowed {count(len(allowed), 'key')}")
    else:
        by_hand = f', or write it to "wl" in {config.allow_file}' if config.allow_file else ""
        lines.append(
            "allowed nobody: the allow list is empty. "
            f"To add a key: dmsgpty-cli whitelist-add PK{by_hand}"
        )
    return "\n".join(lines)
