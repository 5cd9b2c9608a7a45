"""The page's own protocol: tabs, their WebSockets, and the shells that are theirs.

A tab that is closed says so, and its shell ends. One whose network is gone says nothing: its shell
waits for it under a name that only the tab knows.
"""

from __future__ import annotations

import logging
import secrets
from contextlib import suppress
from typing import Final

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._net.borders import Border
from dmsg_trio._net.nurseries import open_service_nursery

from ._access import Access
from ._messages import (
    NOT_ADMITTED,
    TAKEN_OVER,
    Alive,
    Open,
    Opened,
    Received,
    Resize,
    Status,
    Taken,
    decode_untrusted,
    encode,
    size_of,
)
from ._shell import OpenShell, TabShell
from ._websocket import GOING_AWAY, NORMAL, POLICY, WebSocket, WebSocketClosedError

OPEN_WITHIN: Final = 10  # seconds for the page's first word
GRACE: Final = 60  # seconds for which a shell waits when its tab's network is gone
ALIVE_EVERY: Final = 10  # seconds
SILENCE: Final = 35  # seconds without a word or a pong of the browser: it is out of reach
MAX_SHELLS: Final = 64

logger = logging.getLogger("dmsg_trio.pty.ui")


class Tabs:
    """The shells of all tabs."""

    def __init__(
        self, nursery: trio.Nursery, access: Access, open_shell: OpenShell, label: str
    ) -> None:
        self._nursery = nursery  # where the shells live
        self._access = access
        self._open_shell = open_shell
        self._label = label
        self._tabs: dict[str, _Tab] = {}

    async def serve(self, socket: WebSocket) -> None:
        """Serve the WebSocket of a tab until either end closes it."""
        try:
            opening = await _receive_opening_untrusted(socket)
            key = self._access.redeem_untrusted(opening.secret)
            if key is None:
                await socket.close(NOT_ADMITTED, "neither the token of a new link nor a key")
                return
            await self._serve_admitted(socket, opening, key)
        except RemoteProtocolError as error:
            await socket.close(POLICY, str(error))
        except WebSocketClosedError:
            await socket.close()

    async def _serve_admitted(self, socket: WebSocket, opening: Open, key: str) -> None:
        if opening.shell is None:
            if len(self._tabs) >= MAX_SHELLS:
                full = Status(
                    state="failed", text=f"{MAX_SHELLS} shells are open, which is the limit"
                )
                await socket.send(encode(full))
                await socket.close()
                return
            tab = self._begin(opening)
        else:
            known = self._tabs.get(opening.shell)
            if known is None:
                await socket.send(encode(Status(state="gone", text="the shell is gone")))
                await socket.close()
                return
            tab = known
        tab.shell.resize(size_of(opening))
        await tab.serve(socket, opening.received, key, self._label)

    def _begin(self, opening: Open) -> _Tab:
        tab = _Tab(TabShell(secrets.token_hex(16), size_of(opening)))
        self._nursery.start_soon(self._keep, tab)
        self._tabs[tab.shell.name] = tab
        return tab

    async def _keep(self, tab: _Tab) -> None:
        logger.info("a tab has a shell of %s", self._label)
        try:
            with Border(logger, "the shell of a tab"):
                await tab.shell.run(self._open_shell)
        finally:
            del self._tabs[tab.shell.name]
            logger.info("the shell of a tab is over: %s", tab.shell.status.text or "hung up")


async def _receive_opening_untrusted(socket: WebSocket) -> Open:
    with trio.move_on_after(OPEN_WITHIN):
        text = await socket.receive()
        if isinstance(text, str) and isinstance(opening := decode_untrusted(text), Open):
            return opening
        raise RemoteProtocolError("the first message does not open a shell")
    raise RemoteProtocolError(f"no message within {OPEN_WITHIN} s")


class _Tab:
    """A shell, and the one WebSocket that shows it."""

    def __init__(self, shell: TabShell) -> None:
        self.shell = shell
        self._seat = trio.Lock()  # of the WebSocket
        self._scope: trio.CancelScope | None = None

    async def serve(self, socket: WebSocket, received: int, key: str, label: str) -> None:
        """Show the shell on a WebSocket, instead of the one that did until now."""
        if self._scope is not None:
            self._scope.cancel()
        async with self._seat:
            with trio.CancelScope() as scope:
                self._scope = scope
                self.shell.keep()
                try:
                    await self._show(socket, received, key, label)
                except WebSocketClosedError as closed:
                    self._leave(closed.code)
                    raise
                except RemoteProtocolError:
                    self.shell.hang_up()
                    raise
        if scope.cancelled_caught:
            await socket.close(TAKEN_OVER, "the tab has another connection")

    def _leave(self, code: int) -> None:
        if code in (NORMAL, GOING_AWAY):
            self.shell.hang_up()
        else:
            self.shell.keep(GRACE)

    async def _show(self, socket: WebSocket, received: int, key: str, label: str) -> None:
        self.shell.confirm_untrusted(received)
        opened = Opened(
            shell=self.shell.name,
            key=key,
            input=self.shell.input_count,
            output=received,
            label=label,
        )
        await socket.send(encode(opened))
        async with open_service_nursery() as nursery:
            nursery.start_soon(self._send_news, socket, received)
            nursery.start_soon(_watch, socket)
            # The one who receives tells how it ended; those who send only stop.
            while True:
                self._take_untrusted(await socket.receive())

    def _take_untrusted(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.shell.put_input_untrusted(message)
            return
        match decode_untrusted(message):
            case Received(count=count):
                self.shell.confirm_untrusted(count)
            case Resize() as resize:
                self.shell.resize(size_of(resize))
            case Open():
                raise RemoteProtocolError("a shell is open already")

    async def _send_news(self, socket: WebSocket, sent: int) -> None:
        """Send what the shell says, and what has become of it behind all that."""
        status: Status | None = None
        taken = 0
        with suppress(WebSocketClosedError):
            while True:
                if taken != self.shell.taken:
                    taken = self.shell.taken
                    await socket.send(encode(Taken(count=taken)))
                elif piece := self.shell.output_from(sent):
                    sent += len(piece)
                    await socket.send(piece)
                elif status != self.shell.status:
                    status = self.shell.status
                    await socket.send(encode(status))
                else:
                    await self.shell.changed.wait()


async def _watch(socket: WebSocket) -> None:
    """Let both ends know that the other one lives; break the connection if it does not."""
    with suppress(WebSocketClosedError):
        while trio.current_time() < socket.last_heard + SILENCE:
            # A page hears messages but no pings; a browser answers pings while its page sleeps.
            await socket.send(encode(Alive()))
            await socket.ping()
            await trio.sleep(ALIVE_EVERY)
        await socket.abort()
