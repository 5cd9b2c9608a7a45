"""The messages about forwarded connections on a stream, one after the other."""

from __future__ import annotations

import trio

from dmsg_trio._errors import DmsgError
from dmsg_trio._wire import forward as wire


class ForwardError(DmsgError):
    """A forward cannot be made; the message says why."""


async def say(stream: trio.abc.SendStream, message: wire.Request | wire.Answer) -> None:
    await stream.send_all(wire.encode(message))


async def receive_untrusted(stream: trio.abc.ReceiveStream) -> bytes:
    """Receive the body of one message, and no byte of what follows."""
    length = wire.body_length_untrusted(await _receive_exactly(stream, 2))
    return await _receive_exactly(stream, length)


async def _receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (piece := await stream.receive_some(size - len(data))):
            raise trio.BrokenResourceError("it ended the stream")
        data += piece
    return data
