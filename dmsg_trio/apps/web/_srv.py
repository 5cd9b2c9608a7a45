"""Ports of this machine on ports of dmsg, as HTTP or as bytes, for anybody or for some keys.

A program here takes whoever connects from loopback for a friend. So the key of who asks is said to it
in ``X-Forwarded-For``, and nothing that the client itself says about that gets through, in whatever
spelling: some frameworks read ``X_Forwarded_For`` as the same header.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

import h11
import trio

from dmsg_trio._keys import PublicKey
from dmsg_trio._net.borders import serve_each
from dmsg_trio._net.carrying import carry_both_ways, reset_when_closed
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.tcp import reason_of
from dmsg_trio.apps.access import AllowList, admission
from dmsg_trio.client import Client, DmsgStream

from ._book import Book
from ._conversation import Action, Route, converse
from ._draining import Draining
from ._errors import WebError
from ._exchange import Onward
from ._far import Pool
from ._near import Answer, Near
from ._targets import path_of, without_origin

MAX_CONNECTIONS: Final = 1024  # at once on a port, of all keys; more are reset
MAX_PER_KEY: Final = 256
LOCAL: Final = "127.0.0.1"

_TOLD_HERE: Final = {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto",
                     b"x-forwarded-port", b"x-forwarded-server", b"x-real-ip", b"x-client-ip",
                     b"true-client-ip"}  # fmt: skip
_UNAUTHORIZED: Final = Answer(
    HTTPStatus.UNAUTHORIZED,
    b"401 Unauthorized",
    (("Content-Type", "text/plain; charset=utf-8"), ("Connection", "close")),
)

logger = logging.getLogger("dmsg_trio.web")


@dataclass(frozen=True, slots=True)
class Exposed:
    """A local port, the dmsg port where it is, and who may come; None is everybody.

    Who comes off an `AllowList` is cut off.
    """

    local_port: int
    port: int
    allow: AllowList | Collection[PublicKey] | None = None
    raw: bool = False
    keep_host: bool = False


async def serve_exposed(
    client: Client,
    exposed: Sequence[Exposed],
    *,
    book: Book | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Carry streams to the local ports; run until cancelled, and then give answers 5 seconds."""
    notes = book or Book()
    draining = Draining()
    async with draining.open_nursery() as connections, open_service_nursery() as nursery:
        for each in exposed:
            port = _Port(each, notes, draining)
            listener = client.listen(each.port)
            nursery.start_soon(port.pool.run)
            nursery.start_soon(
                partial(serve_each, port.serve, [listener], logger, handler_nursery=connections)
            )
        task_status.started()
        await trio.sleep_forever()


class _Port:
    def __init__(self, exposed: Exposed, book: Book, draining: Draining) -> None:
        self._exposed = exposed
        self._allow = admission(exposed.allow)
        self._book = book
        self._draining = draining
        self._connections: Counter[PublicKey] = Counter()
        self._refused: set[PublicKey] = set()
        self.pool = Pool()
        self._host = f"{LOCAL}:{exposed.local_port}".encode()

    async def serve(self, stream: DmsgStream) -> None:
        """Serve one stream; whatever its peer does ends here."""
        pk = stream.remote.pk
        async with stream:
            count = self._connections
            if count[pk] >= MAX_PER_KEY or count.total() >= MAX_CONNECTIONS:
                stream.reset()
                return
            count[pk] += 1
            try:
                await self._serve(stream)
            except WebError as error:
                self._book.note(str(pk), str(error), untold=True)
                stream.reset()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                stream.reset()
                logger.debug("%s: %s", pk, error)
            finally:
                count[pk] -= 1
                if not count[pk]:
                    del count[pk]

    async def _serve(self, stream: DmsgStream) -> None:
        pk = stream.remote.pk
        if pk in self._allow:
            with self._allow.while_allowed(pk):
                if self._exposed.raw:
                    await self._carry(stream)
                else:
                    await self._converse(stream, partial(self._route, pk))
            return
        self._note_refused(pk)
        if self._exposed.raw:
            stream.reset()
        else:
            await self._converse(stream, _refuse)

    async def _converse(self, stream: DmsgStream, route: Route) -> None:
        await converse(
            Near(stream), route, pool=self.pool, book=self._book, draining=self._draining
        )

    async def _carry(self, stream: DmsgStream) -> None:
        with self._book.line("TCP", self._host.decode(), str(stream.remote.pk)) as carried:
            async with await self._open() as local:
                try:
                    await carry_both_ways(stream, local, carried=carried)
                except BaseException:
                    reset_when_closed(stream)  # or what either side has might look whole
                    reset_when_closed(local)
                    raise

    def _note_refused(self, pk: PublicKey) -> None:
        if pk not in self._refused and len(self._refused) < MAX_CONNECTIONS:
            self._refused.add(pk)
            logger.warning(
                "refused %s, which is not on the list of port %d", pk, self._exposed.port
            )

    async def _open(self) -> trio.SocketStream:
        try:
            return await trio.open_tcp_stream(LOCAL, self._exposed.local_port)
        except OSError as error:
            raise WebError(
                HTTPStatus.BAD_GATEWAY,
                "The program behind this port does not answer",
                f"{self._host.decode()}: {reason_of(error)}",
            ) from error

    def _route(self, pk: PublicKey, request: h11.Request) -> Action:
        host = b"".join(value for name, value in request.headers if name == b"host")
        kept = self._exposed.keep_host and host
        return Onward(
            key=self._host,
            open=self._open,
            name=self._host.decode(),
            way=str(pk),
            target=path_of(request),
            host=host if kept else self._host,
            add=[(b"X-Forwarded-For", str(pk).encode())],
            drop=_is_told_here,
            relocate=partial(without_origin, self._host),
        )


def _refuse(_request: h11.Request) -> Answer:
    return _UNAUTHORIZED


def _is_told_here(name: bytes) -> bool:
    return name.replace(b"_", b"-") in _TOLD_HERE
