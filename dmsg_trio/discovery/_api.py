"""The discovery over HTTP: paths, statuses and bodies exactly as the reference has them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dmsg_trio._keys import PublicKey
from dmsg_trio._wire.entries import MAX_ENTRY_SIZE, Entry

from . import _rules
from ._limits import RateLimiter, source_of
from ._rules import Refusal
from ._service import DiscoveryService
from ._store import StoreError

logger = logging.getLogger(__name__)

MAX_BODY: Final = MAX_ENTRY_SIZE  # bytes, of any request
MAX_BATCH: Final = 512  # keys in one request for many entries
BODY_TIMEOUT: Final = 10  # seconds until a body has come in
STATUS_AGE: Final = 1  # seconds for which a status is told again, so that it costs once

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How often one source address may ask for anything, and one key publish."""

    by_source: RateLimiter
    by_key: RateLimiter


@dataclass(slots=True)
class Health:
    """What ``/health`` tells; the last two once the discovery is on dmsg itself."""

    started_at: datetime
    dmsg_address: str = ""
    dmsg_servers: tuple[str, ...] = ()


@dataclass(slots=True)
class Neighbours:
    """Servers on the machine of the discovery: where they tell of themselves, for ``/status``."""

    health: tuple[str, ...] = ()


class TooMuchError(Refusal):
    """A request over the limit; ``seconds`` until the next one is answered."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(429, f"too many requests, try again in {seconds} s")


def make_app(
    service: DiscoveryService,
    *,
    limits: Limits | None = None,
    health: Health | None = None,
    neighbours: Neighbours | None = None,
) -> Starlette:
    """Make the ASGI application of a discovery; without ``limits``, all may ask at will."""
    health = health or Health(datetime.now(UTC))
    api = _Api(service, limits, health, neighbours or Neighbours())
    base = "/dmsg-discovery"
    table: dict[str, dict[str, Handler]] = {
        f"{base}/entry": {"DELETE": api.withdraw},
        f"{base}/entry/": {"POST": api.publish},
        # The key in the path of a POST is ignored: the entry has its own.
        f"{base}/entry/{{pk}}": {"GET": api.entry, "POST": api.publish},
        f"{base}/available_servers": {"GET": api.available_servers},
        f"{base}/all_servers": {"GET": api.all_servers},
        f"{base}/entries": {"GET": api.client_keys},
        f"{base}/visorEntries": {"GET": api.visor_keys},
        f"{base}/entries/batch": {"POST": api.batch},
        f"{base}/servers/clients": {"GET": api.clients_by_server},
        f"{base}/server/{{pk}}/clients": {"GET": api.clients_of_server},
        f"{base}/deregister": {"DELETE": api.deregister},
        f"{base}/status": {"GET": api.status},
        "/health": {"GET": api.health},
    }
    app = Starlette(
        routes=[Route(path, _Resource(methods, limits)) for path, methods in table.items()],
        exception_handlers={404: _not_found, Exception: _unexpected},
    )
    app.router.redirect_slashes = False
    return app


class _Api:
    """The endpoints: from a request to the service, and from its answer to a response."""

    def __init__(
        self,
        service: DiscoveryService,
        limits: Limits | None,
        health: Health,
        neighbours: Neighbours,
    ) -> None:
        self._service = service
        self._limits = limits
        self._health = health
        self._neighbours = neighbours
        self._status = b""
        self._status_until = 0.0

    async def publish(self, request: Request) -> Response:
        body = await _read_body(request)
        short = request.query_params.get("timeout") == "true"
        words = await self._service.publish(body, short=short, admit=self._admit)
        return _message(200, words)

    async def withdraw(self, request: Request) -> Response:
        return _message(200, await self._service.withdraw(await _read_body(request)))

    async def entry(self, request: Request) -> Response:
        pk = _rules.read_key(request.path_params["pk"])
        return _json((await self._service.entry(pk)).to_json())

    async def available_servers(self, request: Request) -> Response:
        return _servers(await self._service.available_servers())

    async def all_servers(self, request: Request) -> Response:
        return _servers(await self._service.all_servers())

    async def client_keys(self, request: Request) -> Response:
        return _json(_encode(map(str, await self._service.client_keys())))

    async def visor_keys(self, request: Request) -> Response:
        return _json(_encode(map(str, await self._service.visor_keys())))

    async def batch(self, request: Request) -> Response:
        try:
            texts = msgspec.json.decode(await _read_body(request), type=list[str])
        except (ValueError, RecursionError):
            raise Refusal(400, _rules.BAD_INPUT) from None
        if len(texts) > MAX_BATCH:
            raise Refusal(400, _rules.BAD_INPUT)
        entries = await self._service.entries(list(_keys_of(texts)))
        members = [b'"%s":%s' % (str(pk).encode(), e.to_json()) for pk, e in entries.items()]
        return _json(b"{%s}" % b",".join(members))

    async def clients_by_server(self, request: Request) -> Response:
        by_server = await self._service.clients_by_server()
        return _json(
            msgspec.json.encode({str(pk): list(map(str, pks)) for pk, pks in by_server.items()})
        )

    async def clients_of_server(self, request: Request) -> Response:
        pk = _rules.read_key(request.path_params["pk"])
        return _json(_encode(map(str, await self._service.clients_of_server(pk))))

    async def deregister(self, request: Request) -> Response:
        headers = request.headers
        self._service.check_monitor(headers.get("NM-PK", ""), headers.get("NM-Sign", ""))
        try:
            texts = msgspec.json.decode(await _read_body(request), type=list[str])
        except (ValueError, RecursionError):
            raise Refusal(400) from None
        await self._service.deregister(texts)
        logger.info("network monitor %s deregistered %d keys", headers["NM-PK"], len(texts))
        return _json(b"null")

    async def status(self, request: Request) -> Response:
        if not self._status or trio.current_time() >= self._status_until:
            status = await self._service.status(health=self._neighbours.health)
            self._status = msgspec.json.encode(status)
            self._status_until = trio.current_time() + STATUS_AGE
        return _json(self._status)

    async def health(self, request: Request) -> Response:
        answer: dict[str, object] = {
            "build_info": {"version": _version(), "commit": "unknown", "date": "unknown"},
            "started_at": self._health.started_at.isoformat().replace("+00:00", "Z"),
        }
        if self._health.dmsg_address:
            answer["dmsg_address"] = self._health.dmsg_address
        if self._health.dmsg_servers:
            answer["dmsg_servers"] = self._health.dmsg_servers
        return _json(msgspec.json.encode(answer))

    def _admit(self, pk: PublicKey) -> None:
        if self._limits is not None and (seconds := self._limits.by_key.ask(str(pk))):
            raise TooMuchError(seconds)


class _Resource:
    """One path: its methods, and the border at which refusals become responses."""

    def __init__(self, methods: Mapping[str, Handler], limits: Limits | None) -> None:
        self._methods = methods
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        # Before anything that costs: bodies, keys and signatures.
        if seconds := self._seconds_to_wait(request):
            return _refusal(TooMuchError(seconds))
        # HEAD is no method of the reference's, though GET is.
        if (handler := self._methods.get(request.method)) is None:
            return Response(status_code=405, headers={"Allow": ", ".join(self._methods)})
        try:
            return await handler(request)
        except Refusal as refusal:
            return _refusal(refusal)
        except StoreError as error:
            logger.error("%s %s: %s", request.method, request.url.path, error)
            return _message(500, _rules.UNEXPECTED)

    def _seconds_to_wait(self, request: Request) -> int:
        if self._limits is None or request.client is None:
            return 0
        return self._limits.by_source.ask(source_of(request.client.host))


# ---- in ----


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        with trio.fail_after(BODY_TIMEOUT):
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise Refusal(413, f"the body has more than {MAX_BODY} bytes")
    except trio.TooSlowError:
        raise Refusal(408, f"the body took more than {BODY_TIMEOUT} s") from None
    return bytes(body)


def _keys_of(texts: Iterable[str]) -> Iterable[PublicKey]:
    """Those texts that are keys; the reference passes over the others too."""
    for text in dict.fromkeys(texts):
        try:
            yield PublicKey.parse(text)
        except ValueError:
            continue


# ---- out ----


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _encode(items: Iterable[str]) -> bytes:
    return msgspec.json.encode(list(items))


def _servers(entries: list[Entry]) -> Response:
    if not entries:
        return _message(404, _rules.NO_SERVERS)
    return _json(b"[%s]" % b",".join(entry.to_json() for entry in entries))


def _message(status: int, text: str) -> Response:
    return _json(msgspec.json.encode({"message": text, "code": status}), status)


def _refusal(refusal: Refusal) -> Response:
    response = (
        _message(refusal.status, refusal.text) if refusal.text else Response(None, refusal.status)
    )
    if isinstance(refusal, TooMuchError):
        response.headers["Retry-After"] = str(refusal.seconds)
    return response


async def _not_found(request: Request, error: Exception) -> Response:
    return PlainTextResponse("404 page not found\n", status_code=404)


async def _unexpected(request: Request, error: Exception) -> Response:
    # The server logs the error, once; see serve_app.
    return _message(500, _rules.UNEXPECTED)


def _version() -> str:
    try:
        return version("dmsg-trio")
    except PackageNotFoundError:
        return "unknown"
