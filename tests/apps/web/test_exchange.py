"""Requests that are passed on: what is said to the other side, what is refused, and how it ends."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from dmsg_trio.apps.web import _conversation, _far, _near
from dmsg_trio.apps.web._errors import WebError
from dmsg_trio.client import DmsgListener, DmsgStream
from tests.apps.web.parties import Scene, all_of, receive_exactly, receive_until, scene
from tests.waiting import PATIENCE, answered

PORT = 82  # of the server, where a test itself answers
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

pytestmark = pytest.mark.network


class Behind:
    """What answers, byte by byte as the test wants it."""

    def __init__(self, listener: DmsgListener) -> None:
        self._listener = listener
        self.streams: list[DmsgStream] = []

    async def accept(self) -> DmsgStream:
        with trio.fail_after(PATIENCE):
            stream = await self._listener.accept()
        self.streams.append(stream)
        return stream

    async def request(self) -> tuple[DmsgStream, bytes]:
        """Wait for a connection and the head of a request."""
        stream = await self.accept()
        return stream, await receive_until(stream, b"\r\n\r\n")


@asynccontextmanager
async def behind() -> AsyncIterator[tuple[Scene, Behind, trio.SocketStream]]:
    """A scene, what answers, and a connection to the proxy."""
    async with scene() as here, here.server.listen(PORT) as listener:
        far = Behind(listener)
        yield here, far, await here.connect()
        for stream in far.streams:
            stream.reset()


def head(here: Scene, *lines: str, method: str = "GET", path: str = "/") -> bytes:
    host = f"{here.host}:{PORT}"
    first = [f"{method} http://{host}{path} HTTP/1.1", f"Host: {host}"]
    return "\r\n".join([*first, *lines, "", ""]).encode()


# ---- what is said to the other side ----


async def test_headers_for_one_connection_stay_on_it_and_the_host_is_ours() -> None:
    async with behind() as (here, far, near):
        lines = (
            "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic eDp5", "TE: trailers",
            "Connection: keep-alive, X-Mine, Host", "X-Mine: 1", "Keep-Alive: timeout=5",
            "Upgrade: h2c", "Cookie: a=b", "X-Other: 2", "Accept-Encoding: gzip",
        )  # fmt: skip
        evil = head(here, *lines, path="/a?b=http://x/").replace(
            f"Host: {here.host}:{PORT}".encode(), b"Host: evil.example"
        )
        await near.send_all(evil)
        _, said = await far.request()
        assert said.splitlines() == [
            b"GET /a?b=http://x/ HTTP/1.1",
            f"Host: {here.host}:{PORT}".encode(),
            b"Cookie: a=b",
            b"X-Other: 2",
            b"Accept-Encoding: gzip",
            b"",
        ]


async def test_headers_of_an_answer_for_one_connection_stay_on_it() -> None:
    async with behind() as (here, far, near):
        await near.send_all(head(here))
        stream, _ = await far.request()
        answer = b"HTTP/1.1 200 Fine\r\nConnection: close, x-mine\r\nX-Mine: 1\r\nKeep-Alive: x\r\n"
        answer += b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok"
        await stream.send_all(answer)
        assert await receive_until(near, b"\r\n\r\nok") == (
            b"HTTP/1.1 200 Fine\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok"
        )


async def test_a_path_that_is_empty_is_a_slash() -> None:
    async with behind() as (here, far, near):
        await near.send_all(head(here, path="?x"))
        _, said = await far.request()
        assert said.startswith(b"GET /?x HTTP/1.1\r\n")


# ---- requests that others might read in another way ----

SMUGGLED = "\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 4", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 0"],
        ["Content-Length: 4", "Content-Length: 5"],
        ["Content-Length: 4, 5"],
        ["Content-Length: +4"],
        ["Content-Length: -4"],
        ["Content-Length: 0x4"],
        ["Content-Length: 4 4"],
        ["Content-Length:"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: chunked, gzip"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding : chunked"],
        ["Transfer-Encoding\t: chunked"],
        ["Transfer-Encoding: \x0bchunked"],
        ["X: a", " Content-Length: 4"],
        ["X: a", "\tb"],
        ["X: a\nContent-Length: 4"],
        ["X: a\rContent-Length: 4"],
        ["X: a\x00b"],
        ["X y: a"],
        [": a"],
        ["X"],
        ["Host: other"],
    ],
)
async def test_a_request_with_two_meanings_is_400_and_nobody_sees_it(lines: list[str]) -> None:
    async with behind() as (here, far, near):
        await near.send_all(head(here, *lines, method="POST") + SMUGGLED.encode())
        answer = await all_of(near)
        assert re.match(rb"HTTP/1\.1 (400|501) ", answer)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"Connection: close\r\n" in answer
        assert far.streams == []
        with trio.move_on_after(0.02):
            await far.accept()
        assert far.streams == []


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b"GET http://a b/ HTTP/1.1", 400),
        (b"GET http://u@HOST/ HTTP/1.1", 400),
        (b"GET http://HOST:0/ HTTP/1.1", 400),
        (b"GET http://HOST:99999/ HTTP/1.1", 400),
        (b"GET http://HOST\\@x/ HTTP/1.1", 400),
        (b"GET http:/// HTTP/1.1", 400),
        (b"GET https://HOST/ HTTP/1.1", 400),
        (b"GET ftp://HOST/ HTTP/1.1", 400),
        (b"GET x HTTP/1.1", 400),
        (b"GET http://HOST/ HTTP/2.0", 505),
        (b"GET http://HOST/", 400),
        (b"GET  http://HOST/ HTTP/1.1", 400),
        (b"G\xc3T http://HOST/ HTTP/1.1", 400),
        (b"CONNECT HOST HTTP/1.1", 400),
        (b"CONNECT http://HOST:80/ HTTP/1.1", 400),
        (b"CONNECT /x HTTP/1.1", 400),
        (b"CONNECT HOST:82 HTTP/1.1\r\nContent-Length: 4", 400),
    ],
)
async def test_a_first_line_that_is_none_is_refused(first: bytes, status: int) -> None:
    async with behind() as (here, far, near):
        host = here.host.encode()
        await near.send_all(first.replace(b"HOST", host) + b"\r\nHost: " + host + b"\r\n\r\n")
        assert (await receive_until(near, b"\r\n")).startswith(b"HTTP/1.1 %d " % status)
        assert far.streams == []


@pytest.mark.parametrize("target", ["http://me:hunter2@HOST/x?y", "me:hunter2@HOST:80"])
@pytest.mark.parametrize("method", ["GET", "CONNECT"])
async def test_a_password_before_a_host_is_refused_and_not_noted(method: str, target: str) -> None:
    async with behind() as (here, _, near):
        target = target.replace("HOST", here.host)
        await near.send_all(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = await receive_until(near, b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        (fault,) = here.book.faults
        assert here.host in fault.target
        assert "hunter2" not in fault.target + fault.reason


async def test_of_a_long_line_that_is_none_a_part_is_noted() -> None:
    async with behind() as (here, _, near):
        await near.send_all(b"GET http://x/ " + b"y" * 50_000 + b"\r\n\r\n")
        await receive_until(near, b"\r\n\r\n")
        (fault,) = here.book.faults
        assert len(fault.reason) < 500


async def test_http_1_0_with_chunks_is_refused() -> None:
    async with behind() as (here, _, near):
        question = head(here, "Transfer-Encoding: chunked", method="POST")
        await near.send_all(question.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n")
        assert (await all_of(near)).startswith(b"HTTP/1.1 400 ")


async def test_a_body_is_framed_anew_and_trailers_are_left_behind() -> None:
    async with behind() as (here, far, near):
        await near.send_all(head(here, "Transfer-Encoding: chunked", method="POST"))
        await near.send_all(b"3;ext=1\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n")
        stream, said = await far.request()
        assert b"Transfer-Encoding: chunked\r\n" in said
        assert await receive_exactly(stream, 13) == b"3\r\nabc\r\n0\r\n\r\n"
        await stream.send_all(OK)
        assert (await receive_until(near, b"ok")).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("size", [_near.MAX_HEAD, 10 * _near.MAX_HEAD])
@pytest.mark.parametrize("ends", [True, False])
async def test_a_head_that_is_too_large_is_431(size: int, ends: bool) -> None:
    async with behind() as (here, far, near):
        data = head(here, "Cookie: " + "x" * size)
        try:
            await near.send_all(data if ends else data[:-4])
        except trio.BrokenResourceError:
            return  # it had not waited for all of it
        answer = await all_of(near)
        assert answer.startswith(b"HTTP/1.1 431 ") or answer == b"<reset>"
        assert far.streams == []


async def test_a_head_that_comes_byte_by_byte_is_one_and_two_at_once_are_two() -> None:
    async with scene() as here, await here.connect() as near:
        question = f"GET http://{here.host}/who HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        for i in range(len(question)):
            await near.send_all(question[i : i + 1])
        assert (await receive_until(near, b"/who")).startswith(b"HTTP/1.1 200")
        await near.send_all(question + b"\r\n" + question)
        both = await receive_until(near, b"/who")
        while both.count(b"/who") < 2:
            both += await near.receive_some()
        assert both.count(b"HTTP/1.1 200") == 2
        assert len(set(here.site.clients)) == 1  # one stream of dmsg for all of them


async def test_a_head_that_does_not_end_in_time_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_near, "HEAD_TIME", 0.1)
    async with behind() as (here, _, near):
        await near.send_all(head(here)[:-2])
        assert (await all_of(near)).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("seen", [b"", b"G"])
async def test_a_request_line_that_does_not_end_has_30_seconds(
    seen: bytes, autojump_clock: object
) -> None:
    client, stream = trio.testing.memory_stream_pair()
    await client.send_all(b"GET / HT"[len(seen) :])
    began = trio.current_time()
    with pytest.raises(WebError) as caught:
        await _near.Near(stream, seen).next_request()
    assert caught.value.status == 408
    assert trio.current_time() - began == pytest.approx(30)


async def test_a_connection_without_requests_is_ended_quietly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scene() as here, await here.connect() as near:
        monkeypatch.setattr(_near, "IDLE_TIME", 0.1)
        await near.send_all(f"GET http://{here.host}/who HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = await all_of(near)
        assert answer.count(b"HTTP/1.1") == 1
        assert answer.endswith(b"/who")


# ---- both directions at once ----


async def test_expect_100_continue_is_asked_of_who_answers() -> None:
    async with behind() as (here, far, near):
        await near.send_all(head(here, "Expect: 100-continue", "Content-Length: 4", method="PUT"))
        stream, said = await far.request()
        assert b"Expect: 100-continue\r\n" in said
        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await receive_until(near, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await near.send_all(b"body")
        assert await receive_exactly(stream, 4) == b"body"
        await stream.send_all(OK)
        assert (await receive_until(near, b"ok")).startswith(b"HTTP/1.1 200 OK")


async def test_an_answer_that_comes_before_the_end_of_the_question_arrives() -> None:
    async with scene() as here, await here.connect() as near:
        await near.send_all(
            f"POST http://{here.host}/deaf HTTP/1.1\r\nHost: x\r\n"
            "Content-Length: 100000000\r\n\r\n".encode()
        )
        await near.send_all(bytes(100_000))
        answer = await all_of(near)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert answer.removesuffix(b"<reset>").endswith(b"too much")


async def test_bodies_go_both_ways_piece_by_piece() -> None:
    async with behind() as (here, far, near):
        await near.send_all(head(here, "Transfer-Encoding: chunked", method="POST"))
        stream, _ = await far.request()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await receive_until(near, b"\r\n\r\n")
        for _ in range(3):
            await near.send_all(b"4\r\nping\r\n")
            assert await receive_exactly(stream, 9) == b"4\r\nping\r\n"
            await stream.send_all(b"4\r\npong\r\n")
            assert await receive_exactly(near, 9) == b"4\r\npong\r\n"


async def test_large_bodies_come_whole_and_are_never_held() -> None:
    size = 8_000_000
    async with scene() as here:
        answer = await here.ask(f"/large?n={size}")
        assert len(answer.partition(b"\r\n\r\n")[2]) == size
        async with await here.connect() as near:
            await near.send_all(
                f"PUT http://{here.host}/echo HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.send_all, b"x" * size)
                assert (await all_of(near)).endswith(b"\r\n\r\n" + b"x" * size)


async def test_a_client_of_http_1_0_gets_a_body_that_ends_with_the_connection() -> None:
    async with behind() as (here, far, near):
        await near.send_all(head(here).replace(b"HTTP/1.1", b"HTTP/1.0"))
        stream, said = await far.request()
        assert said.startswith(b"GET / HTTP/1.1\r\n")
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await stream.send_all(b"2\r\nok\r\n0\r\n\r\n")
        answer = await all_of(near)
        assert b"hunked" not in answer
        assert answer.endswith(b"\r\n\r\nok")


# ---- ends ----


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
)
@pytest.mark.parametrize("how", ["end", "reset"])
async def test_an_answer_that_breaks_off_never_looks_whole(answer: bytes, how: str) -> None:
    async with behind() as (here, far, near):
        await near.send_all(head(here))
        stream, _ = await far.request()
        await stream.send_all(answer)
        await receive_until(near, b"half")
        if how == "end":
            await stream.aclose()
        else:
            stream.reset()
        assert (await all_of(near)).endswith(b"<reset>")


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n a: b\r\n\r\n"]
)
async def test_no_answer_or_one_that_is_not_http_is_502(answer: bytes) -> None:
    async with behind() as (here, far, near):
        await near.send_all(head(here))
        stream, _ = await far.request()
        await stream.send_all(answer)
        await stream.aclose()
        assert (await receive_until(near, b"\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
        assert here.book.faults[0].target == f"{here.host}:{PORT}"


async def test_what_was_wrong_is_quoted_as_it_came() -> None:
    async with behind() as (here, far, stream):
        await stream.send_all(head(here))
        site, _ = await far.request()
        await site.send_all(b"hello\r\n\r\n")
        answer = await receive_until(stream, b"b'hello'")
        assert b"what it answers is not HTTP: illegal status line: b'hello'" in answer
    async with scene() as here:
        answer = await here.ask("/who", "X : y")
        assert b"illegal header line: b'X : y'" in answer


async def test_who_ends_its_side_after_the_question_still_gets_the_answer() -> None:
    async with behind() as (here, far, near):
        await near.send_all(head(here))
        await near.send_eof()
        stream, _ = await far.request()
        await stream.send_all(OK)
        assert (await all_of(near)).endswith(b"ok")


async def test_a_body_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_near, "STALL_TIME", 0.1)
    async with behind() as (here, far, near):
        await near.send_all(head(here, "Content-Length: 10", method="POST") + b"half")
        stream, _ = await far.request()
        assert (await all_of(stream)).endswith(b"<reset>")
        assert await all_of(near) == b"<reset>"


async def test_who_goes_away_within_an_answer_ends_the_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_near, "HALF_CLOSED_TIME", 0.1)
    async with behind() as (here, far, near):
        await near.send_all(head(here))
        stream, _ = await far.request()
        await near.aclose()
        with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
        assert await answered(lambda: _is_idle(here), within=PATIENCE)


async def _is_idle(here: Scene) -> bool:
    return not here.book.open


async def test_a_connection_that_ended_meanwhile_is_not_used_again() -> None:
    async with behind() as (here, far, near):
        for _ in range(3):
            await near.send_all(head(here))
            stream, _ = await far.request()
            await stream.send_all(OK)
            assert (await receive_until(near, b"ok")).startswith(b"HTTP/1.1 200")
            await stream.aclose()
            await trio.testing.wait_all_tasks_blocked(0.02)


async def test_a_question_that_crosses_with_the_end_is_asked_again_if_that_does_no_harm() -> None:
    async with behind() as (here, far, near):
        await near.send_all(head(here))
        stream, _ = await far.request()
        await stream.send_all(OK)
        await receive_until(near, b"ok")
        await near.send_all(head(here))
        await receive_until(stream, b"\r\n\r\n")
        stream.reset()
        stream, _ = await far.request()
        await stream.send_all(OK)
        assert (await receive_until(near, b"ok")).startswith(b"HTTP/1.1 200")
        await near.send_all(head(here, "Content-Length: 0", method="POST"))
        await receive_until(stream, b"\r\n\r\n")
        stream.reset()
        assert (await receive_until(near, b"\r\n\r\n")).startswith(b"HTTP/1.1 502 ")


async def test_idle_connections_are_ended_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_far, "KEEP_TIME", 0.2)
    async with behind() as (here, far, near):
        await near.send_all(head(here))
        stream, _ = await far.request()
        await stream.send_all(OK)
        await receive_until(near, b"ok")
        with trio.fail_after(PATIENCE):
            assert await stream.receive_some() == b""


async def test_a_long_target_is_noted_in_short() -> None:
    async with behind() as (here, _, near):
        await near.send_all(b"GET http://" + b"x" * 5000 + b"/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await receive_until(near, b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        assert len(here.book.faults[0].target) <= _conversation.MAX_NAME
