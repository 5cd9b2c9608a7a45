"""One port for SOCKS5, CONNECT, plain HTTP and pages of its own; and who is reached by what."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, TextMessage
from wsproto.events import Request as Upgrade

from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.telling import LINES
from dmsg_trio._wire.socks5 import (
    Command,
    Endpoint,
    Greeting,
    ReplyCode,
    Request,
    encode,
)
from dmsg_trio.apps.web import Upstream, _draining
from dmsg_trio.apps.web import _proxy as proxy_module
from tests.apps.web.parties import (
    Scene,
    all_of,
    receive_exactly,
    receive_until,
    scene,
)
from tests.cli.running import NOBODY
from tests.waiting import PATIENCE, answered

pytestmark = pytest.mark.network


@pytest.fixture(autouse=True)
def no_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no connection that a test has left open."""
    monkeypatch.setattr(_draining, "DRAIN_TIME", 0.05)


async def socks(
    here: Scene, host: str, port: int, command: int = Command.CONNECT
) -> tuple[trio.SocketStream, int]:
    """Ask by SOCKS5 for a connection; give it and the code of the reply."""
    stream = await here.connect()
    await stream.send_all(encode(Greeting()) + encode(Request(command, Endpoint.of(host, port))))
    assert await receive_exactly(stream, 2) == b"\5\0"
    reply = await receive_exactly(stream, 10)
    return stream, reply[1]


async def connect_tunnel(here: Scene, authority: str) -> tuple[trio.SocketStream, bytes]:
    stream = await here.connect()
    await stream.send_all(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    return stream, await receive_until(stream, b"\r\n\r\n")


@asynccontextmanager
async def tcp_site(host: str = "127.0.0.1") -> AsyncIterator[tuple[int, list[bytes]]]:
    """A web server that is not on dmsg; what it was asked."""
    asked: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            if not (head := await stream.receive_some()):
                return
            asked.append(bytes(head))
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ndirect")
            await all_of(stream)

    listeners = await trio.open_tcp_listeners(0, host=host)
    async with open_service_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1], asked


# ---- four ways to the same site ----


async def test_a_request_of_plain_http_gets_its_answer() -> None:
    async with scene() as here:
        answer = await here.ask("/who?x=1")
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"\r\n\r\n/who")
        assert here.site.heads[0]["host"] == here.host
        assert here.site.clients[0][0] == str(here.client.pk)


async def test_a_tunnel_carries_bytes_both_ways_and_each_way_ends_by_itself() -> None:
    async with scene() as here, here.server.listen(7) as listener:
        stream, head = await connect_tunnel(here, f"{here.host}:7")
        assert head == b"HTTP/1.1 200 Connection established\r\n\r\n"
        far = await listener.accept()
        await stream.send_all(b"hello")
        await stream.send_eof()
        assert await all_of(far) == b"hello"
        await far.send_all(b"I can still talk")
        await far.send_eof()
        assert await all_of(stream) == b"I can still talk"


async def test_socks5_carries_bytes_both_ways_and_what_comes_with_the_request() -> None:
    async with scene() as here, here.server.listen(7) as listener, await here.connect() as stream:
        request = Request(Command.CONNECT, Endpoint.of(here.host, 7))
        await stream.send_all(encode(Greeting()) + encode(request) + b"early")
        reply = await receive_exactly(stream, 12)
        assert reply[:4] == b"\5\0\5\0"
        far = await listener.accept()
        assert await receive_exactly(far, 5) == b"early"
        await far.send_all(b"late")
        assert await receive_exactly(stream, 4) == b"late"


async def test_a_reset_on_one_side_is_one_on_the_other() -> None:
    async with scene() as here, here.server.listen(7) as listener:
        stream, _ = await socks(here, here.host, 7)
        far = await listener.accept()
        await far.send_all(b"x")
        await receive_exactly(stream, 1)
        far.reset()
        assert await all_of(stream) == b"<reset>"


@pytest.mark.parametrize("port", [80, 443, 8080])
async def test_the_port_of_the_url_is_the_port_of_dmsg(port: int) -> None:
    async with scene() as here:
        if port == 80:
            assert (await here.ask("/who")).endswith(b"/who")
            return
        async with here.server.listen(port) as listener:
            _, code = await socks(here, here.host, port)
            assert code == ReplyCode.SUCCEEDED
            assert (await listener.accept()).local.port == port


