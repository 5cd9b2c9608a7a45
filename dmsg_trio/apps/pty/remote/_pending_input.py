"""Input on its way to a command that may have to be sent again."""

from __future__ import annotations

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire.shell import INPUT_WINDOW, MAX_PAYLOAD, Started


class PendingInput:
    """Keeps what the command has not taken, and knows from where to send on."""

    def __init__(self) -> None:
        self.end = 0  # bytes in all that were put in
        self._start = 0  # the first that is kept
        self._taken = 0
        self._sent = 0
        self._kept = bytearray()

    @property
    def room(self) -> int:
        """How many bytes may be put in."""
        return self._taken + INPUT_WINDOW - self.end

    @property
    def is_sent(self) -> bool:
        """Whether the host was told all of it."""
        return self._sent == self.end

    def put(self, data: bytes | memoryview) -> None:
        """Take in bytes, as many as there is room for."""
        self._kept += data
        self.end += len(data)

    def next_piece(self) -> bytes:
        """Say what to send next; nothing if all is sent."""
        offset = self._sent - self._start
        piece = bytes(self._kept[offset : offset + MAX_PAYLOAD])
        self._sent += len(piece)
        return piece

    def begin(self, started: Started) -> None:
        """Count on from where somebody else's input ended."""
        self.end = self._start = self._sent = started.input
        self._taken = started.taken

    def go_on(self, started: Started) -> None:
        """Send again what the host has not got."""
        if not self._start <= started.input <= self.end:
            raise RemoteProtocolError(
                f"the host has {started.input} bytes of input, not {self._start} to {self.end}"
            )
        self._sent = self.end  # a lost stream may have carried any part of it
        self.take(started.taken)
        self._sent = started.input

    def take(self, count: int) -> None:
        """Forget what the command has."""
        if not self._taken <= count <= self._sent:
            raise RemoteProtocolError(
                f"the command took {count} bytes of input, not {self._taken} to {self._sent}"
            )
        self._taken = count
        if (known := count - self._start) > 0:  # else it is of somebody else's
            del self._kept[:known]
            self._start = count
