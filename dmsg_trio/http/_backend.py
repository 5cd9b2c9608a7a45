"""The network of httpcore, over dmsg: a stream to a key for each connection.

Limits on time are those of the request. One for sending is for each piece, so that a long body is
not cut off on a slow line while it moves.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import httpcore
import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import DiscoveryError, DmsgError, RefusedError, UnreachableError
from dmsg_trio.client import Client, DmsgStream

from ._urls import NO_HOSTS, Hosts, address_of

PIECE: Final = 128 * 1024  # bytes of a request that have the time for one write
WHATEVER_IS_THERE: Final = 64 * 1024  # who asks for as much is served best with all that came
_ALMOST: Final = 0.9  # of its time: a dial that ends then has used it up


class DmsgConnectError(httpcore.ConnectError):
    """A stream could not be opened; ``fault`` says why."""

    def __init__(self, message: str, fault: DmsgError | None = None) -> None:
        self.fault = fault  # since httpcore drops the cause
        super().__init__(message)


class DmsgConnectTimeout(httpcore.ConnectTimeout):
    """A stream could not be opened in time; ``fault`` says what was tried."""

    def __init__(self, message: str, fault: DmsgError | None = None) -> None:
        self.fault = fault
        super().__init__(message)


class DmsgBackend(httpcore.AsyncNetworkBackend):
    """Connections for `httpcore.AsyncConnectionPool`, each a stream of ``client``.

    A host is a public key, with or without ``.dmsg``, or one of ``hosts``. Errors are httpcore's; those
    of `connect_tcp` have a ``fault``, the `DmsgError` or None.
    """

    def __init__(self, client: Client, *, hosts: Hosts | None = None) -> None:
        self._client = client
        self._hosts = hosts or NO_HOSTS

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as httpcore has it
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        """Open a stream, within ``timeout`` seconds if that is given; the last two say nothing here.

        Raises `httpcore.ConnectTimeout` or `httpcore.ConnectError`.
        """
        try:
            address = address_of(host, port, self._hosts)
        except ValueError as error:
            raise DmsgConnectError(f"cannot connect: {error}") from error
        began = trio.current_time()
        limit = math.inf if timeout is None else timeout
        try:
            with trio.fail_after(limit):
                return NetworkStream(await self._client.open_stream(address.pk, address.port))
        except trio.TooSlowError:
            raise DmsgConnectTimeout(_late(address, limit)) from None
        except RefusedError as error:
            raise DmsgConnectError(f"cannot connect: {error}", error) from error
        except UnreachableError as error:
            # A dial keeps a bit of its time to say what it tried.
            if trio.current_time() - began >= _ALMOST * limit:
                raise DmsgConnectTimeout(f"{_late(address, limit)}: {error}", error) from error
            said = str(error)
            whom = "" if said.startswith(str(address)) else f" to {address}"
            raise DmsgConnectError(f"cannot connect{whom}: {said}", error) from error
        except DiscoveryError as error:
            message = f"cannot look up {address} at the discovery: {error}"
            raise DmsgConnectError(message, error) from error

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - as httpcore has it
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse with a `httpcore.ConnectError`: there are no such sockets on dmsg."""
        raise DmsgConnectError(f"cannot connect to {path}: dmsg leads to keys, not to sockets")

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds between two tries."""
        await trio.sleep(seconds)


class NetworkStream(httpcore.AsyncNetworkStream):
    """A stream as httpcore wants it."""

    def __init__(self, stream: DmsgStream) -> None:
        self._stream = stream
        self._unread = b""
        self.way = f"{stream.remote} through server {stream.server_pk.short}"  # for errors

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as httpcore has it
    ) -> bytes:
        """Wait for bytes; more than were asked for if many were, as cutting them up costs time."""
        if self._unread:
            taken, self._unread = self._unread[:max_bytes], self._unread[max_bytes:]
            return taken
        most = None if max_bytes >= WHATEVER_IS_THERE else max_bytes
        with self._reading(timeout):
            return bytes(await self._stream.receive_some(most))

    async def read_into(self, buffer: memoryview, limit: float | None) -> int:
        """Wait for bytes up to ``limit`` seconds, put them into ``buffer``, and say how many."""
        if self._unread:
            data = await self.read(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        with self._reading(limit):
            return await self._stream.receive_into(buffer)

    @contextmanager
    def _reading(self, limit: float | None) -> Iterator[None]:
        seconds = math.inf if limit is None else limit
        try:
            with trio.fail_after(seconds):
                yield
        except trio.TooSlowError:
            raise httpcore.ReadTimeout(f"nothing came from {self.way} for {seconds:g} s") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.ReadError(f"reading from {self.way}: {error}") from error

    def unread(self, data: bytes) -> None:
        """Let the next `read` begin with ``data``."""
        self._unread = data

    @property
    def is_ready(self) -> bool:
        """Whether `read` would not wait: bytes, the end, or an error are there."""
        return bool(self._unread) or self._stream.is_ready

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109 - as httpcore has it
    ) -> None:
        """Send all of ``buffer``, each piece of it within ``timeout`` seconds."""
        limit = math.inf if timeout is None else timeout
        pieces = memoryview(buffer)
        try:
            with trio.fail_after(limit) as scope:
                for start in range(0, len(buffer), PIECE):
                    scope.deadline = trio.current_time() + limit
                    await self._stream.send_all(pieces[start : start + PIECE])
        except trio.TooSlowError:
            raise httpcore.WriteTimeout(f"{self.way} took nothing for {limit:g} s") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.WriteError(f"writing to {self.way}: {error}") from error

    async def aclose(self) -> None:
        """End the stream; what the peer still sends is refused."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as httpcore has it
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: a stream is encrypted end to end, and the key is the proof of who it is."""
        raise httpcore.UnsupportedProtocol("dmsg needs no TLS: use dmsg:// or http://")

    def get_extra_info(self, info: str) -> object:
        """Tell ``is_readable``, ``client_addr``, ``server_addr``, or ``dmsg_stream`` itself."""
        match info:
            case "is_readable":
                return self.is_ready
            case "client_addr":
                return str(self._stream.local.pk), self._stream.local.port
            case "server_addr":
                return str(self._stream.remote.pk), self._stream.remote.port
            case "dmsg_stream":
                return self._stream
            case _:
                return None


def _late(address: Address, limit: float) -> str:
    return f"no connection to {address} within {limit:g} s"
