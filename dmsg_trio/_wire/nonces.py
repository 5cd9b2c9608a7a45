"""Which nonces of a session were seen: a window that slides with the highest one.

Session objects may overtake each other, so their counters need not grow; but none may come twice.
"""

from typing import Final

from dmsg_trio._errors import LocalProtocolError
from dmsg_trio._wire.noise import MAX_NONCE

WINDOW_SIZE: Final = 1024  # how far behind the newest object an older one may still arrive


class NonceWindow:
    """Remembers the last ``size`` nonces; ask `check` before decrypting, `mark` after it went well."""

    __slots__ = ("_highest", "_seen", "_size")

    def __init__(self, size: int = WINDOW_SIZE) -> None:
        self._size = size
        self._highest = 0
        self._seen = 0  # bit i: the nonce i below the highest was marked

    def check(self, nonce: int) -> bool:
        """Tell whether ``nonce`` is new: neither zero, marked, too old, nor past the last of all."""
        age = self._highest - nonce
        if age < 0:
            return nonce < MAX_NONCE
        return nonce > 0 and age < self._size and not self._seen >> age & 1

    def mark(self, nonce: int) -> None:
        """Never accept ``nonce`` again, nor what is now too old."""
        if not self.check(nonce):
            raise LocalProtocolError(f"nonce {nonce} was not acceptable and cannot be marked")
        ahead = nonce - self._highest
        if ahead < 0:
            self._seen |= 1 << -ahead
            return
        # A jump past the whole window empties it; shifting by it might take all memory.
        kept = self._seen << ahead if ahead < self._size else 0
        self._seen = (kept | 1) & ((1 << self._size) - 1)
        self._highest = nonce

    def __repr__(self) -> str:
        return f"<NonceWindow of {self._size} up to {self._highest}>"
