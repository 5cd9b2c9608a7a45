"""A peer that says anything, as a server, as a client and as a destination, harms nobody else."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from dmsg_trio import Client, DmsgError, SecretKey
from dmsg_trio._errors import HandshakeError
from dmsg_trio._keys import PublicKey
from dmsg_trio._net.carriers import carrier_of
from dmsg_trio._net.handshake import initiate, respond
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio.client import DmsgStream
from dmsg_trio.discovery import ClientInfo, Entry, ServerInfo
from dmsg_trio.server import PeerOptions, Server
from dmsg_trio.testing import Network
from tests.stateful.wild import Wild

PROFILE: Final = settings.get_current_profile_name()
EXAMPLES: Final = {"ci": 100, "nightly": 10_000}.get(PROFILE, 20)
WILD_AT: Final = "wild.test:1"
WILD_SERVER: Final = SecretKey(b"\x07" * 32)
WILD_CLIENT: Final = SecretKey(b"\x08" * 32)
DIALS: Final = 12  # of each of the others
RECOVERY: Final = 200  # seconds


@dataclass
class Scene:
    """Two servers and two clients, and who is among them."""

    chance: random.Random
    network: Network
    servers: list[Server]
    a: Client
    b: Client
    over: trio.CancelScope = field(default_factory=trio.CancelScope)  # all that is wild

    @property
    def known(self) -> list[PublicKey]:
        servers = [server.pk for server in self.servers]
        return [self.a.pk, self.b.pk, WILD_SERVER.pk, WILD_CLIENT.pk, *servers]

    # ---- what is wild ----

    async def run_wild(self) -> None:
        listener = self.network.net.listen(WILD_AT)
        with self.over:
            async with listener, trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._be_dialed, [listener])
                for _ in range(2):
                    nursery.start_soon(self._dial)

    async def register(self) -> None:
        server = ServerInfo(address=WILD_AT)
        count = self.chance.randint(1, 2)
        delegated = [each.pk for each in self.chance.sample(self.servers, count)]
        if self.chance.random() < 0.5:
            delegated.append(WILD_SERVER.pk)
        client = ClientInfo(tuple(delegated))
        now = self.network.wall_clock()
        for sk, entry in (
            (WILD_SERVER, Entry(pk=WILD_SERVER.pk, timestamp=now, server=server)),
            (WILD_CLIENT, Entry(pk=WILD_CLIENT.pk, timestamp=now, client=client)),
        ):
            await self.network.discovery.publish(entry.signed(sk))

    async def _be_dialed(self, stream: trio.abc.Stream) -> None:
        try:
            established = await respond(carrier_of(stream), WILD_SERVER, PostQuantum.OFF)
        except HandshakeError:
            return
        await Wild(established, WILD_SERVER, self.chance, self.network, self.known).live()

    async def _dial(self) -> None:
        while True:
            await trio.sleep(self.chance.choice([0, 1, 5]))
            server = self.chance.choice(self.servers)
            sk = self.chance.choice([WILD_SERVER, WILD_CLIENT, WILD_CLIENT])
            try:
                carrier = await self.network.net.connect(server.options.public_address)
                established = await initiate(carrier, sk, server.pk, PostQuantum.OFF)
            except (HandshakeError, OSError):
                continue
            await Wild(established, sk, self.chance, self.network, self.known).live()

    # ---- what is not ----

    async def use(self, client: Client) -> None:
        """Ask and dial all kinds of parties; what is wild may refuse, be silent, or answer nonsense."""
        for _ in range(DIALS):
            await trio.sleep(self.chance.choice([0, 0.1, 1]))
            with trio.move_on_after(self.chance.choice([0.1, 3, 30])):
                try:
                    if self.chance.random() < 0.25:
                        await client.look_up_ip(self.chance.choice(self.known[2:]))
                    else:
                        await self._talk_to(client, self.chance.choice(self.known[1:4]))
                except (DmsgError, trio.BrokenResourceError):
                    pass

    async def _talk_to(self, client: Client, pk: PublicKey) -> None:
        async with await client.open_stream(pk, 7) as stream:
            await stream.send_all(bytes(self.chance.choice([1, 5000, 100_000])))
            await stream.receive_some()

    async def see_all_well(self) -> None:
        with trio.fail_after(RECOVERY):
            async with await self.a.open_stream(self.b.pk, 7) as stream:
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"
        await trio.sleep(60)
        assert self.network.servers == self.servers
        assert [server.metrics.streams_now for server in self.servers] == [0, 0]


@asynccontextmanager
async def scene(chance: random.Random) -> AsyncIterator[Scene]:
    peers = PeerOptions(on_demand=chance.random() < 0.3)
    wanted = chance.choice([1, 3])
    async with Network(servers=0, latency=chance.choice([0, 0, 0.02])) as network:
        servers = [await network.start_server(peers=peers) for _ in range(2)]
        async with (
            network.client(min_sessions=wanted) as a,
            network.client(min_sessions=wanted) as b,
            b.listen(7) as listener,
            open_service_nursery() as nursery,
        ):
            nursery.start_soon(partial(trio.serve_listeners, _echo, [listener]))
            yield Scene(chance, network, servers, a, b)


async def _echo(stream: DmsgStream) -> None:
    try:
        async with stream:
            async for data in stream:
                await stream.send_all(data)
    except trio.BrokenResourceError:
        pass


@settings(
    max_examples=EXAMPLES,
    suppress_health_check=list(HealthCheck),
    phases=set(Phase) - {Phase.explain, Phase.shrink},  # another number is another story
)
@given(seed=st.integers(0, 2**64))
def test_nobody_else_is_harmed(caplog: pytest.LogCaptureFixture, seed: int) -> None:
    caplog.clear()
    trio.run(_meet_it, random.Random(seed), clock=MockClock(autojump_threshold=0))
    faults = [record.getMessage() for record in caplog.records if record.exc_info]
    assert not faults


async def _meet_it(chance: random.Random) -> None:
    async with scene(chance) as here, trio.open_nursery() as wild:
        await here.register()
        wild.start_soon(here.run_wild)
        async with trio.open_nursery() as nursery:
            for client in (here.a, here.a, here.b):
                nursery.start_soon(here.use, client)
        here.over.cancel()
        await trio.sleep(RECOVERY)
        await here.see_all_well()
