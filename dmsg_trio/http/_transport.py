"""httpx over dmsg: which URLs lead where, connections that are used again, and errors as httpx's.

A connection is used again if the server leaves it open. One that the server has closed meanwhile is
seen before it is used. If the end crosses with a request, the request is sent once more where that
does no harm (RFC 9110, 9.2.2): it is idempotent and nothing of an answer had come, or the connection
was gone before all of its head was sent.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self, cast

import httpcore
import httpx

from dmsg_trio.client import Client

from ._backend import DmsgBackend, DmsgConnectError, DmsgConnectTimeout
from ._connection import REPEATABLE
from ._exchange import Parts
from ._pool import ConnectionPool
from ._urls import NO_HOSTS, Hosts, address_of

VIEWS: Final = "dmsg.views"
MAX_CONNECTIONS: Final = 100  # at once; more requests wait
KEEPALIVE_EXPIRY: Final = 15.0  # seconds that an idle connection is kept; servers often keep 30

# Or a relative redirect from dmsg:// would lead nowhere: httpx leaves that to urllib.
for _known in (urllib.parse.uses_relative, urllib.parse.uses_netloc):
    if "dmsg" not in _known:
        _known.append("dmsg")

_SCHEMES: Final = {"dmsg", "http", "ws"}
_IDEMPOTENT: Final = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}
_IDEMPOTENCY_KEYS: Final = {"idempotency-key", "x-idempotency-key"}  # as clients of Go have it

# The most exact first, as these are classes of each other.
_ERRORS: Final[tuple[tuple[type[Exception], type[httpx.RequestError]], ...]] = (
    (httpcore.ConnectTimeout, httpx.ConnectTimeout),
    (httpcore.ReadTimeout, httpx.ReadTimeout),
    (httpcore.WriteTimeout, httpx.WriteTimeout),
    (httpcore.ConnectError, httpx.ConnectError),
    (httpcore.ReadError, httpx.ReadError),
    (httpcore.WriteError, httpx.WriteError),
    (httpcore.UnsupportedProtocol, httpx.UnsupportedProtocol),
    (httpcore.LocalProtocolError, httpx.LocalProtocolError),
    (httpcore.RemoteProtocolError, httpx.RemoteProtocolError),
)


class DmsgTransport(httpx.AsyncBaseTransport):
    """Requests of `httpx.AsyncClient` over streams of ``client``.

    URLs are ``dmsg://PK[:port]/path``, ``http://PK[:port]/path`` and ``http://PK.dmsg[:port]/path``;
    ``hosts`` has other names for addresses (``02…:8080``), as in ``dmsg://home/``. The port is 80 if there is none.
    At most ``max_connections`` streams are open at once, 100 by default (None: no limit), and an idle
    one is kept for ``keepalive_expiry`` seconds, 15 by default (None: until the server ends it; 0: not
    at all); `ValueError` if these make no sense.

    A request with ``extensions={"dmsg.views": True}`` gets the raw pieces of a long answer without a
    copy: each may be a `memoryview` that is good until the next one is asked for.
    """

    def __init__(
        self,
        client: Client,
        *,
        max_connections: int | None = MAX_CONNECTIONS,
        keepalive_expiry: float | None = KEEPALIVE_EXPIRY,
        hosts: Hosts | None = None,
    ) -> None:
        if max_connections is not None and max_connections < 1:
            raise ValueError(f"max_connections is 1 or more, or None, not {max_connections}")
        if keepalive_expiry is not None and keepalive_expiry < 0:
            raise ValueError(
                f"keepalive_expiry is 0 seconds or more, or None, not {keepalive_expiry}"
            )
        self._hosts = hosts or NO_HOSTS
        self._pool = ConnectionPool(
            DmsgBackend(client),
            max_connections=max_connections,
            keepalive_expiry=keepalive_expiry,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the answer's body is read as it comes.

        Raises what httpx's own transport raises, a subclass of `httpx.TransportError`, which says
        where and why. Of a `httpx.ConnectError` the cause is the `DmsgError`.
        """
        extensions = dict(request.extensions) | {REPEATABLE: _is_repeatable(request)}
        url = self._url_of(request)
        with _errors_of_httpx(request):
            response = await self._pool.handle_async_request(
                httpcore.Request(
                    method=request.method,
                    url=url,
                    headers=request.headers.raw,
                    content=cast(httpx.AsyncByteStream, request.stream),
                    extensions=extensions,
                )
            )
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(request, response),
            extensions=cast(dict[str, object], response.extensions),
        )

    def _url_of(self, request: httpx.Request) -> httpcore.URL:
        url = request.url
        if url.scheme not in _SCHEMES:
            what = f"{url.scheme}:// does not" if url.scheme else "a URL without a scheme does not"
            raise httpx.UnsupportedProtocol(
                f"{what} lead over dmsg; use dmsg://PK/ or http://PK.dmsg/", request=request
            )
        try:
            address = address_of(url.host, url.port, self._hosts)
        except ValueError as error:
            raise httpx.ConnectError(f"cannot connect: {error}", request=request) from error
        return httpcore.URL(
            scheme=b"http", host=str(address.pk).encode(), port=address.port, target=url.raw_path
        )

    async def aclose(self) -> None:
        """End all connections, those with answers under way too."""
        await self._pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()


class _Body(httpx.AsyncByteStream):
    """The body of an answer, as it comes."""

    def __init__(self, request: httpx.Request, response: httpcore.Response) -> None:
        self._request = request
        self._response = response
        self._gives_views = bool(request.extensions.get(VIEWS))
        # Of the generators that httpcore has for this, the one that does not hide another one.
        self._parts = Parts(cast("AsyncIterable[bytes]", response.stream).__aiter__())

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with _errors_of_httpx(self._request):
            piece = await self._parts.__anext__()
        return piece if self._gives_views else bytes(piece)

    async def aclose(self) -> None:
        with _errors_of_httpx(self._request):
            await self._parts.aclose()
            await self._response.aclose()


@contextmanager
def _errors_of_httpx(request: httpx.Request) -> Iterator[None]:
    """Raise what httpx's users expect, and say on whose account."""
    try:
        yield
    except (DmsgConnectError, DmsgConnectTimeout) as error:
        raise _like(error)(str(error), request=request) from error.fault or error
    except httpcore.PoolTimeout as error:
        limit = request.extensions["timeout"]["pool"]
        raise httpx.PoolTimeout(
            f"no connection was free for {limit:g} s: all that max_connections allows are in use",
            request=request,
        ) from error
    except tuple(known for known, _ in _ERRORS) as error:
        raise _like(error)(str(error), request=request) from error


def _like(error: Exception) -> type[httpx.RequestError]:
    return next(ours for known, ours in _ERRORS if isinstance(error, known))


def _is_repeatable(request: httpx.Request) -> bool:
    says_so = any(name in request.headers for name in _IDEMPOTENCY_KEYS)
    is_idempotent = request.method in _IDEMPOTENT or says_so
    return is_idempotent and isinstance(request.stream, httpx.ByteStream)
