"""What the harness and its clients say to each other: lines of JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import trio

# ---- orders ----


class Join(msgspec.Struct, frozen=True, tag=True):
    """Be this client; the first order."""

    key: str
    discovery: str
    min_sessions: int
    seed: int
    others: tuple[str, ...]  # keys of those to talk to


class Work(msgspec.Struct, frozen=True, tag=True):
    """Dial, send and receive until told to rest."""


class Sweep(msgspec.Struct, frozen=True, tag=True):
    """Reach certain others now."""

    number: int
    others: tuple[str, ...]


class Rest(msgspec.Struct, frozen=True, tag=True):
    """Let go of all that runs."""


class Count(msgspec.Struct, frozen=True, tag=True):
    """Say what is left, now that everybody has let go."""


Order = Join | Work | Sweep | Rest | Count


# ---- events; times are on the clock that all processes of a machine share ----


class Joined(msgspec.Struct, frozen=True, tag=True):
    """It is on the network."""


class Dialed(msgspec.Struct, frozen=True, tag=True):
    """A dial is over: with a stream, or with the reason why there is none, or as it must not be."""

    began: float
    ended: float
    reason: str = ""
    fault: str = ""


class Moved(msgspec.Struct, frozen=True, tag=True):
    """A transfer is over at one end, which looked at all the bytes that came."""

    began: float
    ended: float
    received: int
    reason: str = ""
    fault: str = ""


class Swept(msgspec.Struct, frozen=True, tag=True):
    """A sweep is over; these were not reached."""

    number: int
    failed: tuple[str, ...]


class Resting(msgspec.Struct, frozen=True, tag=True):
    """Nothing runs any more but the sessions; this is left."""

    tasks: int
    sessions: int
    streams: int


Event = Joined | Dialed | Moved | Swept | Resting


async def read_lines(source: trio.abc.ReceiveStream) -> AsyncIterator[bytes]:
    """Give whole lines until the end; half a line at the end is what a killed process left."""
    rest = b""
    async for data in source:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line