async def test_a_websocket_goes_through_plain_http() -> None:
    async with scene() as here, await here.connect() as stream:
        ws = WSConnection(ConnectionType.CLIENT)
        pk = str(here.server.pk)
        host = f"{pk[:33]}.{pk[33:]}.dmsg"  # as wsproto allows no label of more than 63
        hello = ws.send(Upgrade(host=host, target="/ws"))
        await stream.send_all(hello.replace(b"GET /ws", f"GET http://{host}/ws".encode()))
        ws.receive_data(await receive_until(stream, b"\r\n\r\n"))
        assert isinstance(next(ws.events()), AcceptConnection)
        await stream.send_all(ws.send(TextMessage("hello")))
        events: list[object] = []
        with trio.fail_after(PATIENCE):
            while not events:
                ws.receive_data(bytes(await stream.receive_some()))
                events += ws.events()
        assert events == [TextMessage("HELLO")]


# ---- names ----


@pytest.mark.parametrize("shape", ["{}.dmsg", "{}.dmsg.", "{}", "split"])
async def test_a_key_is_a_name_in_any_case_and_with_dots_in_it(shape: str) -> None:
    async with scene() as here:
        pk = str(here.server.pk)
        host = f"{pk[:33]}.{pk[33:]}.dmsg" if shape == "split" else shape.format(pk)
        for each in host, host.upper():
            assert b"200" in (await here.ask("/who", host=each)).partition(b"\r\n")[0]


async def test_the_key_of_nobody_is_told_to_people_and_to_curl() -> None:
    async with scene() as here:
        answer = await here.ask("/", host=f"{NOBODY}.dmsg")
        assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        assert b"No such key on the network" in answer
        page = await here.ask("/", "Accept: text/html", host=f"{NOBODY}.dmsg")
        assert b"<h1>No such key on the network</h1>" in page
        _, code = await socks(here, f"{NOBODY}.dmsg", 80)
        assert code == ReplyCode.HOST_UNREACHABLE
        _, head = await connect_tunnel(here, f"{NOBODY}.dmsg:443")
        assert head.startswith(b"HTTP/1.1 502 ")
        assert len(here.book.faults) == 4


async def test_a_port_where_nobody_listens_is_refused() -> None:
    async with scene() as here:
        assert b"Nobody listens there" in await here.ask("/", host=f"{here.host}:99")
        _, code = await socks(here, here.host, 99)
        assert code == ReplyCode.REFUSED


