"""Names of hosts that every framework takes.

A label of a name in DNS has 63 characters at the most, and a key has 66. Werkzeug, which routes for
Quart and Flask, refuses longer ones. Its apps are told a name with a dot within the key, which means
nothing to who reads names of dmsg, and what they answer has the key as it was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dmsg_trio._keys import PublicKey

Headers = Iterable[tuple[bytes, bytes]]

MAX_WRAPPERS: Final = 32  # middlewares around an app that are looked through

_TELL_HOSTS: Final = {
    b"host",
    b"origin",
    b"referer",
}  # or a framework sees a request from elsewhere


class DottedHost:
    """An ASGI app that lets another one see a key with a dot in it where requests name their host."""

    def __init__(self, app: ASGIApp, pk: PublicKey) -> None:
        self._app = app
        key = str(pk).encode()
        self._key = key
        self._dotted = key[:33] + b"." + key[33:]
        self._pattern = re.compile(re.escape(key), re.IGNORECASE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_key(message: Message) -> None:
            if "headers" in message:
                message = {**message, "headers": list(self._with_key(message["headers"]))}
            await send(message)

        if scope["type"] != "lifespan":
            scope = {**scope, "headers": list(self._with_dots(scope["headers"]))}
        await self._app(scope, receive, send_with_key)

    def _with_dots(self, headers: Headers) -> Iterator[tuple[bytes, bytes]]:
        for name, value in headers:
            yield name, self._pattern.sub(self._dotted, value) if name in _TELL_HOSTS else value

    def _with_key(self, headers: Headers) -> Iterator[tuple[bytes, bytes]]:
        for name, value in headers:
            yield name, value.replace(self._dotted, self._key)


def needs_dots(app: object) -> bool:
    """Tell whether Werkzeug routes for an app, or for the one that is wrapped in it."""
    for _ in range(MAX_WRAPPERS):
        routes = type(getattr(app, "url_map", None))
        if any(kind.__module__.partition(".")[0] == "werkzeug" for kind in routes.__mro__):
            return True
        app = getattr(app, "app", None) or getattr(app, "wsgi_app", None)
    return False
