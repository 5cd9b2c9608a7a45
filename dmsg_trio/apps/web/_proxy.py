"""The resolving proxy: SOCKS5, CONNECT, plain HTTP and its own pages on one port of loopback.

The first byte tells them apart: 05 begins SOCKS5, a letter begins HTTP. What goes on to a target does
so by the target's name alone (`Ways`); what stands in a Host header or in a path moves nothing.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Final

import h11
import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._net.borders import serve_each
from dmsg_trio._net.carrying import carry_both_ways, reset_when_closed
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.socks5 import (
    AddressTypeError,
    Choice,
    Command,
    Method,
    Reply,
    ReplyCode,
    Request,
    SocksReader,
    encode,
)

from ._book import Book
from ._conversation import Action, Tunnel, converse, reset_if_broken_off
from ._draining import Draining
from ._errors import WebError, bad_request
from ._exchange import Onward
from ._far import Pool
from ._names import HTTP_PORT, authority_untrusted, is_no_name, plain_host_untrusted
from ._near import Near
from ._pages import Pages
from ._ways import Kind, Way, Ways

logger = logging.getLogger("dmsg_trio.web")

MAX_CONNECTIONS: Final = 2048  # of programs at once; more are reset
FIRST_BYTE_TIME: Final = 120.0  # seconds; browsers connect before they know what for
SOCKS_TIME: Final = 30.0  # seconds for the conversation before the connection

_COMMANDS: Final[dict[int, str]] = {Command.BIND: "BIND", Command.UDP_ASSOCIATE: "UDP"}
_SOCKS4_REFUSED: Final = bytes((0, 0x5B)) + bytes(6)
_ABSOLUTE: Final = re.compile(r"(http|https|ws|wss|ftp|dmsg)://([^/?#]*)([^#]*)", re.IGNORECASE)
_TO_A_KEY: Final = re.compile(rb"(?:dmsg|http)://(0[23][0-9a-f]{64})(?=[:/?#]|$)")


async def serve_proxy(
    ways: Ways,
    listeners: Sequence[trio.SocketListener],
    *,
    book: Book | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Be a proxy on ``listeners``; run until cancelled, and then give what is under way 5 seconds."""
    draining = Draining()
    proxy = _Proxy(ways, listeners, book or Book(), draining)
    async with draining.open_nursery() as connections, open_service_nursery() as nursery:
        nursery.start_soon(proxy.pool.run)
        nursery.start_soon(ways.names.aliases.watch)
        task_status.started()
        await serve_each(proxy.serve, listeners, logger, handler_nursery=connections)


