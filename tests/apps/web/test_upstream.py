"""Another proxy behind ours, which wants to know who asks."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from dmsg_trio._errors import ConfigError
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.socks5 import (
    Choice,
    Login,
    Method,
    Reply,
    ReplyCode,
    SocksReader,
    Verdict,
    encode,
)
from dmsg_trio.apps.web import Upstream
from tests.apps.web.parties import Scene, receive_until, scene

pytestmark = pytest.mark.network

SECRET = "p@ss:w/ord"
ESCAPED = "p%40ss%3Aw%2Ford"
SAID = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nbehind"


@dataclass
class Guarded:
    """A proxy that lets in one user, and answers itself whatever target it is asked for."""

    port: int = 0
    method: int = Method.PASSWORD
    realm: bytes = b'Basic realm="x"'
    logins: list[Login] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                first = await stream.receive_some()
                await (self._socks if first[:1] == b"\5" else self._http)(stream, bytes(first))
            except trio.BrokenResourceError:
                pass

    async def _socks(self, stream: trio.SocketStream, data: bytes) -> None:
        reader = SocksReader()
        reader.receive_data(data)
        greeting = reader.next_greeting_untrusted()
        assert greeting is not None
        if self.method not in greeting.methods:
            await stream.send_all(encode(Choice(Method.NONE_ACCEPTABLE)))
            return
        await stream.send_all(encode(Choice(self.method)))
        if self.method == Method.PASSWORD:
            while (login := reader.next_login_untrusted()) is None:
                reader.receive_data(await stream.receive_some())
            self.logins.append(login)
            right = login == Login(b"me", SECRET.encode())
            await stream.send_all(encode(Verdict(0 if right else 1)))
            if not right:
                return
        while reader.next_request_untrusted() is None:
            reader.receive_data(await stream.receive_some())
        await stream.send_all(encode(Reply(ReplyCode.SUCCEEDED)))
        await receive_until(stream, b"\r\n\r\n")
        await stream.send_all(SAID)

    async def _http(self, stream: trio.SocketStream, data: bytes) -> None:
        self.heads.append(data)
        words = b64encode(b"me:" + SECRET.encode())
        if b"\r\nProxy-Authorization: Basic " + words + b"\r\n" not in data:
            head = b"HTTP/1.1 407 No\r\nProxy-Authenticate: " + self.realm + b"\r\n"
            await stream.send_all(head + b"Content-Length: 0\r\n\r\n")
            return
        if data.startswith(b"CONNECT "):
            await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            await receive_until(stream, b"\r\n\r\n")
        await stream.send_all(SAID)


@asynccontextmanager
async def guarded() -> AsyncIterator[Guarded]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with open_service_nursery() as nursery:
        proxy = Guarded(listeners[0].socket.getsockname()[1])
        nursery.start_soon(trio.serve_listeners, proxy.serve, listeners)
        yield proxy


async def tunneled(here: Scene) -> bytes:
    """Ask through a tunnel, and give what came: of the proxy, or from behind it."""
    stream = await here.connect()
    await stream.send_all(b"CONNECT x.example:443 HTTP/1.1\r\nHost: x.example:443\r\n\r\n")
    head = await receive_until(stream, b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        return head + await receive_until(stream, b"\n")
    await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
    return await receive_until(stream, b"behind")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_name_and_a_password_open_a_proxy(scheme: str) -> None:
    async with guarded() as proxy:
        url = f"{scheme}://me:{ESCAPED}@127.0.0.1:{proxy.port}"
        async with scene(upstream=Upstream.parse(url)) as here:
            assert (await here.ask("/", host="x.example")).endswith(b"behind")
            assert (await tunneled(here)).endswith(b"behind")
            assert (await here.ask("/who")).endswith(b"/who")
        # What a client says of itself to us is not for the one behind us, nor for a key.
        assert "proxy-authorization" not in here.site.heads[0]


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize(
    ("login", "said"),
    [("", "wants a name and a password"), ("me:x@", "does not let us in"), ("me@", "wrong name")],
)
async def test_who_is_not_let_in_hears_which_proxy_it_is(
    scheme: str, login: str, said: str
) -> None:
    async with guarded() as proxy:
        place = f"127.0.0.1:{proxy.port}"
        upstream = Upstream.parse(f"{scheme}://{login}{place}")
        async with scene(upstream=upstream) as here:
            answer = (await here.ask("/", host="x.example")).decode()
            assert answer.startswith("HTTP/1.1 502 ")  # and no 407: a browser would ask its user
            assert said in answer
            assert f"{scheme}://{place}" in answer
            assert (await tunneled(here)).startswith(b"HTTP/1.1 502 ")


async def test_a_proxy_that_wants_no_password_is_not_told_one() -> None:
    async with guarded() as proxy:
        proxy.method = Method.NO_AUTH
        upstream = Upstream.parse(f"socks5://me:{ESCAPED}@127.0.0.1:{proxy.port}")
        async with scene(upstream=upstream) as here:
            assert (await here.ask("/", host="x.example")).endswith(b"behind")
        assert proxy.logins == []


async def test_a_proxy_that_wants_another_kind_of_login_is_told_apart() -> None:
    async with guarded() as proxy:
        proxy.realm = b'Digest realm="x", nonce="y"'
        upstream = Upstream.parse(f"http://me:x@127.0.0.1:{proxy.port}")
        async with scene(upstream=upstream) as here:
            assert b"Digest, and only Basic is known" in await here.ask("/", host="x.example")


async def test_a_password_is_on_no_page_and_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with guarded() as proxy:
        upstream = Upstream.parse(f"http://me:hunter2@127.0.0.1:{proxy.port}")
        async with scene(upstream=upstream) as here:
            await here.ask("/", host="x.example")
            await tunneled(here)
            pages = [await here.ask("/", host=f"127.0.0.1:{here.port}")]
            pages += [await here.ask("/proxy.pac", host=f"127.0.0.1:{here.port}")]
            facts = json.dumps(here.book.faults, default=repr)
    secret = b64encode(b"me:hunter2").decode()
    for text in (*map(bytes.decode, pages), facts, caplog.text, repr(upstream), str(upstream)):
        assert "hunter2" not in text
        assert secret not in text


@pytest.mark.parametrize(
    ("url", "shown", "login"),
    [
        ("x:1", "socks5://x:1", None),
        ("me:hunter2@x:1", "socks5://x:1", Login(b"me", b"hunter2")),
        ("socks5h://m%65:@[::1]", "socks5h://[::1]:1080", Login(b"me", b"")),
        ("http://me@x", "http://x:8080", Login(b"me", b"")),
        ("http://me:a:b@x", "http://x:8080", Login(b"me", b"a:b")),
        ("http://m%C3%A4:%00@x/", "http://x:8080", Login("mä".encode(), b"\0")),
    ],
)
def test_urls_are_read(url: str, shown: str, login: Login | None) -> None:
    upstream = Upstream.parse(url)
    assert (str(upstream), upstream.login) == (shown, login)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://me:hunter2@x",
        "socks5://me:hunter2@",
        "socks5://me:hunter2",  # the host was forgotten
        "socks5://me:hunter2@x:hunter2",
        "socks5://me:hunter2/@x:1",
        "socks5://me:hunter2#@x:1",
        "socks5://me:1?hunter2@x:1",
        "socks5://me:hunter2@[x",
        "socks5://me:hunter2\N{FULLWIDTH COMMERCIAL AT}@x:1",
        "http://m%3Ae:hunter2@x",
        "http://:hunter2@x",
        "http://me:hunter2" + "x" * 255 + "@x",
        "hunter2://x",
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_quoting_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^--proxy: ") as refused:
        Upstream.parse(url)
    assert "hunter2" not in str(refused.value)


async def test_a_proxy_that_is_away_and_one_whose_name_nobody_knows_are_named() -> None:
    for url, why in ("socks5://127.0.0.1:1", "refused"), ("http://x.invalid:1", "not known"):
        async with scene(upstream=Upstream.parse(url)) as here:
            answer = (await here.ask("/", host="x.example")).decode()
            assert "The other proxy cannot be reached" in answer
            assert f"{url}: " in answer
            assert why in answer
