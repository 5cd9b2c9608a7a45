"""Whatever a site answers and whatever a client asks: each side sees HTTP, and the program lives on."""

from __future__ import annotations

from collections.abc import Sequence

import h11
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock

from dmsg_trio.apps.web._book import Book
from dmsg_trio.apps.web._conversation import Action, converse
from dmsg_trio.apps.web._draining import Draining
from dmsg_trio.apps.web._exchange import Onward
from dmsg_trio.apps.web._far import Pool
from dmsg_trio.apps.web._near import Near

ASKED = {
    method: f"{method} / HTTP/{version}\r\nHost: x\r\n{more}\r\n".encode()
    for method, version, more in (
        ("GET", "1.1", ""),
        ("HEAD", "1.1", "Connection: close\r\n"),
        ("POST", "1.1", "Content-Length: 0\r\n"),
        ("PUT", "1.0", ""),
        ("OPTIONS", "1.1", "Upgrade: websocket\r\nConnection: upgrade\r\n"),
    )
}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

lines = st.sampled_from(
    [
        b"Content-Length: 0",
        b"Content-Length: 2",
        b"Content-Length: 5",
        b"Content-Length: 2, 2",
        b"Content-Length: +2",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer_Encoding: chunked",
        b"Connection: close",
        b"Connection: keep-alive, content-length, host",
        b"Connection: upgrade",
        b"Upgrade: websocket",
        b"Host: other",
        b"Expect: 100-continue",
        b"X-Forwarded-For: me",
        b"Location: http://x\tx",
        b" folded",
        b"X: \xff",
        b"X:\rY: z",
    ]
)
bodies = st.sampled_from(
    [
        b"",
        b"ok",
        b"hello",
        b"2\r\nok\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"fffff\r\n",
        OK,
    ]
)
statuses = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 101 Go", b"HTTP/1.1 100 Go", b"HTTP/1.1 204 N",
     b"HTTP/1.1 304 N", b"HTTP/1.1 999 \xff", b"HTTP/2 200", b"HTTP/1.1 407 P", b"hello"]
)  # fmt: skip
asks = st.sampled_from(
    [b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"GET / HTTP/1.0", b"POST /\x00 HTTP/1.1", b"HEAD / HTTP/1.1",
     b"GET http://x/ HTTP/1.1", b"CONNECT x:1 HTTP/1.1", b"GET / HTTP/3.0", b"OPTIONS * HTTP/1.1"]
)  # fmt: skip


def messages(first: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Make one or two messages of pieces that are each well known."""
    message = st.tuples(first, st.lists(lines, max_size=4), bodies).map(
        lambda parts: b"\r\n".join([parts[0], *parts[1], b"", b""]) + parts[2]
    )
    return st.lists(message, min_size=1, max_size=2).map(b"".join)


async def talk(asked: bytes, answer: bytes, *, ends: bool) -> tuple[bytes, list[bytes]]:
    """Pass ``asked`` on, and ``answer`` back; give what came back and what went on, by connection."""
    client, near = trio.testing.memory_stream_pair()
    went: list[bytes] = []

    async def open_far() -> trio.abc.HalfCloseableStream:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(answer)
        if ends:
            await theirs.send_eof()
        went.append(b"")
        nursery.start_soon(keep, theirs, len(went) - 1)
        return ours

    async def keep(site: trio.abc.ReceiveStream, number: int) -> None:
        try:
            while data := await site.receive_some():
                went[number] += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    def route(request: h11.Request) -> Action:
        target = request.target if request.target.startswith((b"/", b"*")) else b"/"
        return Onward("x", open_far, "x", "dmsg", target, b"ours")

    async with trio.open_nursery() as nursery:
        await client.send_all(asked)
        await client.send_eof()
        pool = Pool()
        await converse(Near(near), route, pool=pool, book=Book(), draining=Draining())
        await near.aclose()
        came = b""
        try:
            while data := await client.receive_some():
                came += data
        except trio.BrokenResourceError:
            pass
        nursery.cancel_scope.cancel()
    return came, went


def read_all(role: h11.Connection, data: bytes) -> Sequence[h11.Event]:
    """Read the messages of one side, which may break off at the end."""
    found = []
    if data:  # nothing would be the end
        role.receive_data(data)
    while (event := role.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
        assert isinstance(event, h11.Event)
        found.append(event)
        if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            break
    return found


@given(method=st.sampled_from(sorted(ASKED)), answer=messages(statuses), ends=st.booleans())
@example(
    method="GET",
    answer=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    ends=True,
)
async def test_whatever_a_site_answers_who_asked_gets_one_at_most(
    method: str, answer: bytes, ends: bool, autojump_clock: MockClock
) -> None:
    came, _ = await talk(ASKED[method], answer, ends=ends)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    events = read_all(client, came)
    finals = [each for each in events if isinstance(each, h11.Response)]
    assert len(finals) <= 1  # none: the connection was reset within what was no HTTP
    assert client.trailing_data[0] == b""  # nothing that could be taken for another answer


@given(asked=messages(asks))
@example(
    asked=b"HEAD / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\n"
)
async def test_whatever_a_client_asks_the_other_side_gets_requests_that_we_wrote(
    asked: bytes, autojump_clock: MockClock
) -> None:
    _, went = await talk(asked, OK, ends=False)
    for data in went:
        server = h11.Connection(h11.SERVER)
        events = read_all(server, data)
        for request in events:
            if isinstance(request, h11.Request):
                names = [name for name, _ in request.headers]
                assert names.count(b"host") == 1
                assert (b"host", b"ours") in request.headers
                assert not {b"content-length", b"transfer-encoding"} <= set(names)
