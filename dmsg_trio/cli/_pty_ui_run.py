"""dmsgpty-ui at work: the page, and a shell for each tab that shows it."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Final

import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import ConfigError, DmsgError, UnreachableError
from dmsg_trio._net.tcp import listen_tcp, parse_host_port, reason_of
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio.apps.pty._routes import DirectRoute, Route
from dmsg_trio.apps.pty.remote._choosing import open_remote_shell
from dmsg_trio.apps.pty.remote._remote import RemoteShell, Wanted
from dmsg_trio.apps.pty.ui._access import Access
from dmsg_trio.apps.pty.ui._server import serve_ui

from ._joining import joined, why
from ._listening import shown_place
from ._pty_route import local_route
from ._pty_way import WayOptions

KEEP: Final = 600  # seconds for which a shell outlives a connection to its host that was lost

logger = logging.getLogger("dmsg_trio.pty.ui")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One run of the program."""

    address: str
    host: Address | None
    argv: tuple[str, ...] | None
    way: WayOptions
    access: Access

    async def serve(self) -> None:
        """Serve terminals until cancelled."""
        # A client of the network stays; to the host of this machine each shell finds anew.
        if self.host is not None and (sk := self.way.secret_key()) is not None:
            async with joined(sk, self.way.discovery, self.way.timeout) as client:
                await self._serve(DirectRoute(client, self.host))
        else:
            await self._serve(None)

    async def _serve(self, route: Route | None) -> None:
        try:
            listeners = await listen_tcp(self.address)
        except OSError as error:
            reason = reason_of(error)
            raise ConfigError(f"--addr: cannot listen on {self.address}: {reason}") from error
        async with trio.open_nursery() as nursery:
            open_shell = partial(self._open_shell, route)
            label = str(self.host) if self.host else "this machine"
            await nursery.start(partial(serve_ui, listeners, self.access, open_shell, label=label))
            link = self._link(listeners[0].socket.getsockname()[1])
            with trio.open_signal_receiver(signal.SIGHUP) as signals:
                self._print(link, label)
                async for _ in signals:
                    self._print(link, label)

    @asynccontextmanager
    async def _open_shell(
        self, route: Route | None, size: WindowSize
    ) -> AsyncIterator[RemoteShell]:
        wanted = Wanted(
            argv=self.argv,
            terminal="xterm-256color",
            size=size,
            environment=_environment(),
            keep=KEEP,
        )
        try:
            with trio.move_on_after(self.way.timeout) as limit:
                way = route or local_route(self.host, self.way)
                async with open_remote_shell(way, wanted) as shell:
                    limit.deadline = inf
                    yield shell
        except UnreachableError as error:
            raise DmsgError(why(error)) from error
        if limit.cancelled_caught:
            raise DmsgError(f"no answer within {self.way.timeout:g} s")

    def _link(self, port: int) -> str:
        host, _ = parse_host_port(self.address)
        if not _is_loopback(host):
            logger.warning(
                "%s is not of this machine alone, and nothing encrypts what goes there:"
                " let a proxy with TLS do that",
                self.address,
            )
        if host in ("", "0.0.0.0", "::"):  # noqa: S104 - that is what is looked for
            host = "127.0.0.1"
        return f"http://{shown_place(host, port)}/"

    def _print(self, link: str, label: str) -> None:
        token = f"#token={self.access.new_token()}" if self.access.token_needed else ""
        print(f"terminal of {label}: {link}{token}", flush=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _environment() -> dict[str, str]:
    """What a shell may know of its terminal, which shows colours and UTF-8."""
    language = {name: os.environ[name] for name in ("LANG", "LC_ALL") if os.environ.get(name)}
    if not any(value.lower().endswith(("utf-8", "utf8")) for value in language.values()):
        language = {"LANG": "C.UTF-8"}
    return {"COLORTERM": "truecolor", "TERM_PROGRAM": "dmsgpty-ui", **language}
