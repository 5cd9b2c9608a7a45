"""Whatever happens at whichever moment, all others live on. A moment is a step of one of Trio's tasks.

Every story is told once to count its moments, and then again and again, each time with the same
thing happening a little later. By night that is at each moment, otherwise at one of `STRIDE`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import httpx
import pytest
import trio
from hypothesis import settings
from trio.testing import MockClock

from dmsg_trio import Client, DmsgError
from dmsg_trio.http import DmsgTransport, serve_asgi
from dmsg_trio.testing import Network
from tests.http.parties import Site

STRIDE: Final = 1 if settings.get_current_profile_name() == "nightly" else 7
RECOVERY: Final = 100  # seconds after which everybody has noticed what happened
GOES_WRONG: Final = (DmsgError, trio.BrokenResourceError, trio.TooSlowError, httpx.HTTPError)

Story = Callable[[Network, Client], Awaitable[None]]
Happening = Callable[[Network, trio.CancelScope], Awaitable[None]]


# ---- stories, which end by themselves ----


async def a_client_comes_talks_and_goes(network: Network, host: Client) -> None:
    async with (
        network.client() as client,
        host.listen(7) as listener,
        await client.open_stream(host.pk, 7) as near,
        await listener.accept() as far,
    ):
        for source, target in (near, far), (far, near):
            await source.send_all(bytes(100_000))
            await source.send_eof()
            assert sum([len(piece) async for piece in target]) == 100_000


async def a_server_comes_and_drains(network: Network, _: Client) -> None:
    server = await network.start_server()
    async with network.client(min_sessions=3):
        await trio.sleep(5)
        server.drain()
        await trio.sleep(20)


async def pages_are_asked_for(network: Network, host: Client) -> None:
    site = Site()
    site.go_on.set()
    async with trio.open_nursery() as nursery, network.client() as client:
        await nursery.start(partial(serve_asgi, site.asgi(), host, 80))
        base_url = f"dmsg://{host.pk}"
        async with httpx.AsyncClient(transport=DmsgTransport(client), base_url=base_url) as http:
            assert (await http.post("/echo", content=bytes(30_000))).content == bytes(30_000)
            assert (await http.get("/slow-start")).text.endswith("the rest")
        nursery.cancel_scope.cancel()


# ---- what happens ----


async def it_is_cancelled(_: Network, scope: trio.CancelScope) -> None:
    scope.cancel()


async def a_server_drains(network: Network, _: trio.CancelScope) -> None:
    network.servers[0].drain()


async def a_server_crashes(network: Network, _: trio.CancelScope) -> None:
    await network.stop_server(network.servers[0])


async def a_server_falls_silent(network: Network, _: trio.CancelScope) -> None:
    network.cut_off(network.servers[0])


@pytest.mark.parametrize(
    "happening",
    [it_is_cancelled, a_server_drains, a_server_crashes, a_server_falls_silent],
    ids=lambda it: it.__name__,
)
@pytest.mark.parametrize(
    "story",
    [a_client_comes_talks_and_goes, a_server_comes_and_drains, pages_are_asked_for],
    ids=lambda it: it.__name__,
)
def test_the_others_live_on(
    story: Story, happening: Happening, caplog: pytest.LogCaptureFixture
) -> None:
    moments = _told(story, happening, at=None)
    assert moments > 100
    for moment in range(1, moments, STRIDE):
        with caplog.at_level(logging.WARNING):
            _told(story, happening, at=moment)
        faults = [record for record in caplog.records if record.exc_info]
        assert not faults, f"at moment {moment} of {moments}"


def _told(story: Story, happening: Happening, *, at: int | None) -> int:
    """Tell a story in a network of its own; say how many moments it took."""
    watch = _Watch(at)
    clock = MockClock(autojump_threshold=0)
    trio.run(_tell, story, happening, watch, clock=clock, instruments=[watch])
    return watch.moments


class _Watch(trio.abc.Instrument):
    """Counts moments, and tells when the one has come that is waited for."""

    def __init__(self, wanted: int | None) -> None:
        self.moments = 0
        self.is_counting = False
        self.has_come = trio.Event()
        self._wanted = wanted

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.moments += self.is_counting
        if self.is_counting and self.moments == self._wanted:
            self.has_come.set()


async def _tell(story: Story, happening: Happening, watch: _Watch) -> None:
    async with (
        Network(servers=2) as network,
        network.client() as host,
        network.client() as other,
        trio.open_nursery() as nursery,
    ):
        scope = trio.CancelScope()
        nursery.start_soon(_happen, happening, network, scope, watch)
        watch.is_counting = True
        with scope:
            try:
                await story(network, host)
            except* GOES_WRONG:
                assert watch.has_come.is_set()
        watch.is_counting = False
        watch.has_come.set()  # what has not happened by now is of no matter, but may be waited for
        await trio.sleep(RECOVERY)
        await _live_on(host, other)
        nursery.cancel_scope.cancel()


async def _happen(
    happening: Happening, network: Network, scope: trio.CancelScope, watch: _Watch
) -> None:
    await watch.has_come.wait()
    await happening(network, scope)


async def _live_on(host: Client, other: Client) -> None:
    with trio.fail_after(RECOVERY):
        async with (
            host.listen(9) as listener,
            await other.open_stream(host.pk, 9) as near,
            await listener.accept() as far,
        ):
            await near.send_all(b"hello")
            assert await far.receive_some() == b"hello"
