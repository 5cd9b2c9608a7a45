"""The client of a discovery that is reached over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, TypeVar

import httpx
import msgspec
import trio

from dmsg_trio._errors import ConfigError, DiscoveryError, RemoteProtocolError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.tcp import reason_of
from dmsg_trio._wire.entries import MAX_ENTRY_SIZE, Entry, EntryError

from ._answers import NotOfferedError, printable, refused
from ._reading import read_untrusted, trusted_by
from ._rules import NO_SERVERS
from ._status import DiscoveryStatus

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT: Final = 3.0  # seconds
REQUEST_TIMEOUT: Final = 10.0  # seconds for a whole request and its answer
MAX_LIST_SIZE: Final = 8 * 1024 * 1024  # bytes of a list of servers
MAX_SERVERS: Final = 4096  # taken from such a list
MAX_BATCH: Final = 512  # entries asked for at once
MAX_CONNECTIONS: Final = 4

_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "dmsg-trio"}
_JSON: Final = {"Content-Type": "application/json"}


_Json = TypeVar("_Json")
_Read = TypeVar("_Read")


class _Message(msgspec.Struct):
    message: str = ""


class HttpDiscovery:
    """A discovery at an ``http://`` or ``https://`` URL. Close it, or use it as a block.

    What it answers is verified: an entry of a client is its owner's word or an error, one of a
    server which is not verified (`Entry.is_verified`) is a hint of an address.
    """

    def __init__(self, base_url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        if transport is None:
            _check_url(self._base_url)
        self._http = httpx.AsyncClient(
            transport=transport,
            verify=trusted_by(self._base_url),
            headers=_HEADERS,
            timeout=httpx.Timeout(REQUEST_TIMEOUT, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
            # As sessions do: the proxy that the variables name may well be one of ours.
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> HttpDiscovery:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<HttpDiscovery at {self._base_url}>"

    # ---- the discovery ----

    async def entry(self, pk: PublicKey) -> Entry:
        """Look up the entry of a key; `UnreachableError` with code 100 if there is none."""
        path = f"entry/{pk}"
        body = await self._request("GET", path, limit=MAX_ENTRY_SIZE)
        try:
            entry = Entry.parse_untrusted(body)
        except EntryError as error:
            raise DiscoveryError(f"{self._url(path)}: {error}") from error
        if entry.pk != pk:
            raise DiscoveryError(f"{self._url(path)}: answered with the entry of {entry.pk}")
        if not _is_credible(entry):
            raise DiscoveryError(f"{self._url(path)}: the signature is not the owner's")
        return entry

    async def available_servers(self) -> list[Entry]:
        """The servers with free sessions, most of them first; an empty list if none."""
        return await self._servers("available_servers")

    async def all_servers(self) -> list[Entry]:
        """All servers; an empty list if none."""
        return await self._servers("all_servers")

    async def publish(self, entry: Entry) -> None:
        """Make a signed entry known; `SequenceError` if it is not newer than the known one."""
        await self._request("POST", "entry/", entry.to_json())

    async def withdraw(self, entry: Entry) -> None:
        """Take back the entry of a key, proven by a signed entry at least as new."""
        await self._request("DELETE", "entry", entry.to_json())

    # ---- what people ask, beyond the protocol's `Discovery` ----

    async def client_keys(self) -> list[PublicKey]:
        """The keys of all clients."""
        return await self._decoded("entries", list[str], _keys)

    async def clients_by_server(self) -> dict[PublicKey, list[PublicKey]] | None:
        """Which clients are at which server; None from a discovery of 2024, which does not tell."""
        try:
            return await self._decoded(
                "servers/clients",
                dict[str, list[str]],
                lambda found: {PublicKey.parse(pk): _keys(pks) for pk, pks in found.items()},
            )
        except NotOfferedError:
            return None

    async def entries(self, pks: Sequence[PublicKey]) -> dict[PublicKey, Entry] | None:
        """The entries of those keys that have one; None from a discovery that tells one by one."""
        found: dict[PublicKey, Entry] = {}

        def read(texts: dict[str, msgspec.Raw]) -> None:
            for text in texts.values():
                if entry := self._credible(bytes(text)):
                    found[entry.pk] = entry

        try:
            for first in range(0, len(pks), MAX_BATCH):
                keys = msgspec.json.encode([str(pk) for pk in pks[first : first + MAX_BATCH]])
                await self._decoded("entries/batch", dict[str, msgspec.Raw], read, keys)
        except NotOfferedError:
            return None
        return found

    async def status(self) -> DiscoveryStatus | None:
        """Since when all entries stand; None from a discovery of another kind, which does not tell."""
        try:
            return await self._decoded("status", DiscoveryStatus, lambda status: status)
        except NotOfferedError:
            return None

    async def _decoded(
        self,
        path: str,
        kind: type[_Json],
        read: Callable[[_Json], _Read],
        body: bytes | None = None,
    ) -> _Read:
        method = "GET" if body is None else "POST"
        body = await self._request(method, path, body, limit=MAX_LIST_SIZE)
        try:
            return read(msgspec.json.decode(body, type=kind))
        except (ValueError, RecursionError) as error:
            raise DiscoveryError(f"{self._url(path)}: {error}") from error

    # ---- its parts ----

    async def _servers(self, path: str) -> list[Entry]:
        try:
            body = await self._request("GET", path, limit=MAX_LIST_SIZE)
        except _NoServersError:
            return []
        try:
            texts = msgspec.json.decode(body, type=list[msgspec.Raw])
        except (ValueError, RecursionError) as error:
            raise DiscoveryError(f"{self._url(path)}: not a list of entries: {error}") from error
        return [entry for text in texts[:MAX_SERVERS] if (entry := self._server(bytes(text)))]

    def _server(self, text: bytes) -> Entry | None:
        entry = self._credible(text)
        return entry if entry and entry.server else None

    def _credible(self, text: bytes) -> Entry | None:
        """One entry of many; a bad one does not spoil the others."""
        try:
            entry = Entry.parse_untrusted(text)
        except EntryError as error:
            logger.debug("%s: left out an entry: %s", self._base_url, error)
            return None
        if not _is_credible(entry):
            logger.debug("%s: left out %s: not its owner's word", self._base_url, entry.pk)
            return None
        return entry

    def _url(self, path: str) -> str:
        return f"{self._base_url}/dmsg-discovery/{path}"

    async def _request(
        self, method: str, path: str, body: bytes | None = None, *, limit: int = MAX_ENTRY_SIZE
    ) -> bytes:
        url = self._url(path)
        request_headers = _JSON if body is not None else None
        try:
            with trio.fail_after(REQUEST_TIMEOUT):
                async with self._http.stream(
                    method, url, content=body, headers=request_headers
                ) as response:
                    answer = await read_untrusted(response, limit)
        except trio.TooSlowError as error:
            raise DiscoveryError(f"{url}: no answer within {REQUEST_TIMEOUT} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = printable(reason_of(error)) or type(error).__name__
            raise DiscoveryError(f"{url}: {reason}") from error
        except RemoteProtocolError as error:
            raise DiscoveryError(f"{url}: {error}") from error
        if response.status_code == 200:
            return answer
        text = _message_of(answer)
        if response.status_code == 404 and text == NO_SERVERS:
            raise _NoServersError(f"{url}: {text}")
        retry_after = response.headers.get("Retry-After", "")
        raise refused(url, response.status_code, text, retry_after=retry_after)


def _check_url(text: str) -> None:
    """Raise `ConfigError` if nothing can be at this URL."""
    if not text.startswith(("http://", "https://")):
        raise ConfigError(f"a discovery's URL begins with http:// or https://: {text!r}")
    try:
        host = httpx.URL(text).host
        host.encode("idna")  # as for a look-up of it
    except (httpx.InvalidURL, UnicodeError):
        host = ""
    if not host:
        raise ConfigError(f"a discovery's URL names a host, and a port if need be: {text!r}")


class _NoServersError(DiscoveryError):
    """The list of servers is empty, which the protocol says with a 404."""


def _message_of(answer: bytes) -> str:
    try:
        return msgspec.json.decode(answer, type=_Message).message
    except (ValueError, RecursionError):
        return answer.decode(errors="replace")


def _keys(texts: list[str]) -> list[PublicKey]:
    return [PublicKey.parse(text) for text in texts]


def _is_credible(entry: Entry) -> bool:
    return entry.client is None or entry.is_verified
