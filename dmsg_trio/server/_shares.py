"""How many streams go over links to other servers: in all, and over each at the most a part of them.

A stream takes its place when it is asked for and keeps it to its end: one that nobody answers costs
as much as one that is joined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from dmsg_trio._keys import PublicKey

MAX_RELAYED: Final = 4096  # streams over links to other servers, in all
PEER_SHARE: Final = 4  # one server may have a quarter of them


class NoShareError(Exception):
    """No more streams may go over this link now."""


class Shares:
    """The streams that go over links now, by the server at the other end."""

    def __init__(self, most: int = MAX_RELAYED) -> None:
        self._most = most
        self._taken: Counter[PublicKey] = Counter()

    @contextmanager
    def one(self, pk: PublicKey) -> Iterator[None]:
        """Count a stream over the link with ``pk`` for the block, or raise `NoShareError`."""
        if self._taken.total() >= self._most:
            raise NoShareError(f"{self._most} streams go over links")
        if self._taken[pk] >= self._most // PEER_SHARE:
            raise NoShareError(f"{self._most // PEER_SHARE} streams go over the link with {pk}")
        self._taken[pk] += 1
        try:
            yield
        finally:
            self._taken[pk] -= 1
            if not self._taken[pk]:
                del self._taken[pk]
