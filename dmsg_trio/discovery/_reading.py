"""Reading the body of an HTTP answer that a stranger gives."""

from __future__ import annotations

import httpx
import trio

from dmsg_trio._errors import RemoteProtocolError


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
