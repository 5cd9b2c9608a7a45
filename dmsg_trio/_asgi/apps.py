"""Calls of an ASGI app: how it is started, and what it still has to receive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import h11
import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup, _handle
from hypercorn.typing import (
    AppWrapper,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
)
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp
from starlette.websockets import WebSocketDisconnect

from .files import EXTENSION

SPEC_VERSION: Final = "2.4"  # of ASGI, where sending to who has gone raises an OSError
INBOX: Final = 10  # messages for an app that has not taken them; then its client waits

_LAST: Final = {"http.disconnect", "websocket.disconnect"}


class ClientGoneError(OSError):
    """An app sends to a client that is no longer there; apps need not handle it."""


class App:
    """An ASGI app as hypercorn calls it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(
        self,
        scope: Scope,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
        sync_spawn: object,
        call_soon: object,
    ) -> None:
        try:
            # Starlette and hypercorn name the types of the same messages differently.
            await self._app(scope, receive, send)  # type: ignore[arg-type]
        except* (ClientGoneError, ClientDisconnect, WebSocketDisconnect):
            pass  # apps that stop then are right


class Inbox:
    """Messages on their way to an app; the last one, a disconnect, waits for no room.

    So an app that answers without reading its request to the end holds nobody up.
    """

    def __init__(self) -> None:
        self._put, self._get = trio.open_memory_channel[ASGIReceiveEvent](INBOX)
        self._last: ASGIReceiveEvent = {"type": "http.disconnect"}

    async def put(self, message: ASGIReceiveEvent) -> None:
        """Wait for room; after the last message all others are dropped."""
        if message["type"] in _LAST:
            self._last = message
            self._put.close()
        with suppress(trio.ClosedResourceError):
            await self._put.send(message)

    async def get(self) -> ASGIReceiveEvent:
        """Wait for the next message; the last one comes as often as it is asked for."""
        try:
            return await self._get.receive()
        except trio.EndOfChannel:
            return self._last


class Apps(TaskGroup):
    """The calls of the app on one connection, each a task; ``async with`` waits for them."""

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Call the app with ``scope``; give what takes its messages."""
        scope["asgi"]["spec_version"] = SPEC_VERSION
        if scope["type"] == "http":
            scope["extensions"][EXTENSION] = {}
        inbox = Inbox()

        async def send_in_order(message: ASGISendEvent | None) -> None:
            if message is not None:
                if message["type"] == "http.response.start":
                    message = {**message, "trailers": False}
                if message["type"] != "http.response.trailers":  # as nobody offered to send them
                    await send(message)
                return
            # Hypercorn would like to end the answer, which may be past help.
            with suppress(ClientGoneError, h11.LocalProtocolError):
                await send(None)

        self.spawn(
            _handle,
            *(app, config, scope, inbox.get, send_in_order),
            *(trio.to_thread.run_sync, trio.from_thread.run),
        )
        return inbox.put
