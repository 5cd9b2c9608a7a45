"""The proxy behind this one, for everything that is not on dmsg: SOCKS5, or HTTP with CONNECT.

It gets names, never addresses: what it is there for may be that nobody here looks them up.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

from dmsg_trio._errors import ConfigError, RemoteProtocolError
from dmsg_trio._wire.socks5 import (
    Choice,
    Command,
    Endpoint,
    Greeting,
    Method,
    Reply,
    ReplyCode,
    Request,
    SocksReader,
    encode,
)

from ._errors import WebError
from ._names import shown_authority

_PORTS: Final = {"socks5": 1080, "socks5h": 1080, "http": 8080}


@dataclass(frozen=True, slots=True)
class Upstream:
    """Another proxy."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Upstream:
        """Read ``socks5://host:port``, ``http://host:port``, or ``host:port`` of a SOCKS5 proxy."""
        url = urlsplit(text if "://" in text else f"socks5://{text}")
        try:
            port = url.port
        except ValueError as error:
            raise ConfigError(f"--proxy: {error}") from None
        if url.scheme not in _PORTS or not url.hostname or url.path.strip("/") or url.query:
            raise ConfigError(f"--proxy: not socks5://host:port or http://host:port: {url.scheme}")
        if "@" in url.netloc:
            raise ConfigError("--proxy: proxies with a user's name and password are not supported")
        return cls(url.scheme, url.hostname, port or _PORTS[url.scheme])

    @property
    def takes_requests(self) -> bool:
        """Whether requests of plain HTTP go to it as they are."""
        return self.scheme == "http"

    def __str__(self) -> str:
        return f"{self.scheme}://{shown_authority(self.host, self.port, default_port=0)}"

    async def open(self) -> trio.SocketStream:
        """Connect to the proxy itself."""
        try:
            return await trio.open_tcp_stream(self.host, self.port)
        except OSError as error:
            reason = error.strerror or str(error)
            raise self._error("The other proxy cannot be reached", reason) from error

    async def connect(self, host: str, port: int) -> trio.SocketStream:
        """Connect to a target through the proxy; `WebError` if it does not want to."""
        stream = await self.open()
        try:
            if self.takes_requests:
                await self._connect_by_http(stream, shown_authority(host, port, default_port=0))
            else:
                await self._connect_by_socks(stream, Endpoint.of(host, port))
        except (trio.BrokenResourceError, RemoteProtocolError, h11.RemoteProtocolError) as error:
            await trio.aclose_forcefully(stream)
            raise self._error("The other proxy broke the connection", str(error)) from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream

    async def _connect_by_socks(self, stream: trio.SocketStream, target: Endpoint) -> None:
        reader = SocksReader()
        await stream.send_all(encode(Greeting()))
        choice: Choice | None
        while (choice := reader.next_choice_untrusted()) is None:
            reader.receive_data(await self._more(stream))
        if choice.method != Method.NO_AUTH:
            raise self._error("The other proxy wants a password", "")
        await stream.send_all(encode(Request(Command.CONNECT, target)))
        reply: Reply | None
        while (reply := reader.next_reply_untrusted()) is None:
            reader.receive_data(await self._more(stream))
        if reply.code != ReplyCode.SUCCEEDED:
            known = reply.code in list(ReplyCode)
            why = ReplyCode(reply.code).name.lower().replace("_", " ") if known else f"{reply.code}"
            raise self._error(f"The other proxy does not connect to {target}", why)

    async def _connect_by_http(self, stream: trio.SocketStream, target: str) -> None:
        http = h11.Connection(h11.CLIENT)
        request = h11.Request(method="CONNECT", target=target, headers=[("Host", target)])
        await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        while True:
            event = http.next_event()
            match event:
                case h11.NEED_DATA:
                    http.receive_data(bytes(await self._more(stream)))
                case h11.Response(status_code=code) if 200 <= code < 300:
                    return
                case h11.Response(status_code=code):
                    raise self._error(
                        f"The other proxy does not connect to {target}", f"it says {code}"
                    )

    async def _more(self, stream: trio.SocketStream) -> bytes | bytearray:
        data = await stream.receive_some(1)  # what follows the answer is the target's already
        if not data:
            raise self._error("The other proxy ended the connection", "")
        return data

    def _error(self, title: str, reason: str) -> WebError:
        detail = f"{self}: {reason}" if reason else str(self)
        return WebError(HTTPStatus.BAD_GATEWAY, title, detail, reply=ReplyCode.GENERAL_FAILURE)
