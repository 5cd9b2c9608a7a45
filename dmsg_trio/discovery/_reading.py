"""Asking over HTTP: whom to trust, and reading the body of an answer that a stranger gives."""

from __future__ import annotations

import ssl

import httpx
import trio

from dmsg_trio._errors import RemoteProtocolError


def trusted_by(*urls: str) -> ssl.SSLContext | bool:
    """Say to httpx whose certificates count for these URLs: nobody's where none is ``https://``.

    To read those of all authorities takes as long as some tens of requests.
    """
    return any(each.startswith("https:") for each in urls) or ssl.SSLContext(
        ssl.PROTOCOL_TLS_CLIENT
    )


async def read_untrusted(response: httpx.Response, limit: int) -> bytes:
    """Read the body of a streamed answer; `RemoteProtocolError` if it has over ``limit`` bytes."""
    # Raw, since a small packed answer may be a large one.
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise RemoteProtocolError("the answer is encoded, though nobody asked for that")
    answer = bytearray()
    with trio.CancelScope() as enough:
        async for chunk in response.aiter_raw():
            answer += chunk
            if len(answer) > limit:
                # To leave the loop instead would leave httpx's generators half run.
                enough.cancel()
    if len(answer) > limit:
        raise RemoteProtocolError(f"the answer has more than {limit} bytes")
    return bytes(answer)
