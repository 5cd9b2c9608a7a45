"""Who is not reached is asked for again, and is reached when there is a way; who has left reaches nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import Client, DmsgError, LocalProtocolError, UnreachableError
from dmsg_trio.client._dialing import LONGEST_PAUSE
from dmsg_trio.server import PeerOptions, Server
from dmsg_trio.testing import Network


@asynccontextmanager
async def apart() -> AsyncIterator[tuple[Network, Client, Client, Server]]:
    """Two clients, each at a server of its own; servers without links. The last is the second one's."""
    alone = PeerOptions(from_discovery=False)
    async with Network(servers=0) as network:
        first = await network.start_server(peers=alone)
        async with network.client() as a:
            second = await network.start_server(peers=alone)
            network.cut(a.pk, second.pk)
            await network.stop_server(first)
            async with network.client() as b, b.listen(80):
                await network.start_server(peers=alone)
                await trio.sleep(60)
                assert set(b.sessions) == {second.pk}
                assert second.pk not in a.sessions
                yield network, a, b, second


@pytest.mark.parametrize("pause", [0.1, 1, 5])
async def test_who_keeps_asking_reaches_who_comes_back(
    autojump_clock: MockClock, pause: float
) -> None:
    async with apart() as (network, a, b, server):
        errors = []
        for _ in range(5):
            with pytest.raises(UnreachableError) as caught:
                await a.open_stream(b.pk, 80)
            errors.append(caught.value)
            await trio.sleep(pause)
        assert str(server.pk) in errors[0].attempts[-1].server
        assert all(each.attempts or "is worth a try in" in each.reason for each in errors)
        network.heal(a.pk, server.pk)
        with trio.fail_after(LONGEST_PAUSE):
            while server.pk not in a.sessions:
                await trio.sleep(pause)
                with suppress(UnreachableError):
                    await a.open_stream(b.pk, 80)


async def test_a_client_whose_block_has_ended_says_so() -> None:
    async with Network() as network, network.client() as b, b.listen(80):
        async with network.client() as a:
            await a.open_stream(b.pk, 80)
        for _ in range(2):
            with pytest.raises(UnreachableError, match="has left the network"):
                await a.open_stream(b.pk, 80)
            with pytest.raises(LocalProtocolError, match="has left the network"):
                a.listen(80)
            with pytest.raises(DmsgError, match="has left the network"):
                await a.look_up_ip(network.servers[0].pk)
