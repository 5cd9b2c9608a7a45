"""Parts of files that an app tells the server to send: on any kind of body, and when they fail."""

import errno
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from starlette.types import ASGIApp, Receive, Scope, Send
from trio.testing import lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from dmsg_trio._asgi import serve_app
from dmsg_trio._asgi.files import EXTENSION, PIECE, SENT, Sent

TEXT = os.urandom(3 * PIECE + 1234)
GET = b"%s / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
Pair = tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]


class Listener(trio.abc.Listener[trio.abc.HalfCloseableStream]):
    """Accepts one stream."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._streams = [stream]

    async def accept(self) -> trio.abc.HalfCloseableStream:
        if not self._streams:
            await trio.sleep_forever()
        return self._streams.pop()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def asked(
    app: ASGIApp, request: bytes = GET % b"GET", *, pair: Pair | None = None
) -> AsyncIterator[trio.abc.Stream]:
    near, far = pair or memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(serve_app, app, Listener(far), client_address=lambda _: ("02ab", 1))
        )
        await near.send_all(request)
        yield near
        nursery.cancel_scope.cancel()


async def receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> None:
    while size:
        piece = await stream.receive_some(size)
        assert piece
        size -= len(piece)


async def answer_to(app: ASGIApp, method: bytes = b"GET") -> tuple[bytes, bytes]:
    """Give the head and the body as they went out."""
    async with asked(app, GET % method) as stream:
        head, _, body = b"".join([bytes(piece) async for piece in stream]).partition(b"\r\n\r\n")
        return head, body


def sending(*messages: Mapping[str, object], length: int | None = None) -> ASGIApp:
    """Answer with these messages behind a head that says ``length``, or no length."""
    headers = [] if length is None else [(b"content-length", b"%d" % length)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["extensions"][EXTENSION] == {}
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for message in messages:
            await send({"type": EXTENSION, **message})

    return app


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(TEXT)
    return path


async def test_a_part_of_a_file_is_sent_as_it_is(path: Path) -> None:
    with path.open("rb") as file:
        app = sending(
            {"file": file, "offset": 100, "count": 2 * PIECE, "more_body": True},
            {"file": file, "offset": 7, "count": 0, "more_body": True},
            {"file": file, "offset": 5, "count": 10},
            length=2 * PIECE + 10,
        )
        _, body = await answer_to(app)
    assert body == TEXT[100 : 100 + 2 * PIECE] + TEXT[5:15]


async def test_without_numbers_it_is_all_from_where_the_file_is(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(1000)
        _, body = await answer_to(sending({"file": file}, length=len(TEXT) - 1000))
    assert body == TEXT[1000:]


async def test_a_part_is_one_chunk_where_no_length_was_said(path: Path) -> None:
    with path.open("rb") as file:
        head, body = await answer_to(sending({"file": file, "offset": 3, "count": 4}))
    assert b"transfer-encoding: chunked" in head.lower()
    assert body == b"4\r\n" + TEXT[3:7] + b"\r\n0\r\n\r\n"


async def test_who_asks_for_the_head_gets_no_file(path: Path) -> None:
    with path.open("rb") as file:
        app = sending({"file": file, "offset": 0, "count": 10}, length=10)
        head, body = await answer_to(app, b"HEAD")
    assert b"content-length: 10" in head.lower()
    assert body == b""


async def test_a_file_that_is_shorter_breaks_the_answer_and_the_app_learns_where(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with path.open("rb") as file:
        app = sending({"file": file, "offset": 0, "count": len(TEXT) + 1}, length=len(TEXT) + 1)
        _, body = await answer_to(app)
    assert len(body) <= len(TEXT)  # less than was announced
    assert f"it ends at {len(TEXT)}, and was to be sent up to {len(TEXT) + 1}" in caplog.text


async def test_a_disk_that_fails_breaks_the_answer_and_the_app_learns_where(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.preadv

    def preadv(number: int, memory: list[memoryview], start: int, flags: int = 0) -> int:
        if start:
            raise OSError(errno.EIO, "Input/output error")
        return read(number, memory, start, flags)

    monkeypatch.setattr(os, "preadv", preadv)
    with path.open("rb") as file:
        app = sending({"file": file, "offset": 0, "count": len(TEXT)}, length=len(TEXT))
        _, body = await answer_to(app)
    assert body == TEXT[:PIECE]
    assert f"reading it at {PIECE}: Input/output error" in caplog.text


async def test_what_went_out_is_counted_piece_by_piece(path: Path) -> None:
    sent = Sent()
    with path.open("rb") as file:
        app = sending({"file": file, SENT: sent}, length=len(TEXT))
        async with asked(app, pair=lockstep_stream_pair()) as stream:
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            for count in range(1, 4):
                await receive_exactly(stream, PIECE)
                await wait_all_tasks_blocked()
                assert sent.count == count * PIECE
            await stream.receive_some(1)  # the next one is not through, and never will be
        assert sent.count == 3 * PIECE


async def test_a_file_before_the_status_is_the_apps_mistake(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with path.open("rb") as file:
            await send({"type": EXTENSION, "file": file})

    head, body = await answer_to(app)
    assert head.startswith(b"HTTP/1.1 500")
    assert body == b""
    assert "UnexpectedMessageError" in caplog.text


async def test_a_system_that_cannot_tell_what_is_in_memory_has_a_thread_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
    with path.open("rb") as file:
        _, body = await answer_to(sending({"file": file}, length=len(TEXT)))
    assert body == TEXT
