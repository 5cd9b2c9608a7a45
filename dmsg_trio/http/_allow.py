"""Who may ask an app: everybody else is answered before the app sees anything."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from dmsg_trio._keys import PublicKey

logger = logging.getLogger(__name__)

Allow = Collection[PublicKey] | Callable[[PublicKey], bool]

MAX_REMEMBERED: Final = 1024  # refused keys that are not logged again


class AllowList:
    """An ASGI app that lets some keys through to another one, and answers 403 to the rest."""

    def __init__(self, app: ASGIApp, allow: Allow) -> None:
        if not callable(allow):
            _check_keys(allow)
        self._app = app
        self._allow = allow
        self._refused: OrderedDict[str, None] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._may_ask(scope["client"][0]):
            await self._app(scope, receive, send)
            return
        key: str = scope["client"][0]
        self._log(key)
        kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
        body = f"Forbidden: the key {key} is not on this server's list.\n".encode()
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": f"{kind}.start", "status": 403, "headers": headers})
        await send({"type": f"{kind}.body", "body": body, "more_body": False})

    def _may_ask(self, key: str) -> bool:
        pk = PublicKey.parse(key)
        return self._allow(pk) if callable(self._allow) else pk in self._allow

    def _log(self, key: str) -> None:
        if key not in self._refused:
            logger.warning("refused %s, which is not on the list", key)
        self._refused[key] = None
        self._refused.move_to_end(key)
        if len(self._refused) > MAX_REMEMBERED:
            self._refused.popitem(last=False)


def _check_keys(allow: Collection[object]) -> None:
    """Refuse what would never be found in there, so that nobody waits for a friend in vain."""
    for each in [allow] if isinstance(allow, str) else allow:
        if not isinstance(each, PublicKey):
            raise TypeError(f"allow has keys, as PublicKey.parse(…) makes them, not {each!r}")
