"""What is said before bytes are forwarded: ``forward/1``, a protocol between our own shells' ends.

A message is its length in two bytes, the higher first, and a JSON object whose ``say`` tells what it
means. The first one of a stream is the client's:

* ``connect``: the host connects there and answers ``opened`` or ``failed``; behind ``opened`` the
  stream carries the bytes of that connection.
* ``listen``: the host listens there and answers ``opened`` with the port; then it says ``arrived``
  for each connection that comes, until the stream ends, and the listening with it.
* ``take``: the client wants a connection that arrived, on this stream, and is answered as above.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from dmsg_trio._errors import RemoteProtocolError

FORWARD_URI: Final = "dmsgpty/forward/1"
MAX_MESSAGE: Final = 4096  # bytes of a JSON object

Host = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Connect(msgspec.Struct, frozen=True, tag_field="say", tag="connect"):
    """Client to host: connect there, names as the host knows them."""

    host: Host
    port: Port


class Listen(msgspec.Struct, frozen=True, tag_field="say", tag="listen"):
    """Client to host: listen there; port 0 is any that is free."""

    host: Host
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Take(msgspec.Struct, frozen=True, tag_field="say", tag="take"):
    """Client to host: give me the connection that arrived with this id."""

    connection: Annotated[str, msgspec.Meta(max_length=64)]


class Opened(msgspec.Struct, frozen=True, tag_field="say", tag="opened"):
    """Host to client: done; ``port`` is where it listens, 0 for a connection."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0


class Failed(msgspec.Struct, frozen=True, tag_field="say", tag="failed"):
    """Host to client: that cannot be, and why."""

    reason: Annotated[str, msgspec.Meta(max_length=1000)]


class Arrived(msgspec.Struct, frozen=True, tag_field="say", tag="arrived"):
    """Host to client: somebody connected; the id is good for one `Take`, and not for long."""

    connection: Annotated[str, msgspec.Meta(max_length=64)]
    peer: Annotated[str, msgspec.Meta(max_length=300)] = ""


Request: TypeAlias = Connect | Listen | Take
Answer: TypeAlias = Opened | Failed | Arrived

_requests: Final = msgspec.json.Decoder(Request)
_answers: Final = msgspec.json.Decoder(Answer)


def encode(message: Request | Answer) -> bytes:
    """Write a message with its length in front."""
    body = msgspec.json.encode(message)
    if len(body) > MAX_MESSAGE:
        raise ValueError(f"a message has at most {MAX_MESSAGE} bytes, not {len(body)}")
    return len(body).to_bytes(2) + body


def body_length_untrusted(head: bytes) -> int:
    """Read the length in the first two bytes of a message."""
    length = int.from_bytes(head)
    if not 0 < length <= MAX_MESSAGE:
        raise RemoteProtocolError(f"a message of {length} bytes: from 1 to {MAX_MESSAGE} may come")
    return length


def decode_request_untrusted(body: bytes) -> Request:
    """Read what a client says; raise `RemoteProtocolError` if it makes no sense."""
    try:
        request: Request = _requests.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not a request to forward: {error}") from error
    return request


def decode_answer_untrusted(body: bytes) -> Answer:
    """Read what a host says; raise `RemoteProtocolError` if it makes no sense."""
    try:
        answer: Answer = _answers.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not an answer to a forward: {error}") from error
    return answer
