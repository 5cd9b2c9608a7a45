"""Whatever comes to the web terminal: an answer or a refusal, and the server goes on."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Ping, TextMessage

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio.apps.pty.ui import _websocket
from dmsg_trio.apps.pty.ui._access import Access
from dmsg_trio.apps.pty.ui._http import HttpConnection, upgrade_fault
from dmsg_trio.apps.pty.ui._messages import Open, Received, Resize, decode_untrusted
from dmsg_trio.apps.pty.ui._websocket import WebSocket, WebSocketClosedError
from tests.apps.pty.ui_parts import ScriptedHost, get, running_ui, upgrade

NAMES = st.text() | st.from_regex(r"\A(https?://)?[\[\]:@/.a-z0-9]{0,20}\Z")


@given(host=NAMES, origin=st.none() | NAMES)
def test_names_are_right_or_wrong(host: str, origin: str | None) -> None:
    """No name makes it stumble, and a page is never from another place than it says."""
    if not Access().fault_untrusted(host, origin) and origin is not None:
        assert origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())


@given(st.text() | st.recursive(st.none(), lambda inner: st.lists(inner) | st.text()).map(repr))
def test_text_is_a_message_or_an_error(text: str) -> None:
    with suppress(RemoteProtocolError):
        assert isinstance(decode_untrusted(text), Open | Resize | Received)


HEADS = st.lists(
    st.sampled_from(
        [
            b"GET / HTTP/1.1\r\n",
            b"GET / HTTP/1.0\r\n",
            b"POST * HTTP/1.1\r\n",
            b"Host: x\r\n",
            b"Upgrade: websocket\r\n",
            b"Upgrade: h2c\r\n",
            b"Connection: Upgrade\r\n",
            b"Sec-WebSocket-Version: 13\r\n",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Content-Length: 5\r\n",
            b"Expect: 100-continue\r\n",
            b"X: \xff\r\n",
            b"\r\n",
            b"\r\n\r\n",
            b"12345",
        ]
    )
    | st.binary(max_size=20),
    max_size=12,
).map(b"".join)


UPGRADE = "\r\n".join(["", "Host: x", *upgrade(), "Expect: 100-continue", "", "12345"]).encode()


@given(head=HEADS)
@example(head=b"GET / HTTP/1.1" + UPGRADE)
@example(head=b"GET / HTTP/1.0" + UPGRADE)
async def test_bytes_are_a_request_or_an_error(head: bytes) -> None:
    """A request that no fault is found with can be upgraded; all others are answered."""
    near, far = trio.testing.memory_stream_pair()
    await near.send_all(head)
    await near.send_eof()
    http = HttpConnection(far)
    try:
        request = await http.receive_request_untrusted()
    except RemoteProtocolError:
        return
    if request is not None and request.wants_websocket and upgrade_fault(request) is None:
        await http.upgrade(request, None)


def frames() -> st.SearchStrategy[bytes]:
    """What a client may send, right and wrong."""
    client = Connection(ConnectionType.CLIENT)
    right = st.sampled_from(
        [
            client.send(TextMessage(data="text")),
            client.send(BytesMessage(data=b"bytes" * 100)),
            client.send(Ping(payload=b"ping")),
            client.send(TextMessage(data="te", message_finished=False)),
            b"\x88\x80\0\0\0\0",
            b"\x88\x82\0\0\0\0\x03\xe8",
        ]
    )
    return st.lists(right | st.binary(max_size=16), max_size=8).map(b"".join)


@given(data=frames(), cut=st.integers(1, 40))
async def test_frames_are_messages_until_the_websocket_is_closed(data: bytes, cut: int) -> None:
    near, far = trio.testing.memory_stream_pair()
    for start in range(0, len(data), cut):
        await near.send_all(data[start : start + cut])
    await near.send_eof()
    socket = WebSocket(far)
    with pytest.raises(WebSocketClosedError):
        while True:
            message = await socket.receive()
            assert len(message) <= _websocket.MAX_MESSAGE
    await socket.close()


@pytest.mark.network
@pytest.mark.parametrize(
    "origin", ["http://[::1", "http://[x]", "http://\xff", "//", "http://a@b:c"]
)
async def test_a_strange_origin_does_not_end_the_server(origin: str) -> None:
    async with running_ui(ScriptedHost().open_shell) as ui:
        assert (await get(ui.port, "/", f"Origin: {origin}")).status == 403
        assert (await get(ui.port, "/", *upgrade(), host="[::1")).status == 403
        assert (await get(ui.port)).status == 200
