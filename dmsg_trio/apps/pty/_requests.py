"""How every connection of the remote shell begins: a request line, and yes or no for an answer.

Behind a no our hosts say why: the length of a text in one byte, and the text. Those of the reference
just end, and their clients do not read on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_plus

import trio

from dmsg_trio._address import LAST_PORT, Address
from dmsg_trio._errors import DmsgError, RemoteProtocolError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.pty import ACCEPTED, ACCEPTED_MARKED, END_MARKED, MAX_REQUEST, REJECTED

from ._marked import MarkedStream

REQUEST_WITHIN: Final = 10  # seconds that a client has for its request line
REASON_WITHIN: Final = 2  # seconds that a host has to say why it refuses
READ_WITHIN: Final = 1  # seconds that a client has to read that it is refused
MAX_REASON: Final = 255  # bytes: the length is one byte
MAX_IGNORED: Final = 64 * 1024  # bytes that a refused client may still send

_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
_BAD_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")


class PtyRefusedError(DmsgError):
    """The host said no; ``reason`` is its reason, empty if it gave none."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason or "the host refused, without saying why")


class PtyUnansweredError(DmsgError):
    """The host ended the connection without yes or no."""


class PtyRequestError(RemoteProtocolError):
    """A client's request line cannot be read, or says nothing that makes sense."""


# ---- the client's end ----


async def request(stream: trio.abc.Stream, uri: str) -> bool:
    """Ask the host for a service, and return once it agreed: true if it marks the end of what it says.

    It does so if it can and the query of ``uri`` asks for it. Raises `PtyRefusedError`, or `PtyUnansweredError` as hosts of the reference have it when they
    cannot reach another host. They refuse before they have read the request.
    """
    line = uri.encode()
    yes = (ACCEPTED, ACCEPTED_MARKED) if uri.endswith(END_MARKED) else (ACCEPTED,)
    if len(line) > MAX_REQUEST:
        raise ValueError(f"a request has at most {MAX_REQUEST} bytes, not {len(line)}")
    sent = trio.Event()
    async with open_service_nursery() as nursery:
        nursery.start_soon(_send_line, stream, bytes([len(line)]) + line, sent)
        reply = await _receive_some(stream, 1)
        if reply in yes:
            await sent.wait()
    if not reply:
        raise PtyUnansweredError("the host ended the connection without an answer")
    if reply not in yes:
        raise PtyRefusedError(await _receive_reason_untrusted(stream))
    return reply == ACCEPTED_MARKED


async def _send_line(stream: trio.abc.SendStream, line: bytes, sent: trio.Event) -> None:
    # When it breaks, the answer says more, or that there is none.
    with suppress(trio.BrokenResourceError):
        await stream.send_all(line)
    sent.set()


async def _receive_some(stream: trio.abc.ReceiveStream, max_bytes: int) -> bytes:
    """Receive something, or nothing where the stream ended in whatever way."""
    try:
        return bytes(await stream.receive_some(max_bytes))
    except trio.BrokenResourceError:
        return b""


async def _receive_reason_untrusted(stream: trio.abc.ReceiveStream) -> str:
    reason = b""
    with trio.move_on_after(REASON_WITHIN):
        if length := await _receive_some(stream, 1):
            while (missing := length[0] - len(reason)) > 0:
                if not (piece := await _receive_some(stream, missing)):
                    break
                reason += piece
    # It is shown on a terminal, which obeys some characters.
    return "".join(c if c.isprintable() else "\ufffd" for c in reason.decode(errors="replace"))


# ---- the host's end ----


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for: the path of a service, and what goes with it."""

    path: str
    query: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse_untrusted(cls, line: bytes) -> Request:
        """Read a request as Go's parser of URLs would; raise `PtyRequestError` if it would."""
        text = line.decode(errors="surrogateescape")
        text, _, fragment = text.partition("#")
        if _CONTROL.search(text + fragment) or _BAD_ESCAPE.search(fragment):
            raise PtyRequestError(f"not a request: {line!r}")
        path, _, query = text.partition("?")
        return cls(path.removeprefix("/"), _parse_query(query))

    @property
    def wants_marks(self) -> bool:
        """Whether the client wants to be told an end from a break."""
        name, _, value = END_MARKED.partition("=")
        return self.query.get(name) == value

    def address(self) -> Address:
        """Read the ``pk`` and ``port`` of another host; `PtyRequestError` says what is wrong."""
        pk, port = self.query.get("pk", ""), self.query.get("port", "")
        if not re.fullmatch("[0-9]{1,20}", port) or not 0 < int(port) <= LAST_PORT:
            raise PtyRequestError(f"a port is a number from 1 to {LAST_PORT}, not {port!r}")
        try:
            return Address(PublicKey.parse(pk), int(port))
        except ValueError as error:
            raise PtyRequestError(str(error)) from error


def _parse_query(text: str) -> dict[str, str]:
    """Read ``name=value&...``; the first of a name counts, and what is malformed is left out."""
    query: dict[str, str] = {}
    for part in text.split("&"):
        if part and ";" not in part and not _BAD_ESCAPE.search(part):
            name, _, value = part.partition("=")
            query.setdefault(unquote_plus(name), unquote_plus(value))
    return query


async def receive_request_untrusted(stream: trio.abc.ReceiveStream) -> Request:
    """Read the request line of a client, which has to come soon.

    Raises `PtyRequestError`; it may be refused with the text of that.
    """
    with trio.move_on_after(REQUEST_WITHIN):
        length = (await _receive_exactly(stream, 1))[0]
        return Request.parse_untrusted(await _receive_exactly(stream, length))
    raise PtyRequestError(f"no request within {REQUEST_WITHIN} s")


async def _receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (piece := await _receive_some(stream, size - len(data))):
            raise PtyRequestError(f"the connection ended {size - len(data)} bytes too early")
        data += piece
    return data


async def accept(stream: trio.abc.SendStream) -> None:
    """Tell the client yes."""
    await stream.send_all(ACCEPTED)


async def accept_as_asked(
    stream: trio.abc.HalfCloseableStream, asked: Request
) -> trio.abc.HalfCloseableStream:
    """Tell the client yes, and give the stream to go on with.

    Ends are marked on sockets alone: other streams can be reset.
    """
    if asked.wants_marks and isinstance(stream, trio.SocketStream):
        await stream.send_all(ACCEPTED_MARKED)
        return MarkedStream(stream)
    await accept(stream)
    return stream


async def refuse(stream: trio.abc.HalfCloseableStream, reason: str) -> None:
    """Tell the client no, and why; return when it has had the time to read that.

    To close the stream is up to its owner. What the client still sends is dropped: a connection
    that is closed with something unread is reset, and then the answer may be lost on the way.
    """
    text = reason.encode(errors="replace")[:MAX_REASON].decode(errors="ignore").encode()
    with trio.move_on_after(READ_WITHIN):
        try:
            await stream.send_all(REJECTED + bytes([len(text)]) + text)
            await stream.send_eof()
        except trio.BrokenResourceError:
            return  # it is gone
        ignored = 0
        while ignored < MAX_IGNORED and (data := await _receive_some(stream, MAX_IGNORED)):
            ignored += len(data)
