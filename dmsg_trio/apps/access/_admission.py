"""What an app asks of a list of keys, whoever keeps it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import trio

from dmsg_trio._keys import PublicKey

from ._allow import AllowList


class Admission(Protocol):
    """Who may come: `AllowList`, or what works like it."""

    def __contains__(self, pk: PublicKey) -> bool: ...
    def while_allowed(self, pk: PublicKey) -> AbstractContextManager[trio.CancelScope]: ...


def admission(allowed: Admission | Collection[PublicKey] | None) -> Admission:
    """Take keys for a list that never changes, and None for everybody."""
    if allowed is None:
        return _Everybody()
    if isinstance(allowed, Collection):
        return AllowList(given=allowed)
    return allowed


class _Everybody:
    def __contains__(self, pk: PublicKey) -> bool:
        return True

    @contextmanager
    def while_allowed(self, _pk: PublicKey) -> Iterator[trio.CancelScope]:
        with trio.CancelScope() as scope:
            yield scope
