"""Since when an entry says what it says: the discovery's own knowledge, which no owner signs.

Owners publish again every few minutes, so the age of an entry tells nothing of how long its parts
have stood.
"""

from __future__ import annotations

from dataclasses import dataclass

from dmsg_trio._wire.entries import Entry


@dataclass(frozen=True, slots=True)
class Since:
    """Since when an entry has its parts without a gap, in nanoseconds since 1970."""

    server: int | None = None
    client: int | None = None
    delegated: tuple[int, ...] = ()  # one for each delegated server, in the entry's order

    @classmethod
    def beginning(cls, entry: Entry, now: int) -> Since:
        """All that ``entry`` says begins now."""
        return cls(
            server=None if entry.server is None else now,
            client=None if entry.client is None else now,
            delegated=(now,) * len(entry.delegated_servers),
        )

    def carried_on(self, old: Entry, new: Entry, now: int) -> Since:
        """What ``new`` says as ``old`` did, in whose place it comes, goes on; the rest begins now."""
        named = dict(zip(old.delegated_servers, self.delegated, strict=True))
        return Since(
            server=None if new.server is None else _earlier(self.server, now),
            client=None if new.client is None else _earlier(self.client, now),
            delegated=tuple(named.get(pk, now) for pk in new.delegated_servers),
        )

    def fits(self, entry: Entry) -> bool:
        """Whether this can be of ``entry``: it has the same parts, and as many servers."""
        return (
            (self.server is None) == (entry.server is None)
            and (self.client is None) == (entry.client is None)
            and len(self.delegated) == len(entry.delegated_servers)
        )


def _earlier(before: int | None, now: int) -> int:
    return now if before is None else before