class _Proxy:
    def __init__(
        self,
        ways: Ways,
        listeners: Sequence[trio.SocketListener],
        book: Book,
        draining: Draining,
    ) -> None:
        self._ways = ways
        self._book = book
        self._draining = draining
        self._pages = Pages(ways, book)
        self._port: int = listeners[0].socket.getsockname()[1]
        self._connections = 0
        self.pool = Pool()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection of a program; whatever goes wrong ends here."""
        async with stream:
            if self._connections >= MAX_CONNECTIONS:
                self._book.note(
                    "a program", f"{MAX_CONNECTIONS} connections: one more is refused", untold=True
                )
                reset_when_closed(stream)
                return
            self._connections += 1
            try:
                with reset_if_broken_off(stream):
                    await self._serve(stream)
            finally:
                self._connections -= 1

    async def _serve(self, stream: trio.SocketStream) -> None:
        data: bytes | bytearray = b""
        with self._draining.idle(), trio.move_on_after(FIRST_BYTE_TIME):
            data = await stream.receive_some()
        match data[:1]:
            case b"":
                return
            case b"\x05":
                await self._serve_socks(stream, data)
            case b"\x04":
                self._book.note(
                    "a program",
                    "speaks SOCKS4: set SOCKS5, with names looked up there",
                    untold=True,
                )
                await stream.send_all(_SOCKS4_REFUSED)
            case b"\x16":
                self._book.note(
                    "a program",
                    "speaks TLS to this proxy: set http:// for its address",
                    untold=True,
                )
                reset_when_closed(stream)
            case _:
                near = Near(stream, bytes(data))
                await converse(
                    near, self._route, pool=self.pool, book=self._book, draining=self._draining
                )

    # ---- HTTP ----

    def _route(self, request: h11.Request) -> Action:
        """Decide what becomes of a request; `WebError` if nothing."""
        target = request.target.decode("latin-1")
        try:
            if request.method == b"CONNECT":
                return Tunnel(self._ways.way_to(*authority_untrusted(target)), self._ways)
            if target.startswith("/") or target == "*":
                return self._answer_here(request, target)
            found = _ABSOLUTE.fullmatch(target)
            if not found:
                raise bad_request("what it is for is neither a path nor a URL")
            scheme, authority, path = found.groups()
            if scheme.lower() != "http":
                raise bad_request(f"{scheme}:// does not go through a proxy as it is: use CONNECT")
            host, port = authority_untrusted(authority, default_port=HTTP_PORT)
        except ValueError as error:
            raise bad_request(str(error)) from None
        if port == self._port and _is_loopback(host):
            return self._pages.answer(request, path.partition("?")[0] or "/", host, port)
        path = path if path.startswith("/") else f"/{path}"
        return self._onward(self._ways.way_to(host, port), path)

    def _onward(self, way: Way, path: str) -> Onward:
        onward = Onward(
            key=way.address or (way.host, way.port),
            open=partial(self._ways.open, way, for_requests=True),
            name=str(way),
            way=way.kind,
            target=path.encode("latin-1"),
            host=str(way).encode(),
            relocate=_to_names if way.address else bytes,
        )
        through = self._ways.upstream
        if way.kind is not Kind.PROXY or through is None or not through.takes_requests:
            return onward
        return replace(
            onward,
            key=through,
            target=f"http://{way}{path}".encode("latin-1"),
            add=through.headers,
            check=through.check_answer,
        )

    def _answer_here(self, request: h11.Request, path: str) -> Action:
        """Answer a request to the proxy itself, unless some site's name was made to lead here."""
        named = b"".join(value for name, value in request.headers if name == b"host").decode(
            "latin-1"
        )
        host, port = authority_untrusted(named or "127.0.0.1", default_port=HTTP_PORT)
        if not is_no_name(host):
            raise WebError(
                HTTPStatus.MISDIRECTED_REQUEST,
                "This is a proxy, and not that site",
                f"to see a site, set http://127.0.0.1:{self._port}/proxy.pac in the browser's settings",
            )
        return self._pages.answer(request, path.partition("?")[0], host, port)

    # ---- SOCKS5 ----

    async def _serve_socks(self, stream: trio.SocketStream, data: bytes | bytearray) -> None:
        reader = SocksReader()
        reader.receive_data(data)
        request: Request | None = None
        with self._draining.idle(), trio.move_on_after(SOCKS_TIME):
            request = await self._receive_socks(stream, reader)
        if request is None:
            return
        name = str(request.target)
        try:
            host = plain_host_untrusted(name.rpartition(":")[0])
            way = self._ways.way_to(host, request.target.port)
            with self._book.line("SOCKS5", name, way.kind) as carried:
                async with await self._ways.open(way) as far:
                    await stream.send_all(encode(Reply(ReplyCode.SUCCEEDED)))
                    if rest := reader.rest():
                        await far.send_all(rest)
                        carried.to_far += len(rest)
                    await carry_both_ways(stream, far, carried=carried)
        except ValueError as error:
            self._book.note(name, str(error), untold=True)
            await stream.send_all(encode(Reply(ReplyCode.HOST_UNREACHABLE)))
        except WebError as error:
            self._book.note(name, str(error), untold=True)
            await stream.send_all(encode(Reply(error.reply)))

    async def _receive_socks(
        self, stream: trio.SocketStream, reader: SocksReader
    ) -> Request | None:
        """Agree on the method and wait for a request to connect; None if there is none."""
        try:
            while (greeting := reader.next_greeting_untrusted()) is None:
                if not await _more(stream, reader):
                    return None
            if Method.NO_AUTH not in greeting.methods:
                self._book.note(
                    "a program", "wants to give a password: there is none here", untold=True
                )
                await stream.send_all(encode(Choice(Method.NONE_ACCEPTABLE)))
                return None
            await stream.send_all(encode(Choice()))
            while (request := reader.next_request_untrusted()) is None:
                if not await _more(stream, reader):
                    return None
        except AddressTypeError:
            await stream.send_all(encode(Reply(ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED)))
            return None
        except RemoteProtocolError as error:
            self._book.note("a program", str(error))
            return None
        if request.command != Command.CONNECT:
            # As with ssh -D and Tor: a program takes another way then, and dmsg has no datagrams.
            wanted = _COMMANDS.get(request.command, f"command {request.command} of SOCKS5")
            self._book.note(
                str(request.target), f"{wanted}: only connections are carried here", untold=True
            )
            await stream.send_all(encode(Reply(ReplyCode.COMMAND_NOT_SUPPORTED)))
            return None
        return request


async def _more(stream: trio.SocketStream, reader: SocksReader) -> bool:
    data = await stream.receive_some()
    reader.receive_data(data)
    return bool(data)


def _to_names(location: bytes) -> bytes:
    """Lead a browser from a key to the name that it can open."""
    return _TO_A_KEY.sub(rb"http://\1.dmsg", location, count=1)


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (is_no_name(host) and ipaddress.ip_address(host).is_loopback)
