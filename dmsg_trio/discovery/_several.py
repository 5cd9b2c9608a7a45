"""Several discoveries as one: what any of them knows is known, and one that is away is no loss."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, TypeVar

import trio

from dmsg_trio._errors import ConfigError, DiscoveryError, DmsgError, UnreachableError
from dmsg_trio._keys import PublicKey
from dmsg_trio._wire.entries import Entry

from ._http import HttpDiscovery
from ._interface import Discovery

T = TypeVar("T")

logger = logging.getLogger("dmsg_trio.discovery")

GRACE: Final = 1  # seconds that the others have after the first answer


class SeveralDiscoveries:
    """Asks all its members at once. An entry is published at each, see `Registration`."""

    def __init__(self, members: Sequence[Discovery]) -> None:
        if not members:
            raise ValueError("several discoveries are one at least")
        self.members = tuple(members)

    async def entry(self, pk: PublicKey) -> Entry:
        """The newest entry that a member has; `UnreachableError` 100 if none has one."""
        answers, errors = await self._ask(lambda member: member.entry(pk))
        if answers:
            return max(answers, key=lambda entry: (entry.sequence, entry.timestamp))
        unknown = [error for error in errors if isinstance(error, UnreachableError)]
        raise unknown[0] if unknown else errors[0]

    async def available_servers(self) -> list[Entry]:
        """The servers with free sessions that any member knows."""
        return _merged(*await self._ask(lambda member: member.available_servers()))

    async def all_servers(self) -> list[Entry]:
        """The servers that any member knows."""
        return _merged(*await self._ask(lambda member: member.all_servers()))

    async def publish(self, entry: Entry) -> None:
        """Publish at all members; an error only if none took it."""
        answers, errors = await self._ask(lambda member: member.publish(entry))
        if not answers:
            raise errors[0]

    async def withdraw(self, entry: Entry) -> None:
        """Take back from all members; an error only if none did."""
        answers, errors = await self._ask(lambda member: member.withdraw(entry))
        if not answers:
            raise errors[0]

    async def _ask(
        self, question: Callable[[Discovery], Awaitable[T]]
    ) -> tuple[list[T], list[DmsgError]]:
        """Ask all at once; who is slow has a moment more when the first has answered."""
        answers: list[T] = []
        errors: list[DmsgError] = []
        async with trio.open_nursery() as nursery:

            async def ask(member: Discovery) -> None:
                try:
                    answers.append(await question(member))
                except (DiscoveryError, UnreachableError) as error:
                    logger.debug("%r: %s", member, error)
                    errors.append(error)
                    return
                nursery.cancel_scope.deadline = min(
                    nursery.cancel_scope.deadline, trio.current_time() + GRACE
                )

            for member in self.members:
                nursery.start_soon(ask, member)
        return answers, errors


def members_of(discovery: Discovery) -> tuple[Discovery, ...]:
    """The discoveries at which an entry is published, each with a sequence of its own."""
    return discovery.members if isinstance(discovery, SeveralDiscoveries) else (discovery,)


def _merged(answers: list[list[Entry]], errors: list[DmsgError]) -> list[Entry]:
    if not answers:
        raise errors[0]
    newest: dict[PublicKey, Entry] = {}
    for entry in (entry for answer in answers for entry in answer):
        known = newest.get(entry.pk)
        if known is None or entry.timestamp > known.timestamp:
            newest[entry.pk] = entry
    return list(newest.values())


@asynccontextmanager
async def open_discovery(
    where: str | Discovery | Sequence[str | Discovery],
) -> AsyncIterator[Discovery]:
    """Make one discovery of URLs (with commas between them) and of what is a discovery already."""
    parts = [where] if isinstance(where, str) or not isinstance(where, Sequence) else where
    async with AsyncExitStack() as stack:
        members: list[Discovery] = []
        for part in parts:
            if isinstance(part, str):
                urls = [url.strip() for url in part.split(",") if url.strip()]
                members += [await stack.enter_async_context(HttpDiscovery(url)) for url in urls]
            else:
                members.append(part)
        if not members:
            raise ConfigError("no discovery is named")
        yield members[0] if len(members) == 1 else SeveralDiscoveries(members)
