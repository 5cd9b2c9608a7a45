"""One client of a network under faults: ``python -m tests.chaos.client``.

It dials others all the time, sends them bytes, and has some sent back. Orders come on stdin, whose
end is the end of the client; what happened goes to stdout.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from typing import Final

import msgspec
import trio

from dmsg_trio import Client, DiscoveryError, DmsgStream, ErrorCode, UnreachableError, open_client
from tests.chaos.lines import (
    Count,
    Dialed,
    Event,
    Join,
    Joined,
    Moved,
    Order,
    Rest,
    Resting,
    Sweep,
    Swept,
    Work,
    read_lines,
)
from tests.chaos.transfers import BLOCK, End, StalledError, Transfer, WrongBytesError
from tests.waiting import answered

PORT: Final = 80
DIAL_LIMIT: Final = 30.0  # seconds in which a dial must succeed or say why not
SWEEP_LIMIT: Final = 10.0  # seconds for a dial and a small transfer where all is well
PAUSE: Final = 2.0  # seconds between two transfers, on average
SETTLE: Final = 1.0  # seconds in which tasks end whose streams are gone
REST_WITHIN: Final = 10.0  # seconds in which what was let go of is gone


@dataclass(frozen=True, slots=True)
class Manner:
    """How large transfers are, and how fast they go."""

    smallest: int
    largest: int
    block: int = BLOCK
    pause: int = 0  # milliseconds between two blocks

    def draw(self, random: Random) -> Transfer:
        """Make any transfer of this kind."""
        size, back = (random.randint(self.smallest, self.largest) for _ in range(2))
        return Transfer(random.getrandbits(62), size, back, self.block, self.pause)


QUICK: Final = Manner(1 << 8, 1 << 20)
SLOW: Final = Manner(1 << 12, 1 << 16, block=1 << 11, pause=500)  # up to 32 s in all
SMALL: Final = Manner(1 << 12, 1 << 12)


def tell(event: Event) -> None:
    """Say what happened."""
    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\n")
    sys.stdout.buffer.flush()


class Party:
    """A client that works until it is told to rest."""

    def __init__(self, client: Client, random: Random, others: tuple[str, ...]) -> None:
        self._client = client
        self._random = random
        self._others = others
        self._working: list[trio.CancelScope] = []

    async def obey(self, orders: AsyncIterator[Order], nursery: trio.Nursery) -> None:
        """Do as told until there are no more orders."""
        async for order in orders:
            match order:
                case Work():
                    nursery.start_soon(self._work, QUICK)
                    nursery.start_soon(self._work, SLOW)
                case Sweep(number, others):
                    nursery.start_soon(self._sweep, number, others)
                case Rest():
                    for scope in self._working:
                        scope.cancel()
                case Count():
                    nursery.start_soon(self._count)

    # ---- orders ----

    async def _work(self, manner: Manner) -> None:
        with trio.CancelScope() as scope:
            self._working.append(scope)
            while True:
                await trio.sleep(self._random.expovariate(1 / PAUSE))
                other = self._random.choice(self._others)
                await self._exchange(other, manner.draw(self._random))

    async def _sweep(self, number: int, others: tuple[str, ...]) -> None:
        failed: list[str] = []

        async def reach(other: str) -> None:
            reason = f"not within {SWEEP_LIMIT:g} s"
            with trio.move_on_after(SWEEP_LIMIT):
                reason = await self._exchange(other, SMALL.draw(self._random))
            if reason:
                failed.append(f"{other[:8]}: {reason}")

        async with trio.open_nursery() as nursery:
            for other in others:
                nursery.start_soon(reach, other)
        tell(Swept(number, tuple(failed)))

    async def _count(self) -> None:
        await answered(self._has_no_stream, within=REST_WITHIN)
        await trio.sleep(SETTLE)  # the end of what cleans up is seen nowhere
        tasks = trio.lowlevel.current_statistics().tasks_living
        tell(Resting(tasks, len(self._client.sessions), self._count_streams()))

    async def _has_no_stream(self) -> bool:
        return self._count_streams() == 0

    def _count_streams(self) -> int:
        sessions = self._client.sessions.values()
        return sum(session.connection.stream_count for session in sessions)

    # ---- both ends of a transfer ----

    async def _exchange(self, to: str, transfer: Transfer) -> str:
        """Dial, send and receive; give the reason if that does not go well."""
        began = time.monotonic()
        stream, reason, fault = await self._dial(to)
        tell(Dialed(began, time.monotonic(), reason, fault))
        if stream is None:
            return reason or fault
        began, end = time.monotonic(), End(stream)
        try:
            await end.ask(transfer)
        except trio.BrokenResourceError as error:
            reason = str(error)
        except (WrongBytesError, StalledError) as error:
            fault = f"to {stream.remote} through {stream.server_pk}: {error}"
        tell(Moved(began, time.monotonic(), end.received, reason, fault))
        return reason or fault

    async def _dial(self, to: str) -> tuple[DmsgStream | None, str, str]:
        """Give a stream, or the reason why there is none, or what should not have been."""
        try:
            with trio.fail_after(DIAL_LIMIT):
                return await self._client.open_stream(to, PORT), "", ""
        except UnreachableError as error:
            return None, f"{ErrorCode(error.code).text} ({error.code})", ""
        except DiscoveryError:
            return None, "the discovery cannot be asked", ""
        except trio.TooSlowError:
            return None, "", f"a dial to {to} gave no reason within {DIAL_LIMIT:g} s"

    async def serve(self, stream: DmsgStream) -> None:
        """Be the far end of a transfer."""
        began, end, reason, fault = time.monotonic(), End(stream), "", ""
        try:
            await end.answer()
        except trio.BrokenResourceError as error:
            reason = str(error)
        except (WrongBytesError, StalledError) as error:
            fault = f"from {stream.remote} through {stream.server_pk}: {error}"
        tell(Moved(began, time.monotonic(), end.received, reason, fault))


async def orders_from_stdin() -> AsyncIterator[Order]:
    """Read the orders."""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
        async for line in read_lines(stdin):
            yield msgspec.json.decode(line, type=Order)


async def main() -> None:
    """Join, and do as told."""
    orders = orders_from_stdin()
    join = await anext(orders)
    assert isinstance(join, Join)
    async with (
        open_client(
            join.key, discovery=join.discovery, min_sessions=join.min_sessions, wait=False
        ) as client,
        client.listen(PORT) as listener,
        trio.open_nursery() as nursery,
    ):
        party = Party(client, Random(join.seed), join.others)

        async def join_in() -> None:
            await client.wait_registered()
            tell(Joined())

        nursery.start_soon(trio.serve_listeners, party.serve, [listener])
        nursery.start_soon(join_in)
        await party.obey(orders, nursery)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    trio.run(main)