@pytest.mark.parametrize("host", ["wiki.dmsg", "dmsg.dmsg", "0279.dmsg", "x.y.z.dmsg", ".dmsg"])
async def test_a_name_of_dmsg_that_nobody_has_is_never_looked_up(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_up(*_: object, **__: object) -> None:
        raise AssertionError("it was looked up")

    async with scene() as here:
        monkeypatch.setattr(trio, "open_tcp_stream", look_up)
        monkeypatch.setattr(trio.socket, "getaddrinfo", look_up)
        stream = trio.SocketStream(trio.socket.socket())
        await stream.socket.connect(("127.0.0.1", here.port))
        async with stream:
            await stream.send_all(f"GET http://{host}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert (await receive_until(stream, b"\r\n"))[:12] in (b"HTTP/1.1 502", b"HTTP/1.1 400")


async def test_aliases_lead_to_their_address_and_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "aliases"
    path.write_text("nobody = " + NOBODY)
    async with scene(aliases=path) as here:
        aliases = here.ways.names.aliases
        path.write_text(f'# mine\nHome = {here.server.pk}\nseven = "{here.server.pk}:7"\n')

        async def is_read() -> bool:
            return "home" in aliases.table

        async def is_wrong() -> bool:
            return bool(aliases.fault)

        assert await answered(is_read, within=PATIENCE)
        assert (await here.ask("/who", host="home.dmsg")).endswith(b"/who")
        assert here.site.heads[0]["host"] == "home.dmsg"
        page = await here.say(
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{here.port}\r\n"
            "Accept: application/json\r\nConnection: close\r\n\r\n".encode()
        )
        assert json.loads(page.partition(b"\r\n\r\n")[2])["aliases"] == {
            "home": str(here.server.pk),
            "seven": f"{here.server.pk}:7",
        }
        async with here.server.listen(7) as listener:
            await socks(here, "seven.dmsg", 80)
            assert (await listener.accept()).local.port == 7
        path.write_text("home = nonsense\n")
        assert await answered(is_wrong, within=PATIENCE)
        assert "line 1" in aliases.fault
        assert (await here.ask("/who", host="home.dmsg")).endswith(b"/who")
        page = await here.say(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert b"line 1" in page


# ---- others ----


async def test_others_are_reached_directly() -> None:
    async with scene() as here, tcp_site() as (port, asked):
        host = f"127.0.0.1:{port}"
        assert (await here.ask("/x", host=host)).endswith(b"direct")
        assert asked[0].startswith(b"GET /x HTTP/1.1\r\nHost: " + host.encode())
        stream, code = await socks(here, "localhost", port)
        assert code == ReplyCode.SUCCEEDED
        await stream.aclose()
        assert b"cannot be reached" in await here.ask("/", host="127.0.0.1:1")
        _, code = await socks(here, "127.0.0.1", 1)
        assert code == ReplyCode.REFUSED


async def test_others_are_refused_if_only_dmsg_is_wanted() -> None:
    async with scene(only_dmsg=True) as here, tcp_site() as (port, asked):
        answer = await here.ask("/", host=f"127.0.0.1:{port}")
        assert answer.startswith(b"HTTP/1.1 403 ")
        _, code = await socks(here, "127.0.0.1", port)
        assert code == ReplyCode.NOT_ALLOWED
        assert asked == []
        assert (await here.ask("/who")).endswith(b"/who")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_others_go_through_another_proxy_which_may_be_one_of_ours(scheme: str) -> None:
    async with scene() as second, tcp_site() as (port, asked):
        upstream = Upstream.parse(f"{scheme}://127.0.0.1:{second.port}")
        async with scene(upstream=upstream) as first:
            host = f"127.0.0.1:{port}"
            assert (await first.ask("/x", host=host)).endswith(b"direct")
            assert asked[0].startswith(b"GET /x HTTP/1.1\r\nHost: " + host.encode())
            stream, head = await connect_tunnel(first, host)
            assert head.startswith(b"HTTP/1.1 200 ")
            await stream.send_all(b"GET /y HTTP/1.1\r\n\r\n")
            assert (await receive_until(stream, b"direct")).startswith(b"HTTP/1.1 200 OK")
            assert {line.way for line in first.book.open.values()} == {"proxy"}
            answer = await first.ask("/", host="127.0.0.1:1")
            assert answer.startswith(b"HTTP/1.1 502 ")
            assert (await first.ask("/who")).endswith(b"/who")  # of its own network


async def test_the_log_says_what_programs_cannot_show(caplog: pytest.LogCaptureFixture) -> None:
    """Of a tunnel that fails they show a number, so what was wrong where is said aloud."""
    caplog.set_level(logging.WARNING, "dmsg_trio.web")
    reason = "The server cannot be reached: 127.0.0.1:1: Connection refused"
    async with scene() as here:
        assert b"Connection refused" in await here.ask("/", host="127.0.0.1:1")
        assert caplog.messages == []
        await connect_tunnel(here, "127.0.0.1:1")
        await socks(here, "127.0.0.1", 1)
        assert caplog.messages == [reason, reason]
        for port in range(2, 2 + LINES):
            await socks(here, "127.0.0.1", port)
        assert len(caplog.messages) == LINES


async def test_nothing_leads_back_to_the_proxy_itself() -> None:
    async with scene() as here:
        _, code = await socks(here, "127.0.0.1", here.port)
        assert code == ReplyCode.NOT_ALLOWED
        _, head = await connect_tunnel(here, f"localhost:{here.port}")
        assert head.startswith(b"HTTP/1.1 508 ")


async def test_a_redirect_to_a_key_leads_to_its_name() -> None:
    async with scene() as here:
        for to in f"dmsg://{here.server.pk}/x", f"http://{here.server.pk}/x":
            answer = await here.ask(f"/away?to={to}")
            assert f"location: http://{here.host}/x\r\n".encode() in answer
        assert b"location: /x\r\n" in await here.ask("/away?to=/x")


# ---- its own pages ----


async def own(here: Scene, path: str, *headers: str, host: str = "127.0.0.1") -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *headers, "Connection: close", "", ""]
    return await here.say("\r\n".join(lines).encode())


async def test_the_pac_file_names_the_proxy_as_it_was_asked() -> None:
    async with scene() as here:
        for host in f"127.0.0.1:{here.port}", f"localhost:{here.port}", f"[::1]:{here.port}":
            answer = await own(here, "/proxy.pac", host=host)
            assert b"\r\nContent-Type: application/x-ns-proxy-autoconfig\r\n" in answer
            assert f'return "PROXY {host}; SOCKS5 {host}"'.encode() in answer
            assert b'return "DIRECT"' in answer
    async with scene(only_dmsg=True) as here:
        assert (await own(here, "/proxy.pac")).count(b'"PROXY ') == 2


async def test_the_status_page_shows_what_is_open_and_what_went_wrong() -> None:
    async with scene() as here, here.server.listen(7) as listener:
        await socks(here, here.host, 7)
        await (await listener.accept()).send_all(b"four")
        await here.ask("/", host=f"{NOBODY}.dmsg")
        html = await own(here, "/", "Accept: text/html")
        assert f"{here.host}:7".encode() in html
        assert b"No such key on the network" in html
        assert b"proxy.pac" in html
        facts = json.loads(
            (await own(here, "/", "Accept: application/json")).partition(b"\r\n\r\n")[2]
        )
        (line,) = facts["open"]
        assert (line["kind"], line["way"], line["bytes_in"]) == ("SOCKS5", "dmsg", 4)
        assert facts["faults"][0]["target"] == f"{NOBODY}.dmsg"


async def test_no_other_site_sees_the_status_page() -> None:
    async with scene() as here:
        for host in (
            "evil.example",
            f"evil.example:{here.port}",
            "127.0.0.1.evil.example",
            here.host,
        ):
            answer = await own(here, "/", host=host)
            assert answer.startswith(b"HTTP/1.1 421 ")
        page = await own(here, "/", "Origin: http://evil.example")
        assert b"access-control" not in page.lower()
        assert b"frame-ancestors 'none'" in page


async def test_its_own_pages_come_through_itself_as_well_and_change_nothing() -> None:
    async with scene() as here:
        answer = await here.ask("/proxy.pac", host=f"127.0.0.1:{here.port}")
        assert b"FindProxyForURL" in answer
        assert (await own(here, "/nothing")).startswith(b"HTTP/1.1 404 ")
        assert (await own(here, "/favicon.ico")).startswith(b"HTTP/1.1 200 ")
        answer = await here.ask("/", method="POST", host=f"127.0.0.1:{here.port}")
        assert answer.startswith(b"HTTP/1.1 405 ")


# ---- who says something else ----


async def test_socks4_is_refused_in_its_own_words() -> None:
    async with scene() as here:
        question = b"\4\1\0\x50\0\0\0\1me\0" + here.host.encode() + b"\0"
        assert (await here.say(question))[:2] == b"\0\x5b"
        assert "SOCKS4" in here.book.faults[0].reason


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\5\0", b"\5\xff"),  # no methods
        (b"\5\1\2", b"\5\xff"),  # a password
        (b"\5\1\0\4\1\0\1", b"\5\0"),  # another version
        (b"\5\1\0\5\1\0\7\0\0", b"\5\0\5\x08\0\1" + bytes(6)),  # no such kind of address
        (b"\5\1\0\5\2\0\1" + bytes(6), b"\5\0\5\7\0\1" + bytes(6)),  # BIND
        (b"\5\1\0\5\3\0\1" + bytes(6), b"\5\0\5\7\0\1" + bytes(6)),  # UDP
        (b"\5\1\0\5\1\0\3\0\0\x50", b"\5\0"),  # a name of no length
        (b"\5\1\0\5\1\0\3\5a\0b.c\0\x50", b"\5\0"),
        (b"\5\1\0\5\1\0\3\5a..bc\0\x50", b"\5\0\5\4\0\1" + bytes(6)),
        (b"\x16\3\1\2\0\1\0\1", b"<reset>"),  # TLS
        (b"\0\0\0\r\n\r\n", b"HTTP/1.1 400 "),
        (b"\xff" * 10 + b"\r\n\r\n", b"HTTP/1.1 400 "),
    ],
)
async def test_garbage_gets_the_answer_that_fits_and_the_proxy_lives_on(
    data: bytes, answer: bytes
) -> None:
    async with scene() as here:
        async with await here.connect() as stream:
            await stream.send_all(data)
            with suppress(trio.BrokenResourceError):
                await stream.send_eof()
            assert (
                (await all_of(stream))
                .removesuffix(b"<reset>")
                .startswith(answer.removesuffix(b"<reset>"))
            )
        assert (await here.ask("/who")).endswith(b"/who")


