"""How an owner publishes: one sequence on, and once more if the discovery knows a newer entry."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from dmsg_trio._errors import UnreachableError
from dmsg_trio._keys import SecretKey
from dmsg_trio._wire.entries import Entry

from ._interface import Discovery, SequenceError

PUBLISH_ATTEMPTS: Final = 3


async def publish_next(
    discovery: Discovery,
    sk: SecretKey,
    draft: Entry,
    *,
    wall_clock: Callable[[], int] = time.time_ns,
) -> Entry:
    """Sign ``draft`` as of now and publish it; answer with the entry as it was published.

    Its sequence is kept unless the discovery has an entry of ours that is as new (from an earlier
    run, or another program with this key); then it is the one after that.
    """
    draft = replace(draft, timestamp=wall_clock())
    for _ in range(PUBLISH_ATTEMPTS - 1):
        try:
            return await _publish(discovery, draft.signed(sk))
        except SequenceError:
            draft = await _after_the_known(discovery, draft, wall_clock())
    return await _publish(discovery, draft.signed(sk))


async def _publish(discovery: Discovery, entry: Entry) -> Entry:
    await discovery.publish(entry)
    return entry


async def _after_the_known(discovery: Discovery, draft: Entry, now: int) -> Entry:
    try:
        known = await discovery.entry(draft.pk)
    except UnreachableError:
        return draft  # it expired between the two
    # A clock that was set back must not keep us from publishing.
    return replace(draft, sequence=known.sequence + 1, timestamp=max(now, known.timestamp))
