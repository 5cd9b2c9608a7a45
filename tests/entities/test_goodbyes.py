"""A client that is cancelled: what its block still has to say is said."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import Client, DmsgStream
from dmsg_trio.testing import Network


async def say_goodbye_when_cancelled(stream: DmsgStream) -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.move_on_after(5, shield=True):
            await trio.sleep(2)
            await stream.send_all(b"goodbye")
            await stream.aclose()


async def test_who_is_cancelled_can_say_goodbye_in_a_shielded_scope(
    autojump_clock: MockClock,
) -> None:
    async with Network() as network, network.client() as b, b.listen(80) as listener:
        with trio.CancelScope() as scope:
            async with network.client() as a, trio.open_nursery() as nursery:
                stream = await a.open_stream(b.pk, 80)
                far = await listener.accept()
                nursery.start_soon(say_goodbye_when_cancelled, stream)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert await far.receive_some() == b"goodbye"
        assert await far.receive_some() == b""


@pytest.mark.parametrize("wait", [True, False])
async def test_who_is_cancelled_and_has_nothing_to_say_leaves_at_once(
    wait: bool, autojump_clock: MockClock
) -> None:
    left: list[Client] = []
    async with Network() as network:
        began = trio.current_time()
        with trio.move_on_after(1):
            async with network.client(wait=wait) as client:
                left.append(client)
                await trio.sleep_forever()
        assert trio.current_time() - began < 1.5
        assert not any(each.connection.is_open for each in left[0].sessions.values())


async def test_who_is_cancelled_while_it_joins_leaves_at_once(autojump_clock: MockClock) -> None:
    async with Network(servers=0) as network:
        began = trio.current_time()
        with trio.move_on_after(1) as scope:
            async with network.client():
                raise AssertionError("there is no server to register with")
        assert scope.cancelled_caught
        assert trio.current_time() - began < 1.5
