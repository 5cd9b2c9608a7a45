"""Transfers over a network in memory: an error names the hop, the phase and the reason."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from dmsg_trio._errors import Attempt, DiscoveryError, DmsgError, ErrorCode, UnreachableError
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.apps.curl import ExitCode, Order, Report, ToFile, ToStream, Transfer, parse_url
from dmsg_trio.apps.curl._codes import translated
from dmsg_trio.client import Client, DmsgStream
from dmsg_trio.http import DmsgTransport
from dmsg_trio.testing import Network
from tests.apps.curl.sites import OTHER_PK, PK, Collected, Heard, code, names

UNKNOWN_SIZE = 2**63 - 1

Answer = Callable[[DmsgStream], Awaitable[None]]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[tuple[Client, Client]]:
    """Two clients, of which the second one answers each request on port 80."""

    async def serve(stream: DmsgStream) -> None:
        async with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await stream.receive_some()
            await answer(stream)

    async with Network() as network, network.client() as near, network.client() as far:
        async with open_service_nursery() as nursery, far.listen(80) as listener:
            nursery.start_soon(partial(trio.serve_listeners, serve, [listener]))
            yield near, far


async def says(text: bytes, stream: DmsgStream) -> None:
    await stream.send_all(text)


async def says_and_resets(text: bytes, stream: DmsgStream) -> None:
    await stream.send_all(text)
    await stream.receive_some()
    stream.reset()


async def fetch(near: Client, url: str, output: ToFile | ToStream) -> Report:
    async with DmsgTransport(near) as transport:
        order = Order(url=parse_url(url), connect_timeout=20)
        return await Transfer(transport, order, output, Heard()).run()


async def test_bytes_arrive_as_they_are(autojump_clock: object) -> None:
    body = bytes(range(256)) * 1000
    answer = partial(says, b"HTTP/1.1 200 OK\r\nContent-Length: 256000\r\n\r\n" + body)
    collected = Collected()
    async with answering(answer) as (near, far):
        report = await fetch(near, f"dmsg://{far.pk}/", collected.output)
    assert (code(report), collected.data) == (0, body)
    assert (report.connects, report.downloaded) == (1, 256_000)


@pytest.mark.parametrize(
    ("answer", "exit_code", "reason"),
    [
        (b"", ExitCode.NO_ANSWER, "closed without an answer"),
        (b"SSH-2.0-x\r\n\r\n", ExitCode.WEIRD_ANSWER, "sends no HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour",
            ExitCode.PARTIAL,
            "closed after 4 of 10 bytes",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n",
            ExitCode.PARTIAL,
            "incomplete chunked read",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % UNKNOWN_SIZE,
            ExitCode.PARTIAL,
            "a length by which some servers mean a folder",
        ),
    ],
    ids=["nothing", "no HTTP", "too little", "half a chunk", "a folder"],
)
async def test_a_wrong_answer_is_never_a_file(
    tmp_path: Path, answer: bytes, exit_code: ExitCode, reason: str, autojump_clock: object
) -> None:
    async with answering(partial(says, answer)) as (near, far):
        report = await fetch(near, f"dmsg://{far.pk}/", ToFile(path=tmp_path / "it"))
        assert code(report) == exit_code
        assert reason in str(report.error)
        assert f"{str(far.pk)[:8]}…:80" in str(report.error)
    assert names(tmp_path) == []


async def test_a_stream_that_is_reset_is_a_receive_error(autojump_clock: object) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour"

    async def breaks(stream: DmsgStream) -> None:
        await stream.send_all(head)
        await trio.sleep(1)
        stream.reset()

    async with answering(breaks) as (near, far):
        report = await fetch(near, f"dmsg://{far.pk}/", Collected().output)
    assert code(report) == ExitCode.RECEIVE_ERROR
    assert "receiving from" in str(report.error)


async def test_a_port_without_a_listener_is_named(autojump_clock: object) -> None:
    async with answering(partial(says, b"")) as (near, far):
        report = await fetch(near, f"dmsg://{far.pk}:99/", Collected().output)
    assert str(report.error) == f"(7) dialing {str(far.pk)[:8]}…:99: no listener on port 99"


async def test_a_key_that_nobody_has_is_not_found(autojump_clock: object) -> None:
    async with answering(partial(says, b"")) as (near, _):
        report = await fetch(near, f"dmsg://{PK}/", Collected().output)
    assert code(report) == ExitCode.NOT_FOUND
    assert f"looking up {PK[:8]}…:80: no client of this key" in str(report.error)


async def test_a_stalled_body_is_left_at_once_when_cancelled(autojump_clock: object) -> None:
    async def stalls(stream: DmsgStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour")
        await trio.sleep_forever()

    async with answering(stalls) as (near, far):
        began = trio.current_time()
        with trio.move_on_after(5) as scope:
            await fetch(near, f"dmsg://{far.pk}/", Collected().output)
        assert scope.cancelled_caught
        assert trio.current_time() - began < 5.1


async def test_a_redirect_to_the_same_key_needs_no_new_stream(autojump_clock: object) -> None:
    async def leads_on(stream: DmsgStream) -> None:
        await stream.send_all(
            b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 5\r\n\r\nmoved"
        )
        assert (await stream.receive_some()).startswith(b"GET /b ")
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere")

    collected = Collected()
    async with answering(leads_on) as (near, far), DmsgTransport(near) as transport:
        order = Order(url=parse_url(f"dmsg://{far.pk}/a"), redirects=5)
        report = await Transfer(transport, order, collected.output, Heard()).run()
    assert (code(report), report.connects, collected.data) == (0, 1, b"here")


async def test_a_redirect_to_a_name_that_is_no_key_leads_out_of_dmsg(
    autojump_clock: object,
) -> None:
    async def leads_out(stream: DmsgStream) -> None:
        await stream.send_all(
            b"HTTP/1.1 302 Found\r\nLocation: http://example.org/a\r\nContent-Length: 0\r\n\r\n"
        )

    collected = Collected()
    async with answering(leads_out) as (near, far), DmsgTransport(near) as transport:
        order = Order(url=parse_url(f"dmsg://{far.pk}/a"), redirects=5)
        report = await Transfer(transport, order, collected.output, Heard()).run()
    assert code(report) == ExitCode.UNSUPPORTED
    assert "http://example.org/a leads out of dmsg: no key" in str(report.error)


def test_each_way_that_a_dial_tried_is_named() -> None:
    attempts = [
        Attempt(OTHER_PK, "no answer within its share of the time, 5.0 s"),
        Attempt(PK, f"no way to {PK}"),
    ]
    fault = UnreachableError(
        ErrorCode.CANNOT_CONNECT_TO_DELEGATED, f"{PK}:81 was not reached", attempts
    )
    error = httpx.ConnectError("cannot connect")
    error.__cause__ = fault
    assert str(translated(error, parse_url(f"{PK}:81"), is_answered=False)) == (
        f"(7) dialing {PK[:8]}…:81:"
        f" over server {OTHER_PK[:8]}…: no answer within its share of the time, 5.0 s;"
        f" over server {PK[:8]}…: no way to {PK[:8]}…"
    )


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (httpx.ConnectTimeout("late"), ExitCode.TIMEOUT),
        (httpx.ReadTimeout("late"), ExitCode.TIMEOUT),
        (httpx.WriteError("broke"), ExitCode.SEND_ERROR),
        (httpx.ReadError("broke"), ExitCode.RECEIVE_ERROR),
        (httpx.UnsupportedProtocol("no"), ExitCode.UNSUPPORTED),
        (httpx.InvalidURL("no"), ExitCode.BAD_URL),
        (DiscoveryError("away"), ExitCode.NOT_FOUND),
    ],
)
def test_every_error_has_the_code_that_curl_has(
    error: httpx.HTTPError | httpx.InvalidURL | DmsgError, exit_code: ExitCode
) -> None:
    assert translated(error, parse_url(PK), is_answered=False).code == exit_code
