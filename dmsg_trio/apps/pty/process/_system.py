"""What Linux and macOS do differently for somebody who looks after processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Set
from contextlib import suppress
from functools import partial

import trio

if sys.platform == "linux":
    from ._guardian import is_alive, members

    async def wait_for_exit(pid: int) -> None:
        """Wait until a child is a zombie; one task at a time for each."""
        try:
            handle = os.pidfd_open(pid)
        except OSError:  # before Linux 5.3
            wait = partial(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            limit = trio.CapacityLimiter(1)  # not of the threads that others wait for
            await trio.to_thread.run_sync(wait, abandon_on_cancel=True, limiter=limit)
            return
        try:
            await trio.lowlevel.wait_readable(handle)
        finally:
            os.close(handle)

    def exit_of(process: subprocess.Popen[bytes]) -> int:
        """Give the code of a child that has ended, or its signal below zero; leave it a zombie."""
        status = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert status is not None  # noqa: S101  only a wait that may come too early gives none
        return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status

    def groups_of_session(session: int, known: Set[int]) -> set[int]:
        """Find the process groups of a session, by a look at all processes."""
        groups = {session} | known
        with suppress(OSError):  # no descriptor is free for the look: see below
            for pid, _ in members({session}):
                with suppress(ProcessLookupError):
                    groups.add(os.getpgid(pid))
        return groups

    def is_somebody_left(session: int, known: Set[int]) -> bool:
        """Say if anybody but its leader lives in a session."""
        try:
            return any(is_alive(pid) for pid, _ in members({session}) if pid != session)
        except OSError:  # no descriptor is free for the look: then look again
            return True

else:
    import select

    from ._guardian import has_members

    async def wait_for_exit(pid: int) -> None:
        """Wait until a child is a zombie; one task at a time for each."""
        queue = trio.lowlevel.current_kqueue()

        def event(flags: int) -> select.kevent:
            return select.kevent(
                pid, filter=select.KQ_FILTER_PROC, flags=flags, fflags=select.KQ_NOTE_EXIT
            )

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            queue.control([event(select.KQ_EV_DELETE)], 0)
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            queue.control([event(select.KQ_EV_ADD | select.KQ_EV_ONESHOT)], 0)
        except ProcessLookupError:
            return  # it is one already
        await trio.lowlevel.wait_kevent(pid, select.KQ_FILTER_PROC, abort)

    def exit_of(process: subprocess.Popen[bytes]) -> int:
        """Give the code of a child that has ended, or its signal below zero, and reap it.

        Here one cannot be asked for without the other. The system gives the number to nobody
        else as long as the group has members; after that it comes round late.
        """
        return process.wait()

    def groups_of_session(session: int, known: Set[int]) -> set[int]:
        """Give the process groups that are known: nobody can be asked for the others."""
        return {session} | known

    def is_somebody_left(session: int, known: Set[int]) -> bool:
        """Say if anybody lives in the groups that are known."""
        return any(has_members(group) for group in groups_of_session(session, known))