@pytest.mark.parametrize(("command", "name"), [(2, "BIND"), (3, "UDP"), (9, "command 9 of SOCKS5")])
async def test_what_is_no_connection_is_refused_by_its_name(command: int, name: str) -> None:
    async with scene() as here:
        _, code = await socks(here, here.host, 80, command)
        assert code == ReplyCode.COMMAND_NOT_SUPPORTED
        (fault,) = here.book.faults
        assert fault.reason == f"{name}: only connections are carried here"


async def test_who_connects_and_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "FIRST_BYTE_TIME", 0.05)
    monkeypatch.setattr(proxy_module, "SOCKS_TIME", 0.05)
    async with scene() as here:
        for begin in b"", b"\5", b"\5\1\0\5\1":
            async with await here.connect() as stream:
                await stream.send_all(begin)
                await all_of(stream)


async def test_too_many_connections_are_refused_and_room_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proxy_module, "MAX_CONNECTIONS", 2)
    async with scene() as here:
        held = [await here.connect() for _ in range(2)]
        for stream in held:
            await stream.send_all(b"G")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert await here.say(b"GET / HTTP/1.1\r\n\r\n") in (b"", b"<reset>")
        for stream in held:
            await stream.aclose()

        async def asked() -> bool:
            try:
                return (await here.ask("/who")).endswith(b"/who")
            except trio.BrokenResourceError:
                return False

        assert await answered(asked, within=PATIENCE)
