"""The proxy behind this one, for everything that is not on dmsg: SOCKS5, or HTTP with CONNECT.

It gets names, never addresses: what it is there for may be that nobody here looks them up. What it
wants to know of who asks stands in its URL, and nowhere else: not in a log, not on a page.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

import h11
import trio

from dmsg_trio._errors import ConfigError, RemoteProtocolError
from dmsg_trio._net.tcp import open_stream_to, reason_of
from dmsg_trio._wire.socks5 import (
    Choice,
    Command,
    Endpoint,
    Greeting,
    Login,
    Method,
    Reply,
    ReplyCode,
    Request,
    SocksReader,
    Verdict,
    encode,
)

from ._errors import WebError
from ._names import shown_authority

_PORTS: Final = {"socks5": 1080, "socks5h": 1080, "http": 8080}
_SCHEME_OF_LOGIN: Final = re.compile(rb"[A-Za-z0-9-]{1,20}(?=[ ,]|$)")
_NOT_SUCH: Final = "--proxy: not socks5://[user:password@]host:port or http://…"
_ESCAPE: Final = "; in a name or password, % / ? # @ and : are written as %25 %2F %3F %23 %40 %3A"


@dataclass(frozen=True, slots=True)
class Upstream:
    """Another proxy, and who we are there."""

    scheme: str
    host: str
    port: int
    login: Login | None = None

    @classmethod
    def parse(cls, text: str) -> Upstream:
        """Read ``socks5://[user:password@]host:port``, the same with ``http://``, or ``host:port``.

        What is wrong is told in words of our own: whatever is quoted of it may be the password.
        """
        hint = _ESCAPE if "@" in text else ""
        try:
            url = urlsplit(text if "://" in text else f"socks5://{text}")
            host, port = url.hostname or "", url.port
        except ValueError:
            raise ConfigError(_NOT_SUCH + hint) from None
        if url.scheme not in _PORTS or not host or url.path.strip("/") or url.query or url.fragment:
            raise ConfigError(_NOT_SUCH + hint)
        return cls(url.scheme, host, port or _PORTS[url.scheme], _login(url.netloc, url.scheme))

    @property
    def takes_requests(self) -> bool:
        """Whether requests of plain HTTP go to it as they are."""
        return self.scheme == "http"

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What is said to a proxy of HTTP with each request."""
        if self.login is None:
            return []
        words = b64encode(self.login.user + b":" + self.login.password)
        return [(b"Proxy-Authorization", b"Basic " + words)]

    def __str__(self) -> str:
        return f"{self.scheme}://{shown_authority(self.host, self.port, default_port=0)}"

    async def open(self) -> trio.SocketStream:
        """Connect to the proxy itself."""
        try:
            return await open_stream_to(self.host, self.port)
        except OSError as error:
            raise self._error("The other proxy cannot be reached", reason_of(error)) from error

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

    def check_answer(self, answer: h11.Response) -> None:
        """Raise `WebError` if the proxy asks who we are: it is no question to who asked us."""
        if answer.status_code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            wanted = {
                found[0].decode()
                for name, value in answer.headers
                if name == b"proxy-authenticate" and (found := _SCHEME_OF_LOGIN.match(value))
            }
            if wanted and "basic" not in map(str.lower, wanted):
                raise self._error(
                    "The other proxy wants a login of another kind",
                    f"{', '.join(sorted(wanted))}, and only Basic is known here",
                )
            raise self._login_error()

    # ---- SOCKS5 ----

    async def _connect_by_socks(self, stream: trio.SocketStream, target: Endpoint) -> None:
        reader = SocksReader()
        await self._log_in(stream, reader)
        await stream.send_all(encode(Request(Command.CONNECT, target)))
        reply: Reply | None
        while (reply := reader.next_reply_untrusted()) is None:
            reader.receive_data(await self._more(stream))
        if reply.code != ReplyCode.SUCCEEDED:
            known = reply.code in list(ReplyCode)
            code = ReplyCode(reply.code) if known else ReplyCode.GENERAL_FAILURE
            why = code.name.lower().replace("_", " ") if known else f"code {reply.code}"
            raise self._error(f"The other proxy does not connect to {target}", why, code)

    async def _log_in(self, stream: trio.SocketStream, reader: SocksReader) -> None:
        """Agree on who we are; a proxy that does not ask is not told."""
        methods = (Method.NO_AUTH,) if self.login is None else (Method.NO_AUTH, Method.PASSWORD)
        await stream.send_all(encode(Greeting(methods)))
        choice: Choice | None
        while (choice := reader.next_choice_untrusted()) is None:
            reader.receive_data(await self._more(stream))
        if choice.method == Method.NO_AUTH:
            return
        if choice.method not in methods or self.login is None:
            raise self._login_error()
        await stream.send_all(encode(self.login))
        verdict: Verdict | None
        while (verdict := reader.next_verdict_untrusted()) is None:
            reader.receive_data(await self._more(stream))
        if verdict.status:
            raise self._login_error()

    # ---- HTTP ----

    async def _connect_by_http(self, stream: trio.SocketStream, target: str) -> None:
        http = h11.Connection(h11.CLIENT)
        headers = [(b"Host", target.encode()), *self.headers]
        request = h11.Request(method="CONNECT", target=target, headers=headers)
        await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        while True:
            event = http.next_event()
            match event:
                case h11.NEED_DATA:
                    http.receive_data(bytes(await self._more(stream)))
                case h11.Response(status_code=code) if 200 <= code < 300:
                    return
                case h11.Response(status_code=code):
                    self.check_answer(event)
                    raise self._error(
                        f"The other proxy does not connect to {target}", f"it says {code}"
                    )

    # ---- both ----

    async def _more(self, stream: trio.SocketStream) -> bytes | bytearray:
        data = await stream.receive_some(1)  # what follows the answer is the target's already
        if not data:
            raise self._error("The other proxy ended the connection", "")
        return data

    def _login_error(self) -> WebError:
        if self.login is None:
            return self._error("The other proxy wants a name and a password", "it was given none")
        return self._error("The other proxy does not let us in", "wrong name or password")

    def _error(
        self, title: str, reason: str, reply: ReplyCode = ReplyCode.GENERAL_FAILURE
    ) -> WebError:
        detail = f"{self}: {reason}" if reason else str(self)
        return WebError(HTTPStatus.BAD_GATEWAY, title, detail, reply=reply)


def _login(netloc: str, scheme: str) -> Login | None:
    words, sign, _ = netloc.rpartition("@")
    if not sign:
        return None
    user, password = (unquote_to_bytes(word) for word in words.partition(":")[::2])
    if scheme == "http" and b":" in user:
        raise ConfigError("--proxy: a name with a colon in it cannot be told to a proxy of HTTP")
    try:
        return Login(user, password)
    except ValueError as error:
        raise ConfigError(f"--proxy: {error}") from None
