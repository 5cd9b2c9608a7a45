"""One request and its answer, passed on both ways at once and piece by piece.

A request may be answered before all of it is there, as with ``Expect: 100-continue`` or when it is
refused; so the two directions are two tasks. Headers that are for one connection stay on it. How
long a body is, is said anew on each side; nothing of a client's own framing gets to the other one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from typing import Final

import h11
import trio
from h11._headers import Headers as HeadersOfH11

from dmsg_trio._net.carrying import carry_both_ways
from dmsg_trio._net.nurseries import open_service_nursery

from ._errors import WebError
from ._far import Far, FarError, Pool
from ._near import ClientGoneError, Headers, Near, has_body

MAX_REPLAYS: Final = 3  # of one request, each on a connection that turned out to have ended

_OF_ONE_CONNECTION: Final = {
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization",
    b"proxy-authenticate", b"te", b"trailer", b"transfer-encoding", b"upgrade",
}  # fmt: skip
_NEVER_NAMED: Final = {b"host", b"content-length"}  # by a Connection header, to get rid of them
_IDEMPOTENT: Final = {b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"}

Open = Callable[[], Awaitable[trio.abc.HalfCloseableStream]]


@dataclass(frozen=True, slots=True)
class Onward:
    """Where a request goes on to, and what is said there instead of what the client said."""

    key: Hashable  # connections with the same one may take each other's place
    open: Open
    name: str  # for people
    way: str  # for people, too: dmsg, direct, proxy
    target: bytes
    host: bytes
    add: Headers = field(default_factory=list)
    drop: Callable[[bytes], bool] = lambda _: False  # whether a header, in lower case, is left away
    relocate: Callable[[bytes], bytes] = lambda location: location  # of redirects
    check: Callable[[h11.Response], None] = lambda _: None  # raises `WebError` instead of an answer


class _End(Enum):
    ANSWERED = auto()
    SWITCHED = auto()


async def pass_on(near: Near, request: h11.Request, onward: Onward, pool: Pool) -> None:
    """Have a request answered; `WebError` if nothing of an answer came, else the client is reset.

    `ClientGoneError` if nobody waits for it any more.
    """
    head = _head_for(request, onward)
    for attempt in range(MAX_REPLAYS + 1):
        far = pool.take(onward.key) if attempt < MAX_REPLAYS else None
        if far is None:
            far = Far(await onward.open())
        try:
            await _exchange(near, request, head, onward, far)
        except FarError as error:
            far.reset()
            await trio.aclose_forcefully(far.stream)
            if near.is_answered:
                near.reset()
                raise ClientGoneError(f"{onward.name}: {error}") from error
            if far.reused and not far.heard and _may_be_sent_again(request):
                continue
            raise WebError(
                HTTPStatus.BAD_GATEWAY, "The server broke off", f"{onward.name}: {error}"
            ) from error
        except BaseException:
            far.reset()
            await trio.aclose_forcefully(far.stream)
            raise
        if far.may_be_used_again:
            await pool.put(onward.key, far)
        else:
            await far.stream.aclose()
        return


async def _exchange(
    near: Near, request: h11.Request, head: h11.Request, onward: Onward, far: Far
) -> None:
    end: _End | None = None
    reason = "the client ended the connection"

    async def carry_request() -> None:
        nonlocal reason
        try:
            while isinstance(event := await near.next_event(), h11.Data):
                await far.send(h11.Data(data=event.data))
            await far.send(h11.EndOfMessage())
        except FarError:
            return  # there may be an answer that says why
        except ClientGoneError as error:
            reason = str(error)
        else:
            with suppress(ClientGoneError):
                await near.wait_gone()
        nursery.cancel_scope.cancel()

    with suppress(FarError):  # then as well
        await far.send(head)
    async with open_service_nursery() as nursery:
        nursery.start_soon(carry_request)
        end = await _carry_answer(near, request, far, onward)
    if end is _End.SWITCHED:
        await _carry_on(near, far)
    elif end is None:
        raise ClientGoneError(reason)


async def _carry_answer(near: Near, request: h11.Request, far: Far, onward: Onward) -> _End:
    while True:
        event = far.next_event_nowait()
        match event:
            case None:
                await near.flush()
                await far.receive()
            case h11.InformationalResponse(status_code=HTTPStatus.SWITCHING_PROTOCOLS):
                near.queue(_head_back(event, onward))
                await near.flush()
                return _End.SWITCHED
            case h11.InformationalResponse():
                if request.http_version != b"1.0":
                    near.queue(_head_back(event, onward))
            case h11.Response():
                onward.check(event)
                _queue_untrusted(near, _head_back(event, onward))
            case h11.Data(data=data):
                _queue_untrusted(near, h11.Data(data=data))
            case h11.EndOfMessage():
                _queue_untrusted(near, h11.EndOfMessage())
                await near.flush()
                return _End.ANSWERED


def _queue_untrusted(near: Near, event: h11.Event) -> None:
    """Pass a piece of an answer back; `FarError` if it goes against what was said before."""
    try:
        near.queue(event)
    except h11.LocalProtocolError as error:
        raise FarError(f"its answer contradicts itself: {error}") from error


async def _carry_on(near: Near, far: Far) -> None:
    """Carry bytes of whatever protocol it is now."""
    try:
        if rest := near.take_rest():
            await far.stream.send_all(rest)
        if rest := far.take_rest():
            await near.stream.send_all(rest)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        near.reset()
        raise ClientGoneError(str(error)) from error
    await carry_both_ways(near.stream, far.stream, carried=near.carried)


def _may_be_sent_again(request: h11.Request) -> bool:
    return request.method in _IDEMPOTENT and not has_body(request)


# ---- heads ----


def _head_for(request: h11.Request, onward: Onward) -> h11.Request:
    """Write the head of a request for who answers it."""
    headers: Headers = [(b"Host", onward.host)]
    headers += [
        (raw, value)
        for name, raw, value in _of_all_connections(request.headers)
        if name != b"host" and not onward.drop(name)
    ]
    headers += onward.add
    if any(name == b"transfer-encoding" for name, _ in request.headers):
        headers.append((b"Transfer-Encoding", b"chunked"))
    if _asks_for_websocket(request):
        headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    return h11.Request(method=request.method, target=onward.target, headers=headers)


def _head_back(
    answer: h11.Response | h11.InformationalResponse, onward: Onward
) -> h11.Response | h11.InformationalResponse:
    """Write the head of an answer for who asked."""
    is_chunked = any(name == b"transfer-encoding" for name, _ in answer.headers)
    headers: Headers = [
        (raw, onward.relocate(value) if name == b"location" else value)
        for name, raw, value in _of_all_connections(answer.headers)
        if not (is_chunked and name == b"content-length")  # the chunks count, whatever that says
    ]
    if answer.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
        headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    return type(answer)(status_code=answer.status_code, headers=headers, reason=answer.reason)


def _of_all_connections(headers: HeadersOfH11) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Give the headers that go on, each with its name in lower case and as it was written."""
    named = {
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    }
    dropped = (named - _NEVER_NAMED) | _OF_ONE_CONNECTION
    for (name, value), (raw, _) in zip(headers, headers.raw_items(), strict=True):
        if name not in dropped:
            yield name, raw, value


def _asks_for_websocket(request: h11.Request) -> bool:
    """Tell whether it does: of all other protocols there are, none is wanted behind a proxy."""
    wanted = [value.strip().lower() for name, value in request.headers if name == b"upgrade"]
    return request.method == b"GET" and wanted == [b"websocket"] and not has_body(request)
