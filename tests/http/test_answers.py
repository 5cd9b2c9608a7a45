"""What servers answer, by the book and against it: bodies, ends, and what is made of garbage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import httpcore
import httpx
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.client import Client, DmsgStream
from dmsg_trio.http import DmsgBackend, DmsgTransport
from dmsg_trio.http._exchange import MAX_HEAD, MAX_INTERIM
from dmsg_trio.testing import Network

LINE = b"HTTP/1.1 200 OK\r\n"
OK = LINE + b"Content-Length: 2\r\n\r\nok"
CHUNKED = LINE + b"Transfer-Encoding: chunked\r\n\r\n"
LARGE = bytes(range(256)) * 4096
WHERE = r":80 through server \w+(, the (head|body) of its answer)?: (?!.*request line)"


@dataclass
class Scripted:
    """A server that answers each request with the same bytes, and keeps what it was asked."""

    http: httpx.AsyncClient
    url: str
    requests: list[bytes] = field(default_factory=list)
    streams: int = 0

    async def get(self) -> httpx.Response:
        return await self.http.get(self.url)


Behaviour = Callable[[DmsgStream], Awaitable[None]]


@asynccontextmanager
async def serving(behaviour: Behaviour) -> AsyncIterator[tuple[Client, str]]:
    """Serve streams on port 80 with ``behaviour``; give who asks, and what to ask."""
    async with (
        Network() as network,
        network.client() as server,
        network.client() as client,
        server.listen(80) as listener,
        open_service_nursery() as nursery,
    ):
        nursery.start_soon(partial(trio.serve_listeners, behaviour, [listener]))
        yield client, f"dmsg://{server.pk}/"


@asynccontextmanager
async def asking(behaviour: Behaviour) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    async with (
        serving(behaviour) as (client, url),
        httpx.AsyncClient(transport=DmsgTransport(client)) as http,
    ):
        yield http, url


@asynccontextmanager
async def answering(*pieces: bytes, ends: bool = False) -> AsyncIterator[Scripted]:
    """Answer every request with ``pieces``, and end the stream after them if told so."""

    async def answer(stream: DmsgStream) -> None:
        scripted.streams += 1
        with suppress(trio.BrokenResourceError):
            async with stream:
                while request := await head(stream):
                    scripted.requests.append(request)
                    for piece in pieces:
                        await stream.send_all(piece)
                    if ends:
                        return

    async with asking(answer) as (http, url):
        scripted = Scripted(http, url)
        yield scripted


async def head(stream: DmsgStream) -> bytes:
    """Read a head; nothing is the end."""
    received = b""
    while b"\r\n\r\n" not in received:
        if not (data := await stream.receive_some()):
            return b""
        received += data
    return received


# ---- bodies ----


@pytest.mark.parametrize("cut", [1, 7, 100, 1 << 20])
async def test_a_body_of_known_length_may_come_in_any_pieces(cut: int) -> None:
    answer = LINE + b"Content-Length: 300\r\n\r\n" + LARGE[:300]
    pieces = [answer[at : at + cut] for at in range(0, len(answer), cut)]
    async with answering(*pieces) as server:
        for _ in range(2):
            assert (await server.get()).content == LARGE[:300]
        assert server.streams == 1


async def test_pieces_are_bytes_and_as_large_as_they_came() -> None:
    async with answering(LINE + b"Content-Length: %d\r\n\r\n" % len(LARGE), LARGE) as server:
        async with server.http.stream("GET", server.url) as answer:
            pieces = [piece async for piece in answer.aiter_raw()]
    assert b"".join(pieces) == LARGE
    assert {type(piece) for piece in pieces} == {bytes}
    assert len(LARGE) / len(pieces) > 32 * 1024


async def test_long_pieces_come_without_a_copy_for_who_asks_for_views() -> None:
    async with answering(LINE + b"Content-Length: %d\r\n\r\n" % len(LARGE), LARGE) as server:
        received, kinds = b"", set[type]()
        async with server.http.stream("GET", server.url, extensions={"dmsg.views": True}) as answer:
            async for piece in cast(httpx.AsyncByteStream, answer.stream):
                received += piece
                kinds.add(type(piece))
        assert received == LARGE
        assert memoryview in kinds
        assert (await server.get()).content == LARGE
        assert server.streams == 1


async def test_a_body_without_a_length_goes_on_to_the_end_of_the_stream() -> None:
    async with answering(LINE + b"\r\nfirst, ", b"then the rest", ends=True) as server:
        for _ in range(2):
            assert (await server.get()).text == "first, then the rest"
        assert server.streams == 2


async def test_chunks_and_trailers_leave_a_connection_that_is_used_again() -> None:
    body = b"3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nX-Sum: 1\r\n\r\n"
    async with answering(CHUNKED + body) as server:
        for _ in range(2):
            assert (await server.get()).text == "abc0123456789abcdef"
        assert server.streams == 1


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", b"200 OK"), ("GET", b"204 None"), ("GET", b"304 Same")]
)
@pytest.mark.parametrize("header", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X: y"])
async def test_some_answers_have_no_body_whatever_they_say(
    method: str, status: bytes, header: bytes
) -> None:
    async with answering(b"HTTP/1.1 %b\r\n%b\r\n\r\n" % (status, header)) as server:
        for _ in range(2):
            assert (await server.http.request(method, server.url)).content == b""
        assert server.streams == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (OK[:-1], r"received 1 bytes, expected 2"),
        (CHUNKED + b"5\r\nabc", "incomplete chunked read"),
        (CHUNKED + b"3\r\nabc\r\n", "incomplete chunked read"),
        (LINE, "closed"),
        (b"", "closed without sending a response"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "closed"),
    ],
)
async def test_an_answer_that_lacks_its_end_is_an_error_that_names_the_hop(
    answer: bytes, reason: str
) -> None:
    async with answering(answer, ends=True) as server:
        with pytest.raises(httpx.RemoteProtocolError, match=f":80 through server .*{reason}"):
            await server.get()


# ---- when a connection is used again ----


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"more",
        LINE + b"Content-Length: 0\r\n\r\n" + OK,
        CHUNKED + b"2\r\nok\r\n0\r\n\r\nmore",
        LINE + b"Connection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        LINE + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
    ids=["surplus", "second answer", "chunked surplus", "close", "HTTP/1.0", "two lengths"],
)
async def test_a_connection_is_not_used_again_after(answer: bytes) -> None:
    async with answering(answer) as server:
        for _ in range(2):
            assert (await server.get()).text in ("ok", "")
        assert server.streams == 2


async def test_what_comes_while_nobody_asked_ends_a_connection() -> None:
    said = trio.Event()

    async def talks(stream: DmsgStream) -> None:
        await head(stream)
        await stream.send_all(OK)
        await said.wait()
        await stream.send_all(OK.replace(b"ok", b"no"))

    async with asking(talks) as (http, url):
        assert (await http.get(url)).text == "ok"
        said.set()
        await trio.testing.wait_all_tasks_blocked()
        assert (await http.get(url)).text == "ok"


async def test_an_answer_that_is_not_read_to_its_end_ends_its_connection() -> None:
    streams = 0

    async def answer(stream: DmsgStream) -> None:
        nonlocal streams
        streams += 1
        with suppress(trio.BrokenResourceError):
            while await head(stream):
                await stream.send_all(LINE + b"Content-Length: %d\r\n\r\n" % len(LARGE) + LARGE)

    async with serving(answer) as (client, url), DmsgTransport(client) as transport:
        for _ in range(2):
            response = await transport.handle_async_request(httpx.Request("GET", url))
            assert isinstance(response.stream, httpx.AsyncByteStream)
            assert LARGE.startswith(await anext(response.stream.__aiter__()))
            await response.aclose()
    assert streams == 2


async def test_a_connection_is_kept_for_so_long_and_no_longer(autojump_clock: MockClock) -> None:
    async with answering(OK) as server:
        await server.get()
        await trio.sleep(14)
        await server.get()
        assert server.streams == 1
        await trio.sleep(16)
        await server.get()
        assert server.streams == 2


async def test_a_request_that_was_sent_with_close_ends_its_connection() -> None:
    async with answering(OK) as server:
        for _ in range(2):
            await server.http.get(server.url, headers={"Connection": "close"})
        assert server.streams == 2


# ---- against the book ----


@pytest.mark.parametrize(
    "answer",
    [
        LINE + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        LINE + b"Content-Length: 2, 3\r\n\r\nok!",
        LINE + b"Content-Length: -2\r\n\r\nok",
        LINE + b"Content-Length: 0x2\r\n\r\nok",
        LINE + b"Content-Length: %b\r\n\r\nok" % (b"9" * 5000),
        LINE + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        LINE + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        LINE + b" folded: from nothing\r\n\r\n",
        LINE + b"Name : x\r\n\r\n",
        LINE + b"Na\x00me: x\r\n\r\n",
        LINE + b"no colon\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"HTTP/1.1 200 " + b"K" * MAX_HEAD,
        LINE + b"X: " + b"y" * MAX_HEAD,
        CHUNKED + b"zz\r\n",
        CHUNKED + b"-1\r\n\r\n",
        CHUNKED + b"3\r\nabcdef\r\n",
        CHUNKED + b"1" * (MAX_HEAD + 1),
        CHUNKED + b"0\r\n" + b"X: y\r\n" * MAX_HEAD,
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM + 1) + OK,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
    ids=lambda answer: str(answer[:60]),
)
async def test_what_is_no_answer_is_an_error_and_ends_the_connection(answer: bytes) -> None:
    async with answering(answer) as server:
        for _ in range(2):
            with pytest.raises(httpx.RemoteProtocolError, match=WHERE):
                await server.get()
        assert server.streams == 2


async def test_a_folded_header_is_one_line() -> None:
    async with answering(LINE + b"X: a\r\n  b\r\nContent-Length: 0\r\n\r\n") as server:
        assert (await server.get()).headers["x"] == "a b"


async def test_heads_before_the_answer_are_passed_over() -> None:
    interim = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with answering(interim * (MAX_INTERIM // 2) + OK) as server:
        for _ in range(2):
            assert (await server.get()).text == "ok"
        assert server.streams == 1


@given(garbage=st.binary(max_size=200), begins_well=st.booleans())
async def test_garbage_is_an_answer_or_an_error(garbage: bytes, begins_well: bool) -> None:
    """Whatever is sent: an answer, or an error of httpx, and never anything else."""
    async with answering((CHUNKED if begins_well else b"") + garbage, ends=True) as server:
        with suppress(httpx.RemoteProtocolError):
            await server.get()


# ---- bodies of requests ----


async def slowly(parts: int) -> AsyncGenerator[bytes]:
    for _ in range(parts):
        await trio.sleep(1)
        yield bytes(1000)


async def test_an_early_refusal_stops_the_request_even_where_nobody_hangs_up(
    autojump_clock: MockClock,
) -> None:
    async def refuses(stream: DmsgStream) -> None:
        await head(stream)
        await stream.send_all(b"HTTP/1.1 413 Large\r\nContent-Length: 2\r\n\r\nno")
        await trio.sleep_forever()

    async with asking(refuses) as (http, url):
        for content in (slowly(1000), LARGE * 8):
            with trio.fail_after(5):
                answer = await http.post(url, content=content)
            assert (answer.status_code, answer.text) == (413, "no")


async def test_an_early_welcome_does_not_stop_the_request(autojump_clock: MockClock) -> None:
    async def welcomes(stream: DmsgStream) -> None:
        received = await head(stream)
        await stream.send_all(LINE + b"Content-Length: 5\r\n\r\n")
        while not received.endswith(b"0\r\n\r\n"):
            received += await stream.receive_some()
        await stream.send_all(b"%5d" % received.count(b"\0"))

    async with asking(welcomes) as (http, url):
        assert (await http.post(url, content=slowly(5))).text == " 5000"


@pytest.mark.parametrize("says_go_on", [True, False])
async def test_who_expects_a_go_on_waits_for_it_but_not_for_ever(
    says_go_on: bool, autojump_clock: MockClock
) -> None:
    waited = 0.0

    async def answer(stream: DmsgStream) -> None:
        nonlocal waited
        await head(stream)
        began = trio.current_time()
        if says_go_on:
            await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await stream.receive_some() == b"body"
        waited = trio.current_time() - began
        await stream.send_all(OK)

    async with asking(answer) as (http, url):
        await http.post(url, content=b"body", headers={"Expect": "100-continue"})
    assert waited == pytest.approx(0 if says_go_on else 1)


async def test_who_expects_a_go_on_and_is_refused_sends_nothing() -> None:
    async with answering(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n") as server:
        for _ in range(2):
            expecting = {"Expect": "100-continue"}
            answer = await server.http.post(server.url, content=LARGE, headers=expecting)
            assert answer.status_code == 417
        assert server.streams == 2
        assert not any(b"\x01\x02\x03" in request for request in server.requests)


async def test_a_body_that_is_shorter_than_announced_is_our_error_and_ends_the_connection() -> None:
    async with answering(OK) as server:
        for wrong in ("999", "1"):
            with pytest.raises(httpx.LocalProtocolError):
                await server.http.put(
                    server.url, content=slowly(0), headers={"Content-Length": wrong}
                )
        assert (await server.get()).text == "ok"


async def test_a_body_that_breaks_is_what_it_raises_and_ends_the_connection() -> None:
    async def breaks() -> AsyncGenerator[bytes]:
        yield b"first"
        raise ZeroDivisionError

    async with answering(OK) as server:
        with pytest.raises(ZeroDivisionError):
            await server.http.post(server.url, content=breaks())
        assert (await server.get()).text == "ok"


async def test_a_request_that_is_cancelled_at_any_moment_leaves_a_pool_that_works(
    autojump_clock: MockClock,
) -> None:
    async def echo(stream: DmsgStream) -> None:
        with suppress(trio.BrokenResourceError):
            async with stream:
                while received := await head(stream):
                    _, _, body = received.partition(b"\r\n\r\n")
                    while not body.endswith(b"0\r\n\r\n"):
                        if not (data := await stream.receive_some()):
                            return
                        body += data
                        await trio.sleep(0.2)
                    await stream.send_all(CHUNKED + body)

    cancelled = 0
    async with (
        Network(latency=0.1) as network,
        network.client() as server,
        network.client() as client,
        server.listen(80) as listener,
        open_service_nursery() as nursery,
        httpx.AsyncClient(transport=DmsgTransport(client, max_connections=1)) as http,
    ):
        nursery.start_soon(partial(trio.serve_listeners, echo, [listener]))
        url = f"dmsg://{server.pk}/"
        for moment in range(1, 60):
            # A dial ends before its time is up, to say what it tried.
            with trio.move_on_after(moment / 7) as scope, suppress(httpx.ConnectError):
                await http.post(url, content=slowly(4))
            cancelled += scope.cancelled_caught
            if moment % 3:
                continue
            assert (await http.post(url, content=slowly(1))).content == bytes(1000)
    assert 20 < cancelled < 59


# ---- other protocols, and who watches ----


async def test_a_switch_of_protocols_gives_the_stream_and_what_came_with_it() -> None:
    async def switches(stream: DmsgStream) -> None:
        async with stream:
            await head(stream)
            heads = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n"
            await stream.send_all(heads + b"hello")
            await stream.send_all((await stream.receive_some()).upper())
            assert await stream.receive_some() == b""

    async with asking(switches) as (http, url):
        wish = {"Connection": "upgrade", "Upgrade": "shout"}
        async with http.stream("GET", url, headers=wish) as answer:
            assert answer.status_code == 101
            stream = answer.extensions["network_stream"]
            assert isinstance(stream, httpcore.AsyncNetworkStream)
            assert await stream.read(2) + await stream.read(100) == b"hello"
            await stream.write(b"loud")
            assert await stream.read(100) == b"LOUD"


async def test_an_upgrade_that_is_declined_is_an_answer_like_any_other() -> None:
    async with answering(OK) as server:
        wish = {"Connection": "upgrade", "Upgrade": "shout"}
        for _ in range(2):
            assert (await server.http.get(server.url, headers=wish)).text == "ok"
        assert server.streams == 1


async def test_each_step_is_told_by_the_names_that_httpx_has() -> None:
    steps: list[str] = []

    async def tell(name: str, _info: object) -> None:
        steps.append(name)

    async with answering(OK) as server:
        for _ in range(2):
            await server.http.get(server.url, extensions={"trace": tell})
    begun = [name.removesuffix(".started") for name in steps if name.endswith(".started")]
    done = [name.removesuffix(".complete") for name in steps if name.endswith(".complete")]
    assert begun == done == [
        "connection.connect_tcp",
        *[
            f"http11.{step}"
            for step in (
                "send_request_headers",
                "send_request_body",
                "receive_response_headers",
                "receive_response_body",
                "response_closed",
            )
        ]
        * 2,
    ]  # fmt: skip


async def test_the_backend_alone_serves_who_wants_httpcore() -> None:
    async def answer(stream: DmsgStream) -> None:
        while await head(stream):
            await stream.send_all(OK)

    async with serving(answer) as (client, url):
        backend = DmsgBackend(client)
        async with httpcore.AsyncConnectionPool(network_backend=backend) as pool:
            for _ in range(2):
                response = await pool.request("GET", url.replace("dmsg", "http", 1))
                assert response.content == b"ok"
