"""A client that has no session at the moment waits for the next one, where that may help a dial."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import PublicKey, SecretKey, UnreachableError
from dmsg_trio._wire.entries import ClientInfo, Entry
from dmsg_trio.client import _sessions
from dmsg_trio.discovery import MemoryDiscovery
from dmsg_trio.testing import Network

LATENCY = 0.02
ROUNDS = 10


class _Behind(MemoryDiscovery):
    """Says of one client where it was before, and counts who asks."""

    behind: Entry | None = None
    asked = 0

    async def entry(self, pk: PublicKey) -> Entry:
        if self.behind is None or pk != self.behind.pk:
            return await super().entry(pk)
        self.asked += 1
        return self.behind


async def test_a_dial_waits_for_the_next_server_where_the_first_one_is_gone(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again and again: who wakes first of those that wait for news is left to chance."""
    async with Network(servers=0, latency=LATENCY) as network:
        network.discovery = discovery = _Behind(wall_clock=network.wall_clock)
        gone, living = [await network.start_server() for _ in range(2)]
        monkeypatch.setattr(
            _sessions, "_shuffled", lambda ready: sorted(ready, key=lambda e: e.pk != gone.pk)
        )
        await network.stop_server(gone)
        async with network.client() as callee, callee.listen(80) as listener:
            assert set(callee.sessions) == {living.pk}
            discovery.behind = Entry(pk=callee.pk, timestamp=0, client=ClientInfo((gone.pk,)))
            for _ in range(ROUNDS):
                async with network.client(wait=False) as caller:
                    with trio.fail_after(2):
                        stream = await caller.open_stream(callee.pk, 80)
                        far = await listener.accept()
                    assert stream.server_pk == living.pk
                    for end in (stream, far):
                        end.reset()


async def test_a_dial_that_waited_in_vain_tries_nothing_anew(autojump_clock: MockClock) -> None:
    async with Network(servers=0, latency=LATENCY) as network:
        network.discovery = discovery = _Behind(wall_clock=network.wall_clock)
        gone, slow = [await network.start_server() for _ in range(2)]
        async with network.client() as callee:
            pk = callee.pk
        for server in (gone, slow):
            await network.stop_server(server)
        discovery.behind = Entry(pk=pk, timestamp=0, client=ClientInfo((gone.pk,)))
        sk = SecretKey.generate()
        network.slow_down(sk.pk, slow.pk, 10 * LATENCY)
        async with network.client(sk, min_sessions=2, wait=False) as caller:
            with pytest.raises(UnreachableError) as caught:
                await caller.open_stream(pk, 80)
            assert len(caught.value.attempts) == 1
            assert discovery.asked == 1
