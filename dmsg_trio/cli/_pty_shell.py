"""What `dmsgpty-cli` does when it is asked for a shell: a command there, ports forwarded, or both."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import partial

import trio

from dmsg_trio._errors import DmsgError
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.tcp import open_listeners_at, open_stream_to, reason_of
from dmsg_trio.apps.pty._routes import Route
from dmsg_trio.apps.pty.remote._choosing import open_remote_shell
from dmsg_trio.apps.pty.remote._forwarding import forward_here, forward_there
from dmsg_trio.apps.pty.remote._remote import ShellRefusedError, Wanted

from ._forward_specs import ForwardSpec
from ._pty_route import routed
from ._pty_talk import Manner, talk
from ._pty_way import WayOptions
from ._raw_terminal import window_size
from ._run import one_line
from ._stdio import STDOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellTask:
    """All that was asked for."""

    host: str
    argv: tuple[str, ...] | None
    on_terminal: bool
    escape: str
    keep: int
    here: tuple[ForwardSpec, ...]
    there: tuple[ForwardSpec, ...]
    runs_command: bool
    way: WayOptions

    async def run(self) -> int:
        """Do it, and give the exit code."""
        async with routed(self.host, self.way) as route, open_service_nursery() as nursery:
            await _forward(nursery, route, self.here, self.there)
            if not self.runs_command:
                await trio.sleep_forever()
            try:
                return await self._talk(route)
            except ShellRefusedError as error:
                if error.code is None:
                    raise
                print(f"dmsgpty-cli: {one_line(error.reason)}", file=sys.stderr)
                return error.code

    async def _talk(self, route: Route) -> int:
        has_size = self.on_terminal and os.isatty(STDOUT)
        wanted = Wanted(
            argv=self.argv,
            terminal=os.environ.get("TERM", "dumb") if self.on_terminal else None,
            size=window_size() if has_size else None,
            environment=_passed_on(),
            keep=self.keep,
        )
        manner = Manner(
            on_terminal=self.on_terminal, escape=self.escape, title=f"dmsgpty {self.host}".strip()
        )
        with trio.CancelScope() as limit:
            limit.deadline = trio.current_time() + self.way.timeout
            async with open_remote_shell(route, wanted) as shell:
                limit.deadline = float("inf")
                if shell.cannot:
                    cannot = ", ".join(shell.cannot)
                    print(f"dmsgpty-cli: this host cannot: {cannot}", file=sys.stderr)
                return await talk(shell, manner)
        raise DmsgError(f"no answer within {self.way.timeout:g} s")


def _passed_on() -> dict[str, str]:
    """What a shell there may know of the environment here: the language, and what can be shown."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("LC_") or name in ("LANG", "LANGUAGE", "COLORTERM", "NO_COLOR", "TZ")
    }


# ---- ports ----


async def _forward(
    nursery: trio.Nursery,
    route: Route,
    here: tuple[ForwardSpec, ...],
    there: tuple[ForwardSpec, ...],
) -> None:
    for spec in here:
        try:
            listeners = await open_listeners_at(spec.bind, spec.bind_port)
        except OSError as error:
            raise DmsgError(f"-L {spec}: cannot listen there: {reason_of(error)}") from error
        port = listeners[0].socket.getsockname()[1]
        _say(f"{spec.bind}:{port} here leads to {spec.host}:{spec.port} there")
        nursery.start_soon(forward_here, route, listeners, spec.host, spec.port, _say)
    for spec in there:
        connect = partial(open_stream_to, spec.host, spec.port)
        start = partial(forward_there, route, spec.bind, spec.bind_port, connect, _say)
        port = await nursery.start(start)
        _say(f"{spec.bind}:{port} there leads to {spec.host}:{spec.port} here")


def _say(text: str) -> None:
    end = "\r\n" if os.isatty(sys.stderr.fileno()) else "\n"  # it may be raw
    print(f"dmsgpty-cli: {one_line(text)}", end=end, file=sys.stderr, flush=True)
