"""Output of a command on its way: bytes of two kinds, in order, each with its place in the whole.

Both ends have one. The host keeps what the client has not acknowledged, the client what nobody has
read yet.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, TypeAlias

from dmsg_trio._wire.shell import MAX_PAYLOAD, OUTPUT_WINDOW, Errors, Output

PIECE_COST: Final = 128  # bytes of memory that a piece takes besides its own
PIECES_AT_ONCE: Final = 2  # are read and sent: fewer turns for all who take part
MOST_AT_ONCE: Final = PIECES_AT_ONCE * MAX_PAYLOAD

Piece: TypeAlias = Output | Errors


class OutputLog:
    """Keeps pieces from `start` to `end`, counted since the command began."""

    __slots__ = ("_kinds", "_pieces", "_starts", "end", "start")

    def __init__(self, start: int = 0) -> None:
        self.start = start
        self.end = start
        self._starts: list[int] = []
        self._kinds: list[type[Piece]] = []
        self._pieces: list[bytes | bytearray] = []

    @property
    def cost(self) -> int:
        """The memory that is in use, about."""
        return self.end - self.start + PIECE_COST * len(self._pieces)

    @property
    def has_room(self) -> bool:
        """Whether what a command says at once fits into the window, as long as that may be."""
        return self.cost + MOST_AT_ONCE + PIECE_COST * PIECES_AT_ONCE <= OUTPUT_WINDOW

    def append(self, piece: Piece) -> None:
        """Put what came behind the others, as pieces that a frame can hold.

        Small ones go together: each that stands alone costs extra.
        """
        for start in range(0, len(piece.data), MAX_PAYLOAD):
            self._append(type(piece), piece.data[start : start + MAX_PAYLOAD])

    def _append(self, kind: type[Piece], data: bytes) -> None:
        if (
            self._pieces
            and self._kinds[-1] is kind
            and len(self._pieces[-1]) + len(data) <= MAX_PAYLOAD
        ):
            last = self._pieces[-1]
            if not isinstance(last, bytearray):
                last = self._pieces[-1] = bytearray(last)
            last += data
        else:
            self._starts.append(self.end)
            self._kinds.append(kind)
            self._pieces.append(data)
        self.end += len(data)

    def read(self, offset: int) -> Piece | None:
        """Say what comes at ``offset``, as one piece; None at the end."""
        if offset >= self.end:
            return None
        index = bisect_right(self._starts, offset) - 1
        data, skip = self._pieces[index], offset - self._starts[index]
        if isinstance(data, bytearray) or skip:
            with memoryview(data) as view:
                data = bytes(view[skip:])
        return self._kinds[index](data)

    def forget(self, offset: int) -> None:
        """Let go of all that lies before ``offset``."""
        self.start = offset
        # The piece that it lies in stays as a whole.
        count = bisect_right(self._starts, offset) - 1
        if offset == self.end:
            count += 1
        if count > 0:
            del self._starts[:count], self._kinds[:count], self._pieces[:count]
