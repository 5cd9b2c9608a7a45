"""Which connection is used, opened or closed: the rules of httpcore, decided in one walk.

httpcore looks at each connection for each request that waits, whenever one comes or goes. A page of
some hundred objects would spend most of its time there.
"""

from __future__ import annotations

import math

import httpcore

from ._backend import DmsgBackend
from ._connection import Connection


class ConnectionPool(httpcore.AsyncConnectionPool):
    """Connections of ours, and the requests that they carry."""

    def __init__(
        self, backend: DmsgBackend, *, max_connections: int | None, keepalive_expiry: float | None
    ) -> None:
        super().__init__(
            max_connections=max_connections,
            max_keepalive_connections=0 if keepalive_expiry == 0 else None,
        )
        self._backend = backend
        self._kept_for = math.inf if keepalive_expiry is None else keepalive_expiry

    def create_connection(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        """Make a connection that is not open yet."""
        return Connection(self._backend, origin, kept_for=self._kept_for)

    def _assign_requests_to_connections(self) -> list[httpcore.AsyncConnectionInterface]:
        """Give requests that wait the connections that are free, or new ones; say what is to be closed."""
        closing = self._take_out_useless()
        free = [each for each in self._connections if each.is_available()]
        for request in [each for each in self._requests if each.is_queued()]:
            origin = request.request.url.origin
            connection = next((each for each in free if each.can_handle_request(origin)), None)
            if connection is not None:
                free.remove(connection)
            elif len(self._connections) < self._max_connections or free:
                if len(self._connections) >= self._max_connections:
                    closing.append(surplus := free.pop(0))
                    self._connections.remove(surplus)
                connection = self.create_connection(origin)
                self._connections.append(connection)
            else:
                break  # nor is there one for those behind it
            request.assign_to_connection(connection)
        return closing

    def _take_out_useless(self) -> list[httpcore.AsyncConnectionInterface]:
        kept, closing = [], []
        for each in self._connections:
            surplus = each.is_idle() and not self._max_keepalive_connections
            if surplus or each.has_expired():
                closing.append(each)
            elif not each.is_closed():
                kept.append(each)
        self._connections[:] = kept
        return closing
