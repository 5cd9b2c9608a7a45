"""Become a command: the script that stands between the host and what it runs.

A fresh interpreter runs it (``python -I -S``), in a session of its own and with the command's
terminal or pipes as its first three files; after them the only open file is the channel to the
host. The plan comes by that, and so does what goes wrong; the exec closes it, and then the host
reads its end: behind a `READY`, or else the script did not get there. So nothing has to happen
between a fork and an exec in a process with threads.
"""

from __future__ import annotations

import errno
import fcntl
import marshal
import os
import signal
import sys
import termios

# Not by `typing`, as nothing here that takes long to import: a start waits for it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from ._plan import Plan, User

PR_SET_NO_NEW_PRIVS: Final = 38  # linux/prctl.h
READY: Final = b"+"  # all is done but the exec
TERMINAL_MODE: Final = 0o620  # its group is "tty": whose programs may write messages to it
TERMINAL_MODE_WITHOUT_GROUP: Final = 0o600


class _Failure(Exception):
    def __init__(self, number: int, text: str) -> None:
        self.number = number
        super().__init__(text)


def main() -> None:
    """Read the plan, follow it, and tell the host if that fails."""
    channel = int(sys.argv[1])
    fcntl.fcntl(channel, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    try:
        plan = _read_plan(channel)
        _prepare(plan)
        os.write(channel, READY)
        _exec(plan["executable"], plan["argv"], plan["environment"])
    except _Failure as failure:
        _tell(channel, failure)
    except OSError as error:
        _tell(channel, _failed("start", error))
    os._exit(127)


def _tell(channel: int, failure: _Failure) -> None:
    os.write(channel, f"{failure.number} {failure}".encode(errors="replace"))


def _read_plan(channel: int) -> Plan:
    pieces = []
    while piece := os.read(channel, 65536):
        pieces.append(piece)
    if not pieces:
        os._exit(127)  # the host gave up
    # The host runs the same interpreter, and nobody else has the other end.
    plan: Plan = marshal.loads(b"".join(pieces))  # noqa: S302
    return plan


def _prepare(plan: Plan) -> None:
    if plan["terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if (user := plan["user"]) is not None:
        _hand_over_files(user, terminal=plan["terminal"])
        become_user(user)
    _enter(plan["directory"], plan["home"])
    if plan["no_new_privileges"]:
        _give_up_new_privileges()
    _reset_signals()


def _hand_over_files(user: User, *, terminal: bool) -> None:
    # Who cannot open the terminal or the pipes again has no use of /dev/tty and /dev/stderr.
    if terminal:
        has_group = user["terminals_gid"] >= 0
        os.fchown(0, user["uid"], user["terminals_gid"] if has_group else user["gid"])
        os.fchmod(0, TERMINAL_MODE if has_group else TERMINAL_MODE_WITHOUT_GROUP)
    elif sys.platform == "linux":  # elsewhere pipes have no owner
        for file in (0, 1, 2):
            os.fchown(file, user["uid"], user["gid"])


def become_user(user: User) -> None:
    """Be somebody else for good."""
    name, uid, gid = user["name"], user["uid"], user["gid"]
    try:
        os.setgid(gid)
        os.initgroups(name, gid)
        os.setuid(uid)
    except OSError as error:
        raise _failed(f"become {name}", error) from error
    if {os.getuid(), os.geteuid()} != {uid} or {os.getgid(), os.getegid()} != {gid}:
        raise _Failure(errno.EPERM, f"become {name}: still {os.geteuid()}:{os.getegid()}")
    if uid != 0 and _can_become_root():
        raise _Failure(errno.EPERM, f"become {name}: it could be undone")


def _can_become_root() -> bool:
    try:
        os.setuid(0)
    except PermissionError:
        return False
    return True


def _enter(directory: str | None, home: str) -> None:
    try:
        os.chdir(home if directory is None else directory)
    except OSError as error:
        if directory is not None:
            raise _failed(f"chdir {directory}", error) from error
        os.chdir("/")


def _give_up_new_privileges() -> None:
    import ctypes  # it takes as long as all the rest, and is seldom asked for

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        number = ctypes.get_errno()
        raise _Failure(number, f"no-new-privileges: {_text(number)}")


def _reset_signals() -> None:
    # An exec keeps what is ignored, and Python ignores SIGPIPE; services may ignore more.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _exec(executable: str, argv: list[str], environment: dict[str, str]) -> None:
    if "/" in executable:
        try:
            os.execve(executable, argv, environment)  # noqa: S606  that is what it is for
        except OSError as error:
            raise _failed(f"fork/exec {executable}", error) from error
    for directory in environment.get("PATH", os.defpath).split(":"):
        path = f"{directory or '.'}/{executable}"
        if os.path.isfile(path) and os.access(path, os.X_OK):
            _exec(path, argv, environment)
    raise _Failure(errno.ENOENT, f'exec: "{executable}": executable file not found in $PATH')


def _failed(what: str, error: OSError) -> _Failure:
    return _Failure(error.errno or 0, f"{what}: {_text(error.errno or 0)}")


def _text(number: int) -> str:
    # As the reference's programs write them: they are compared with, and read side by side.
    text = os.strerror(number)
    return text[:1].lower() + text[1:]


if __name__ == "__main__":
    main()
