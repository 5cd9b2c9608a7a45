"""A connection with requests on it: each is looked at, and then passed on, tunneled or answered."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import h11
import trio

from dmsg_trio._net.carrying import carry_both_ways, reset_when_closed

from ._book import Book
from ._draining import Draining
from ._errors import WebError
from ._exchange import Onward, pass_on
from ._far import Pool
from ._near import Answer, ClientGoneError, Near
from ._pages import error_answer
from ._ways import Way, Ways


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A request for a connection of bytes."""

    way: Way
    ways: Ways


Action: TypeAlias = Onward | Tunnel | Answer
MAX_NAME: Final = 200  # characters of a target that is noted

logger = logging.getLogger("dmsg_trio.web")

_USER: Final = re.compile(r"^([^/@]*//)?[^/]*@")

Route = Callable[[h11.Request], Action]


@contextmanager
def reset_if_broken_off(stream: trio.SocketStream) -> Iterator[None]:
    """Reset a connection whose block fails, or what it has so far might look whole; a break ends here."""
    try:
        yield
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        reset_when_closed(stream)
        logger.debug("a connection broke: %s", error)
    except BaseException:
        reset_when_closed(stream)
        raise


async def converse(near: Near, route: Route, *, pool: Pool, book: Book, draining: Draining) -> None:
    """Do for each request what ``route`` says, until one side ends; the stream is not closed here."""
    try:
        while await _next(near, route, pool, book, draining):
            pass
        await near.close(linger=near.awaits_body or not draining.has_begun)
    except (ClientGoneError, trio.BrokenResourceError, trio.ClosedResourceError):
        near.reset()
    except BaseException:
        near.reset()  # or an answer whose end nobody announced would look whole
        raise


async def _next(near: Near, route: Route, pool: Pool, book: Book, draining: Draining) -> bool:
    request: h11.Request | None = None
    name = "a request"
    try:
        with draining.idle():
            request = await near.next_request()
        if request is None:
            return False
        name = _shown(request.target)
        match route(request):
            case Onward() as onward:
                name = onward.name
                method = request.method.decode()
                with book.line(method, name, onward.way) as near.carried:
                    await pass_on(near, request, onward, pool)
            case Tunnel(way=to, ways=ways):
                name = str(to)
                with book.line("CONNECT", name, to.kind) as near.carried:
                    await _tunnel(near, to, ways)
                return False
            case Answer() as answer:
                await near.answer(answer, to=request)
    except WebError as error:
        is_tunnel = request is not None and request.method == b"CONNECT"
        book.note(name, str(error), untold=is_tunnel or near.is_answered)
        if near.is_answered:
            raise ClientGoneError(str(error)) from error
        await near.answer(error_answer(error, request), to=request)
    return near.finish()


def _shown(target: bytes) -> str:
    """Say what a request is for without what may be a secret in it: a password, or a token."""
    text = target.decode("latin-1").partition("?")[0]
    return _USER.sub(r"\1", text)[:MAX_NAME]


async def _tunnel(near: Near, way: Way, ways: Ways) -> None:
    async with await ways.open(way) as far:
        near.queue(h11.Response(status_code=200, headers=[], reason=b"Connection established"))
        await near.flush()
        if rest := near.take_rest():
            await far.send_all(rest)
            near.carried.to_far += len(rest)
        await carry_both_ways(near.stream, far, carried=near.carried)
