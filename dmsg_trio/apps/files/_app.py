"""A folder over HTTP, as an ASGI app: what a request gets, from its path to its answer."""

from __future__ import annotations

import errno
import gzip
import logging
import os
from collections.abc import Collection
from typing import Final

import trio
from starlette.types import Receive, Scope, Send

from dmsg_trio._keys import PublicKey
from dmsg_trio.apps.access import Admission, admission

from ._accepting import prefers_json_untrusted, takes_gzip_untrusted
from ._answers import Answer, ClientGoneError, Exchange, FileChangedError, OnAnswered, text
from ._arriving import UploadOptions
from ._listing import JSON_HEADERS, MAX_ENTRIES, PAGE_HEADERS, View, html_listing, json_listing
from ._sending import COMPRESSION, Sender
from ._serving import FileServer
from ._target import NoSuchNameError, NotAPathError, Target, path_of, target_untrusted
from ._tree import Opened, Tree
from ._uploading import Uploads

INDEX: Final = b"index.html"
MAX_THREADS: Final = 32  # that wait for disks at once
MAX_LISTINGS: Final = 2  # folders that are read at once

_MISSING: Final = {
    errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ESTALE, errno.EINVAL,
    errno.EILSEQ, errno.ENXIO,
}  # fmt: skip
_BUSY: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}

logger = logging.getLogger("dmsg_trio.files")


class FilesApp:
    """Serves what is below a folder; whoever is not allowed gets nothing but a refusal.

    ``allowed`` are the keys that may come, None if everybody may; what a key that is allowed no more
    has under way ends. ``on_answered`` is told of each request when its answer has gone out, or as
    much of it as there will be.
    """

    def __init__(
        self,
        root: str,
        *,
        show_hidden: bool = False,
        uploads: UploadOptions | None = None,
        allowed: Admission | Collection[PublicKey] | None = None,
        on_answered: OnAnswered = lambda _answered: None,
    ) -> None:
        self._tree = Tree(root, show_hidden=show_hidden)
        self._allowed = None if allowed is None else admission(allowed)
        self._on_answered = on_answered
        self._threads = trio.CapacityLimiter(MAX_THREADS)
        self._files = FileServer(Sender(self._threads), sandboxed=uploads is not None)
        self._uploads = None if uploads is None else Uploads(self._tree, uploads, self._threads)
        self._listings = trio.CapacityLimiter(MAX_LISTINGS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        try:
            await self._admit_untrusted(exchange)
        except ClientGoneError:
            pass
        except (FileChangedError, OSError) as fault:
            # An answer that ends too early is one that the client knows to be broken.
            logger.warning("%s broke off: %s", _name_of(exchange), fault)
        finally:
            self._on_answered(exchange.outcome())

    async def _admit_untrusted(self, exchange: Exchange) -> None:
        """Answer for as long as whoever asks may come."""
        if self._allowed is None:
            await self._answer_untrusted(exchange)
            return
        pk = _key_untrusted(exchange.client)
        if pk is None or pk not in self._allowed:
            await exchange.answer(_not_allowed(pk))
            return
        with self._allowed.while_allowed(pk) as allowed:
            await self._answer_untrusted(exchange)
        if allowed.cancelled_caught:
            logger.info("%s broke off: %s is not on the list any more", _name_of(exchange), pk)
            if not exchange.has_started:
                await exchange.answer(_not_allowed(pk))

    async def _answer_untrusted(self, exchange: Exchange) -> None:
        try:
            await self._serve_untrusted(exchange)
        except OSError as error:
            if exchange.has_started:
                raise
            await exchange.answer(_answer_to(error, exchange))

    async def _serve_untrusted(self, exchange: Exchange) -> None:
        if exchange.method == "OPTIONS":
            await exchange.answer(Answer(204, headers={"allow": self._methods}))
        elif exchange.method not in self._methods.split(", "):
            await exchange.answer(text(405, "Method Not Allowed", allow=self._methods))
        else:
            try:
                target = target_untrusted(exchange.raw_path)
            except NotAPathError:
                await exchange.answer(text(400, "Bad Request"))
            except NoSuchNameError:
                await exchange.answer(text(404, "Not Found"))
            else:
                await self._serve(exchange, target)

    @property
    def _methods(self) -> str:
        return "GET, HEAD, OPTIONS" + (", POST, PUT" if self._uploads else "")

    async def _serve(self, exchange: Exchange, target: Target) -> None:
        if exchange.method in ("POST", "PUT") and self._uploads is not None:
            if (answer := await self._uploads.take_untrusted(exchange, target)) is not None:
                await exchange.answer(answer)
            return
        if not target.is_clean:
            await exchange.answer(_moved(exchange, target.path))
            return
        opened = await trio.to_thread.run_sync(self._find, target, limiter=self._threads)
        try:
            if not opened.is_folder:
                name = INDEX if target.is_folder else target.names[-1]
                await self._files.serve(exchange, name, opened)
            elif not target.is_folder:
                await exchange.answer(_moved(exchange, path_of(target.names, is_folder=True)))
            else:
                await exchange.answer(
                    await trio.to_thread.run_sync(
                        self._listing, exchange, target, opened, limiter=self._listings
                    )
                )
        finally:
            opened.close()

    def _find(self, target: Target) -> Opened:
        """Open what a path names; an index stands for its folder."""
        opened = self._tree.open_untrusted(target.names)
        if not target.is_folder:
            return opened
        try:
            if not opened.is_folder:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            index = self._tree.open_untrusted((*target.names, INDEX))
        except FileNotFoundError:
            return opened
        except OSError:
            opened.close()
            raise
        (opened if not index.is_folder else index).close()
        return opened if index.is_folder else index

    def _listing(self, exchange: Exchange, target: Target, folder: Opened) -> Answer:
        entries = self._tree.list(folder, target.names, MAX_ENTRIES)
        view = View.parse_untrusted(exchange.query)
        if prefers_json_untrusted(exchange.headers.get("accept", "")):
            body, headers = json_listing(target.names, entries, view), JSON_HEADERS
        else:
            uploads = self._uploads is not None
            body, headers = html_listing(target.names, entries, view, uploads=uploads), PAGE_HEADERS
        if takes_gzip_untrusted(exchange.headers.get("accept-encoding", "")):
            body = gzip.compress(body, COMPRESSION)
            headers = {**headers, "content-encoding": "gzip"}
        return Answer(200, body, headers)


def _key_untrusted(client: str) -> PublicKey | None:
    """Tell who asks; servers of other networks have no keys to name."""
    try:
        return PublicKey.parse(client)
    except ValueError:
        return None


def _not_allowed(pk: PublicKey | None) -> Answer:
    """Refuse who is not on the list; they learn which key would have to be."""
    return text(403, f"Forbidden: {pk} is not on the list" if pk else "Forbidden")


def _moved(exchange: Exchange, path: str) -> Answer:
    """Send to another path of this host; it begins with one slash, so it is of no other host."""
    query = f"?{exchange.query}" if exchange.query else ""
    return text(301, "Moved Permanently", location=path + query)


def _answer_to(error: OSError, exchange: Exchange) -> Answer:
    """Say what it means for a client that the system refused something."""
    if isinstance(error, PermissionError):
        return text(403, "Forbidden")
    if error.errno in _MISSING:
        return text(404, "Not Found")
    logger.warning("%s: %s", _name_of(exchange), error.strerror)
    if error.errno in _BUSY:
        return text(503, "Service Unavailable", retry_after="5")
    return text(500, "Internal Server Error")


def _name_of(exchange: Exchange) -> str:
    return f"{exchange.method} {exchange.outcome().path}"
