"""The ports of one client: those that somebody listens on, and those that dials come from."""

from __future__ import annotations

from dmsg_trio._address import FIRST_EPHEMERAL_PORT, LAST_PORT, Address
from dmsg_trio._errors import ErrorCode, LocalProtocolError, describe_code
from dmsg_trio._keys import PublicKey

from ._listener import DmsgListener


class Ports:
    """Listeners by port, and a counter for the ports of dials."""

    def __init__(self, pk: PublicKey) -> None:
        self._pk = pk
        self._listeners: dict[int, DmsgListener] = {}
        self._last_ephemeral = FIRST_EPHEMERAL_PORT

    def listen(self, port: int) -> DmsgListener:
        """Occupy ``port``; raise `LocalProtocolError` if somebody does already."""
        if not 0 < port <= LAST_PORT:
            raise ValueError(f"a port to listen on is 1 to {LAST_PORT}, not {port}")
        if port in self._listeners:
            reason = describe_code(ErrorCode.PORT_OCCUPIED)
            raise LocalProtocolError(f"port {port} of {self._pk}: {reason}")
        listener = self._listeners[port] = DmsgListener(Address(self._pk, port), self._free)
        return listener

    def listener(self, port: int) -> DmsgListener | None:
        """Who listens on ``port``, if anybody does."""
        return self._listeners.get(port)

    def next_ephemeral(self) -> Address:
        """A port for a dial. They go round; a stream is told by more than its port."""
        self._last_ephemeral += 1
        if self._last_ephemeral > LAST_PORT:
            self._last_ephemeral = FIRST_EPHEMERAL_PORT
        return Address(self._pk, self._last_ephemeral)

    def _free(self, listener: DmsgListener) -> None:
        del self._listeners[listener.address.port]
