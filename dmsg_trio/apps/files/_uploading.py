"""Files that clients add: one as the body of a PUT, or some in a form that a browser posts."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing
from typing import Final

import trio

from ._answers import Answer, Exchange, text
from ._arriving import Arriving, Refusal, UploadOptions, too_large
from ._forms import Form, FormError, PartBegun, PartData, PartEnded, boundary_untrusted
from ._target import Target, path_of
from ._tree import Opened, Tree

MAX_UPLOADS: Final = 16  # at once
PATIENCE: Final = 60  # seconds for the next bytes
LONGEST_LENGTH: Final = 19  # digits of a length that can be meant


class _GoneError(Exception):
    """The client went before the end of its request."""


class Uploads:
    """Takes files in."""

    def __init__(self, tree: Tree, options: UploadOptions, limiter: trio.CapacityLimiter) -> None:
        self._tree = tree
        self._options = options
        self._limiter = limiter
        self._count = 0

    async def take_untrusted(self, exchange: Exchange, target: Target) -> Answer | None:
        """Take in what a request has; None if the client went before its end."""
        take = self._take_form_untrusted if exchange.method == "POST" else self._take_file_untrusted
        if self._count == MAX_UPLOADS:
            return text(503, f"{MAX_UPLOADS} uploads are under way: try again", retry_after="5")
        self._count += 1
        try:
            return await take(exchange, target)
        except Refusal as refusal:
            return refusal.answer
        except _GoneError:
            return None
        finally:
            self._count -= 1

    # ---- PUT ----

    async def _take_file_untrusted(self, exchange: Exchange, target: Target) -> Answer:
        self._check_head_untrusted(exchange, target)
        name = target.names[-1]
        with closing(await self._in_thread_open(target.names[:-1])) as folder:
            with closing(self._arriving(folder, name, exchange)) as file:
                async with aclosing(_pieces_untrusted(exchange)) as pieces:
                    async for piece in pieces:
                        await file.write(piece)
                if file.size != int(exchange.headers.get("content-length", file.size)):
                    raise _GoneError
                taken = await file.finish()
        if taken.was_there:
            return Answer(204, headers={"etag": taken.tag})
        return text(201, "Created", etag=taken.tag, location=target.path)

    def _check_head_untrusted(self, exchange: Exchange, target: Target) -> None:
        if target.is_folder or not target.names:
            raise Refusal(text(409, "a file needs a name: the path ends in a slash"))
        self._check_name_untrusted(target.names[-1])
        if "content-range" in exchange.headers:
            raise Refusal(text(400, "parts of files are not taken, only whole ones"))
        if exchange.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(text(415, "files are taken as they are, without Content-Encoding"))
        length = exchange.headers.get("content-length", "0")
        if len(length) > LONGEST_LENGTH or int(length) > self._options.max_size:
            raise too_large(self._options)

    def _check_name_untrusted(self, name: bytes) -> None:
        try:
            self._tree.check_name(name)
        except FileNotFoundError:
            raise Refusal(text(403, "Forbidden: names with a dot in front are hidden")) from None

    def _arriving(self, folder: Opened, name: bytes, exchange: Exchange) -> Arriving:
        return Arriving(folder, name, exchange.headers, self._options, self._limiter)

    async def _in_thread_open(self, names: Sequence[bytes]) -> Opened:
        folder = await trio.to_thread.run_sync(
            self._tree.open_untrusted, names, limiter=self._limiter
        )
        if not folder.is_folder:
            folder.close()
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return folder

    # ---- POST ----

    async def _take_form_untrusted(self, exchange: Exchange, target: Target) -> Answer:
        """Take all files of a form, one after the other; those before a refusal stay."""
        boundary = boundary_untrusted(exchange.headers.get("content-type", ""))
        if boundary is None:
            raise Refusal(text(415, "files are posted as multipart/form-data, or PUT"))
        _check_origin_untrusted(exchange)
        with closing(await self._in_thread_open(target.names)) as folder:
            names = await self._take_parts_untrusted(exchange, folder, Form(boundary))
        where = path_of(target.names, is_folder=True)
        if "text/html" in exchange.headers.get("accept", ""):
            return text(303, "See Other", location=where)
        paths = [path_of((*target.names, name), is_folder=False) for name in names]
        return text(201, "\n".join(paths) or "no file was posted", location=where)

    async def _take_parts_untrusted(
        self, exchange: Exchange, folder: Opened, form: Form
    ) -> list[bytes]:
        names: list[bytes] = []
        file: Arriving | None = None
        try:
            async with aclosing(_pieces_untrusted(exchange)) as pieces:
                async for piece in pieces:
                    for event in form.receive_data_untrusted(piece):
                        match event:
                            case PartBegun(filename):
                                # A field without a name is none of a file, or one that was left empty.
                                if name := harmless_name_untrusted(filename or b""):
                                    self._check_name_untrusted(name)
                                    file = self._arriving(folder, name, exchange)
                                    names.append(name)
                            case PartData(data) if file is not None:
                                await file.write(data)
                            case PartEnded() if file is not None:
                                await file.finish()
                                file.close()
                                file = None
            if not form.is_whole:
                raise Refusal(text(400, "the form has no end"))
        except FormError as fault:
            raise Refusal(text(400, f"no form: {fault}")) from None
        finally:
            if file is not None:
                file.close()
        return names


def harmless_name_untrusted(filename: bytes) -> bytes:
    """Take from a name what leads to another folder, and bytes that nobody sees."""
    last = re.split(rb"[/\\]", filename)[-1]
    name = re.sub(rb"[\x00-\x1f\x7f]", b"", last).strip()
    return b"" if name in (b".", b"..") else name


def _check_origin_untrusted(exchange: Exchange) -> None:
    """Refuse forms of other sites: whose browser posts them did not mean to."""
    origin = exchange.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != exchange.headers.get("host"):
        raise Refusal(text(403, "Forbidden: the form is of another site"))


async def _pieces_untrusted(exchange: Exchange) -> AsyncGenerator[bytes]:
    """Give the body of a request as it comes."""
    more = True
    while more:
        try:
            with trio.fail_after(PATIENCE):
                message = await exchange.receive()
        except trio.TooSlowError:
            raise Refusal(text(408, f"nothing came for {PATIENCE} s")) from None
        if message["type"] != "http.request":
            raise _GoneError
        more = message.get("more_body", False)
        yield message.get("body", b"")
