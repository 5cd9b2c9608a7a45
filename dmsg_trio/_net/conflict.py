"""One task at a time in one direction of a stream, as Trio's own streams have it."""

from types import TracebackType

import trio


class ConflictDetector:
    """Raises `trio.BusyResourceError` when a second task enters the block."""

    __slots__ = ("_busy", "_message")

    def __init__(self, message: str) -> None:
        self._message = message
        self._busy = False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(self._message)
        self._busy = True

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._busy = False
