"""How a command starts: an interpreter of ours is spawned, and told what to become."""

from __future__ import annotations

import errno
import grp
import marshal
import os
import socket
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio

from . import _become
from ._command import Account, Command, StartError, starting_to
from ._plan import Plan, User

STARTS_AT_ONCE: Final = 8  # of interpreters that become commands: each is a burst of work
START_TIMEOUT: Final = 20  # seconds until the command runs; homes can be far away

_HELPER: Final = Path(_become.__file__)
_limit: Final = trio.lowlevel.RunVar[trio.CapacityLimiter]("dmsg_trio starts of commands")


def limit_of_starts() -> trio.CapacityLimiter:
    """Give what those who start commands at the same time share."""
    try:
        return _limit.get()
    except LookupError:
        limit = trio.CapacityLimiter(STARTS_AT_ONCE)
        _limit.set(limit)
        return limit


async def spawn_helper(
    command: Command, files: tuple[int, int, int], *, terminal: bool
) -> tuple[subprocess.Popen[bytes], trio.SocketStream, bytes]:
    """Start the interpreter; give it, the channel to it, and what to tell it."""
    with starting_to("open a channel"):
        near, far = socket.socketpair()
    with far:
        try:
            # A thread, since the users' database may be asked over a network. It is not
            # abandoned when this is cancelled, so the process cannot get lost.
            process, plan = await trio.to_thread.run_sync(
                partial(_spawn, command, files, far.fileno(), terminal=terminal)
            )
        except BaseException:
            near.close()
            raise
    return process, trio.SocketStream(trio.socket.from_stdlib_socket(near)), plan


async def become(channel: trio.SocketStream, plan: bytes) -> None:
    """Tell the helper what to become, and wait until it has; raise `StartError` if it cannot."""
    answer = bytearray()
    with trio.move_on_after(START_TIMEOUT) as patience:
        with suppress(trio.BrokenResourceError):  # then it has ended, and the answer says why
            await channel.send_all(plan)
            await channel.send_eof()
            async for piece in channel:
                answer += piece
    if patience.cancelled_caught:
        raise StartError(f"the command did not start in {START_TIMEOUT} s", errno.ETIMEDOUT)
    if answer == _become.READY:
        return
    number, _, text = answer.removeprefix(_become.READY).decode().partition(" ")
    if not number:
        raise StartError("the interpreter ended before it became the command")
    raise StartError(text, int(number))


def _spawn(
    command: Command, files: tuple[int, int, int], channel: int, *, terminal: bool
) -> tuple[subprocess.Popen[bytes], bytes]:
    plan = marshal.dumps(_plan(command, terminal=terminal))  # type: ignore[arg-type]  # a dict
    helper = (sys.executable, "-I", "-S", "-X", "utf8", str(_HELPER), str(channel))
    stdin, stdout, stderr = files
    with starting_to("start a process"):
        process = subprocess.Popen(  # noqa: S603  of this package, by our own interpreter
            helper,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(channel,),
            start_new_session=True,
        )
    return process, plan


def _plan(command: Command, *, terminal: bool) -> Plan:
    account = Account.find(command.user)
    executable = command.argv[0] if command.argv else account.shell
    name = executable if command.argv else f"-{Path(account.shell).name}"
    return {
        "argv": [command.argv0 or name, *command.argv[1:]],
        "executable": executable,
        "environment": dict(command.environment),
        "directory": None if command.directory is None else str(command.directory),
        "home": account.home,
        "user": None if command.user is None else user_to_become(account),
        "terminal": terminal,
        "no_new_privileges": command.no_new_privileges,
    }


def user_to_become(account: Account) -> User | None:
    if os.geteuid() != 0:
        if account.uid == os.geteuid():
            return None
        raise StartError(f"only root can run commands as {account.name}", errno.EPERM)
    try:
        terminals_gid = grp.getgrnam("tty").gr_gid
    except KeyError:
        terminals_gid = -1
    return {
        "name": account.name,
        "uid": account.uid,
        "gid": account.gid,
        "terminals_gid": terminals_gid,
    }
