"""A server that drains: whoever is reached through it stays reachable while it leaves."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import Client, DmsgStream
from dmsg_trio.server import Server
from dmsg_trio.server._server import DRAIN_TIME, MOVE_TIME
from dmsg_trio.testing import Network
from tests.entities.mallory import client_of
from tests.entities.parties import connect, receive_all, refusals_of

LATENCY = 0.03  # seconds each way
MESH_TIME = 70  # seconds after which every server has looked for the others
BETWEEN_DIALS = 0.01  # seconds


async def echo(stream: DmsgStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send_all(data)


async def hear_back(a: Client, b: Client) -> None:
    async with await a.open_stream(b.pk, 80) as stream:
        await stream.send_all(b"hello")
        await stream.send_eof()
        assert await receive_all(stream) == b"hello"


async def again_and_again(dial: Callable[[], Awaitable[None]], until: trio.Event) -> None:
    """Begin to dial every moment, however long the earlier ones take."""
    async with trio.open_nursery() as nursery:
        while not until.is_set():
            nursery.start_soon(dial)
            await trio.sleep(BETWEEN_DIALS)


async def gone(network: Network, server: Server) -> float:
    """Wait until a server has ended; say how long that took."""
    began = trio.current_time()
    if running := network._running.get(server.pk):
        await running.stopped.wait()
    return trio.current_time() - began


@asynccontextmanager
async def three_servers() -> AsyncIterator[tuple[Network, Server, Client, list[Client]]]:
    """One server with a client that may move, and a caller at each of two others."""
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(servers=1, latency=LATENCY))
        [leaving] = network.servers
        callee = await stack.enter_async_context(network.client())
        others = [await network.start_server() for _ in range(2)]
        await trio.sleep(MESH_TIME)
        callers = [await stack.enter_async_context(client_of(network, each)) for each in others]
        await trio.sleep(5)
        assert set(callee.sessions) == {leaving.pk}
        yield network, leaving, callee, callers


async def test_nobody_is_out_of_reach_while_the_only_server_it_has_leaves(
    autojump_clock: MockClock,
) -> None:
    async with (
        three_servers() as (network, leaving, callee, callers),
        callee.listen(80) as listener,
        trio.open_nursery() as serving,
    ):
        serving.start_soon(trio.serve_listeners, echo, [listener])
        is_over, seconds = trio.Event(), list[float]()
        async with trio.open_nursery() as dialing:
            for caller in callers:

                async def dial(caller: Client = caller) -> None:
                    began = trio.current_time()
                    await hear_back(caller, callee)
                    seconds.append(trio.current_time() - began)

                dialing.start_soon(again_and_again, dial, is_over)
            await trio.sleep(1)
            leaving.drain()
            assert await gone(network, leaving) <= MOVE_TIME + 1
            await trio.sleep(2)
            is_over.set()
        assert leaving.pk not in callee.sessions
        serving.cancel_scope.cancel()
    assert max(seconds) < 1
    assert not refusals_of(leaving)


async def test_who_has_only_just_opened_when_its_server_drains_gets_through(
    autojump_clock: MockClock,
) -> None:
    """The go-away and the request cross."""
    async with Network(latency=LATENCY) as network, network.client() as a, network.client() as b:
        await trio.sleep(5)
        async with b.listen(80), trio.open_nursery() as nursery:
            nursery.start_soon(a.open_stream, b.pk, 80)
            await trio.sleep(LATENCY / 2)
            network.servers[0].drain()


async def test_a_client_whose_only_server_leaves_reaches_others(autojump_clock: MockClock) -> None:
    async with (
        three_servers() as (network, leaving, mover, [other, _]),
        other.listen(80) as listener,
        trio.open_nursery() as serving,
    ):
        serving.start_soon(trio.serve_listeners, echo, [listener])
        is_over = trio.Event()

        async def dial() -> None:
            await hear_back(mover, other)

        async with trio.open_nursery() as dialing:
            dialing.start_soon(again_and_again, dial, is_over)
            await trio.sleep(1)
            leaving.drain()
            await gone(network, leaving)
            is_over.set()
        serving.cancel_scope.cancel()


async def test_clients_of_one_server_reach_each_other_while_it_leaves(
    autojump_clock: MockClock,
) -> None:
    async with (
        Network(servers=1, latency=LATENCY) as network,
        network.client() as caller,
        network.client() as callee,
        callee.listen(80) as listener,
        trio.open_nursery() as serving,
    ):
        serving.start_soon(trio.serve_listeners, echo, [listener])
        [leaving] = network.servers
        for _ in range(2):
            await network.start_server()
        await trio.sleep(MESH_TIME)
        assert set(caller.sessions) == set(callee.sessions) == {leaving.pk}
        is_over = trio.Event()

        async def dial() -> None:
            await hear_back(caller, callee)

        async with trio.open_nursery() as dialing:
            dialing.start_soon(again_and_again, dial, is_over)
            await trio.sleep(1)
            leaving.drain()
            await gone(network, leaving)
            await trio.sleep(1)
            is_over.set()
        serving.cancel_scope.cancel()


async def test_clients_have_a_while_to_move_and_a_server_without_any_ends_at_once(
    autojump_clock: MockClock,
) -> None:
    async with Network(servers=3) as network:
        await trio.sleep(MESH_TIME)
        idle, left_early, used = network.servers
        idle.drain()
        assert await gone(network, idle) < 0.1
        async with client_of(network, left_early):
            left_early.drain()
            await trio.sleep(MOVE_TIME / 2)
        assert await gone(network, left_early) < 0.1
        async with client_of(network, used):
            used.drain()
            assert await gone(network, used) == pytest.approx(MOVE_TIME, abs=0.1)


async def test_the_time_to_move_is_part_of_the_time_to_drain(autojump_clock: MockClock) -> None:
    async with Network() as network, network.client() as a, network.client() as b:
        [server] = network.servers
        near, far = await connect(a, b)
        server.drain()
        assert await gone(network, server) == pytest.approx(DRAIN_TIME, abs=0.1)
        near.reset()
        far.reset()


async def test_a_server_that_leaves_makes_no_link_that_others_would_refuse(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in no discovery any more, so they could not tell it from a client."""
    async with Network() as network:
        await trio.sleep(MESH_TIME)
        [stays] = network.servers
        leaving = await network.start_server()
        async with client_of(network, leaving) as a, client_of(network, leaving) as b:
            near, far = await connect(a, b)
            leaving.drain()
            await trio.sleep(DRAIN_TIME / 2)
            assert network.connections(stays.pk, leaving.pk) == 0
            near.reset()
            far.reset()
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_other_servers_open_streams_here_until_the_clients_have_moved(
    autojump_clock: MockClock,
) -> None:
    async with three_servers() as (_, leaving, callee, callers), callee.listen(80) as listener:
        near = await callers[0].open_stream(callee.pk, 80)
        far = await listener.accept()
        leaving.drain()
        await trio.sleep(MOVE_TIME - 0.1)
        links = [link.session.connection for link in leaving.peers.links.all]
        assert not any(connection.yamux._refuses for connection in links)
        await trio.sleep(0.2)
        assert all(connection.yamux._refuses for connection in links)
        await near.send_all(b"what runs goes on")
        assert await far.receive_some() == b"what runs goes on"
