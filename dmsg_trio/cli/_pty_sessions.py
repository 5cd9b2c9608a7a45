"""Sessions that go on without anybody, shown and gone on with."""

from __future__ import annotations

import json
import os
import shlex
from datetime import UTC, datetime
from functools import partial

from dmsg_trio._errors import DmsgError
from dmsg_trio._wire.shell import SHELL_URI, SessionInfo
from dmsg_trio.apps.pty._routes import Route
from dmsg_trio.apps.pty.remote._resuming import list_sessions, open_attached_shell

from ._pty_route import routed
from ._pty_talk import Manner, talk
from ._pty_way import WayOptions
from ._raw_terminal import window_size
from ._run import printable
from ._stdio import STDIN, STDOUT

SHOWN_DIGITS = 8  # of a session's name


async def show_sessions(host: str, way: WayOptions, *, as_json: bool) -> int:
    """Print the sessions that this key has on a host."""
    async with routed(host, way) as route:
        sessions = await _sessions(route)
    if as_json:
        print(json.dumps([_form(each) for each in sessions], indent=2))
    for each in () if as_json else sessions:
        print(_line(each))
    return 0


async def go_on(session: str, host: str, way: WayOptions) -> int:
    """Attach to the session whose name begins like that."""
    async with routed(host, way) as route:
        found = [each for each in await _sessions(route) if each.session.startswith(session)]
        if len(found) != 1:
            raise DmsgError(f"{len(found) or 'no'} sessions there begin with {session!r}; see 'ls'")
        size = window_size() if os.isatty(STDOUT) else None
        dial = partial(route.open, SHELL_URI)
        async with open_attached_shell(dial, found[0].session, size) as shell:
            on_terminal = found[0].terminal and os.isatty(STDIN)
            return await talk(shell, Manner(on_terminal=on_terminal))


async def _sessions(route: Route) -> list[SessionInfo]:
    async with await route.open(SHELL_URI) as stream:
        return await list_sessions(stream)


def _form(session: SessionInfo) -> dict[str, object]:
    return {
        "session": session.session,
        "command": session.argv,
        "started": datetime.fromtimestamp(session.started, UTC).isoformat(),
        "attached": session.attached,
        "terminal": session.terminal,
        "ended": session.ended,
    }


def _line(session: SessionInfo) -> str:
    started = datetime.fromtimestamp(session.started, UTC).astimezone()
    state = "ended" if session.ended else "attached" if session.attached else "detached"
    command = shlex.join(session.argv) if session.argv else "login shell"
    short = session.session[:SHOWN_DIGITS]
    return f"{short}  {state:8}  {started:%Y-%m-%d %H:%M:%S}  {printable(command)}"
