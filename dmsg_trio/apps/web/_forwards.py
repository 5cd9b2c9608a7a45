"""Local ports that lead to one address each, as HTTP or as bytes."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

import h11
import trio

from dmsg_trio._address import Address
from dmsg_trio._net.borders import serve_each
from dmsg_trio._net.carrying import carry_both_ways, reset_when_closed
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.client import Client

from ._book import Book
from ._conversation import Action, converse, reset_if_broken_off
from ._draining import Draining
from ._errors import WebError
from ._exchange import Onward
from ._far import Pool
from ._names import HTTP_PORT, authority_untrusted, is_no_name
from ._near import Near
from ._targets import path_of, without_origin
from ._ways import Kind, dial

logger = logging.getLogger("dmsg_trio.web")

MAX_CONNECTIONS: Final = 2048  # of programs at once, on one port; more are reset


@dataclass(frozen=True, slots=True)
class Forward:
    """Listeners, and where they lead."""

    listeners: Sequence[trio.SocketListener]
    remote: Address
    raw: bool = False


async def serve_forwards(
    client: Client,
    forwards: Sequence[Forward],
    *,
    book: Book | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Carry connections to the addresses; run until cancelled, then give what is under way 5 s."""
    notes = book or Book()
    draining = Draining()
    async with draining.open_nursery() as connections, open_service_nursery() as nursery:
        for each in forwards:
            port = _Port(client, each, notes, draining)
            nursery.start_soon(port.pool.run)
            serve = partial(serve_each, handler_nursery=connections)
            nursery.start_soon(serve, port.serve, each.listeners, logger)
        task_status.started()
        await trio.sleep_forever()


class _Port:
    def __init__(self, client: Client, forward: Forward, book: Book, draining: Draining) -> None:
        self._client = client
        self._forward = forward
        self._remote = forward.remote
        self._book = book
        self._draining = draining
        self._connections = 0
        self.pool = Pool()
        port = f":{self._remote.port}" if self._remote.port != HTTP_PORT else ""
        self._host = f"{self._remote.pk}{port}".encode()
        bound: str = forward.listeners[0].socket.getsockname()[0]
        self._is_local = ipaddress.ip_address(bound).is_loopback

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection; whatever goes wrong ends here."""
        async with stream:
            if self._connections >= MAX_CONNECTIONS:
                reset_when_closed(stream)
                return
            self._connections += 1
            try:
                with reset_if_broken_off(stream):
                    if self._forward.raw:
                        await self._carry(stream)
                    else:
                        await self._converse(Near(stream))
            except WebError as error:
                self._book.note(str(self._remote), str(error), untold=True)
            finally:
                self._connections -= 1

    async def _carry(self, stream: trio.SocketStream) -> None:
        with self._book.line("TCP", str(self._remote), Kind.DMSG) as carried:
            async with await dial(self._client, self._remote) as far:
                await carry_both_ways(stream, far, carried=carried)

    async def _converse(self, near: Near) -> None:
        await converse(near, self._route, pool=self.pool, book=self._book, draining=self._draining)

    def _route(self, request: h11.Request) -> Action:
        if self._is_local:
            self._check_host(request)
        return Onward(
            key=self._remote,
            open=partial(dial, self._client, self._remote),
            name=str(self._remote),
            way=Kind.DMSG,
            target=path_of(request),
            host=self._host,
            relocate=partial(without_origin, self._host),
        )

    def _check_host(self, request: h11.Request) -> None:
        """Refuse the page of a site whose name was made to lead to loopback: it would ask as us."""
        named = b"".join(value for name, value in request.headers if name == b"host")
        try:
            host, _ = authority_untrusted(named.decode("latin-1"), default_port=HTTP_PORT)
        except ValueError:
            host = ""
        if named and not is_no_name(host):
            raise WebError(
                HTTPStatus.MISDIRECTED_REQUEST,
                "This port is not that site",
                "it is opened as http://127.0.0.1, and the port behind it",
            )
