"""Guard the sessions of a host: the script of a process that ends them when the host cannot.

A fresh interpreter runs it (``python -I -S``), in a session of its own, with nothing open but its
end of a channel, by which the host tells when sessions begin and end. The system closes the channel
with the host, however that ends; of the sessions that are left then everybody is hung up on, and
killed after the grace time. So whom a signal is for is decided here, and the host does the same.
"""

from __future__ import annotations

import os
import signal
import sys
import time

# Not by `typing`, `pathlib` or `contextlib`: it should be there at once, and small.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from typing import Final, TypeAlias

    # By their leaders and when these began, as numbers come round; with groups that are known.
    Sessions: TypeAlias = dict[tuple[int, int], set[int]]

GRACE: Final = 5  # seconds between being hung up and being killed
KILL_TIMEOUT: Final = 5  # seconds in which the killed are gone, unless the system holds them
SHORTEST_PAUSE: Final = 0.002  # seconds between two looks at a session, doubled each time
LONGEST_PAUSE: Final = 0.1


def main() -> None:
    """Listen to the host to its end, and end what is left of it."""
    channel = int(sys.argv[1])
    # Who stops a host by its terminal or its service means the host, which may take a while.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end(listen(channel))


# ---- what the host tells ----


def begun(leader: int, started: int, group: int) -> bytes:
    """Say that a session is there, and one of its groups; that may be said again for another."""
    return b"%d %d %d\n" % (leader, started, group)


def ended(leader: int, started: int) -> bytes:
    """Say that nothing is left of a session."""
    return b"%d %d\n" % (leader, started)


def listen(channel: int) -> Sessions:
    """Hear the host out; give the sessions that are left."""
    sessions: Sessions = {}
    text = b""
    while piece := os.read(channel, 65536):
        *lines, text = (text + piece).split(b"\n")
        for line in lines:
            leader, started, *groups = map(int, line.split())
            if groups:
                sessions.setdefault((leader, started), set()).update(groups)
            else:
                sessions.pop((leader, started), None)
    return sessions


# ---- the end ----


def end(sessions: Sessions, grace: float = GRACE) -> None:
    """Hang up on all, and kill who is there after the grace time."""
    signal_groups(_groups(sessions), signal.SIGHUP)
    signal_groups(_groups(sessions), signal.SIGCONT)  # the stopped hear it now
    if _are_gone_within(grace, sessions):
        return
    until = time.monotonic() + KILL_TIMEOUT
    while time.monotonic() < until:  # whoever is killed may have forked just before
        signal_groups(_groups(sessions), signal.SIGKILL)
        if _are_gone_within(LONGEST_PAUSE, sessions):
            return


def _are_gone_within(seconds: float, sessions: Sessions) -> bool:
    until, pause = time.monotonic() + seconds, SHORTEST_PAUSE
    while _groups(sessions):
        if time.monotonic() >= until:
            return False
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    return True


def _groups(sessions: Sessions) -> set[int]:
    """Find the groups that live; forget the sessions of which nothing does, and never come back."""
    try:
        alive = _alive(sessions)
    except OSError:  # no descriptor is free for the look
        alive = sessions
    for gone in sessions.keys() - alive.keys():
        del sessions[gone]
    return {group for groups in alive.values() for group in groups}


# ---- what Linux and macOS do differently ----

if sys.platform == "linux":

    def start_of(pid: int) -> int:
        """Say when a process began, in ticks since the machine did; -1 if it is not there."""
        fields = _status(pid)
        return int(fields[19]) if fields else -1

    def members(sessions: Container[int]) -> Iterator[tuple[int, int]]:
        """Find all processes of some sessions, zombies included, each with its session."""
        # A look costs about a microsecond for each process of the machine.
        for name in os.listdir("/proc"):
            if name.isdecimal():
                try:
                    session = os.getsid(int(name))
                except (ProcessLookupError, PermissionError):
                    continue
                if session in sessions:
                    yield int(name), session

    def is_alive(pid: int) -> bool:
        """Tell whether a process is there, and no zombie."""
        return _status(pid)[:1] not in ([], [b"Z"], [b"X"])

    def _status(pid: int) -> list[bytes]:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                status = file.read()
        except (FileNotFoundError, ProcessLookupError):
            return []
        return status.rpartition(b") ")[2].split()  # a name may hold parentheses

    def _alive(sessions: Sessions) -> Sessions:
        """Find the groups of sessions in which somebody lives, by a look at all processes."""
        # The system gives no number to somebody else that is a session's. So if the leader's is
        # another process's, nothing is left of the session.
        ours = {
            leader: (leader, started)
            for leader, started in sessions
            if start_of(leader) in (started, -1)
        }
        alive: Sessions = {}
        for pid, session in members(ours):
            if is_alive(pid):
                try:
                    alive.setdefault(ours[session], set()).add(os.getpgid(pid))
                except ProcessLookupError:
                    continue
        return alive

else:

    def start_of(pid: int) -> int:
        """Say nothing of the process, as nobody can be asked; so its number has to do."""
        return 0

    def has_members(group: int) -> bool:
        """Tell whether somebody lives in a group."""
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):  # the latter, too, of zombies alone
            return False
        return True

    def _alive(sessions: Sessions) -> Sessions:
        """Find the groups in which somebody lives, of those that are known."""
        alive = {
            key: {group for group in groups if has_members(group)}
            for key, groups in sessions.items()
        }
        return {key: groups for key, groups in alive.items() if groups}


def signal_groups(groups: Iterable[int], number: int) -> None:
    """Signal process groups; those that are gone or another user's are passed over."""
    for group in groups:
        if group > 1:  # to 0 and -1 it would go to our own group, or to everybody
            try:
                os.killpg(group, number)
            except (ProcessLookupError, PermissionError):
                continue


if __name__ == "__main__":
    main()
