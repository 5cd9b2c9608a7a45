"""Streams between two clients, through a server, all in memory."""

from trio.testing import MockClock

from dmsg_trio.testing import Network


async def test_bytes_go_both_ways(autojump_clock: MockClock) -> None:
    async with Network() as network, network.client() as a, network.client() as b:
        listener = b.listen(80)
        near, far = await a.open_stream(b.pk, 80), await listener.accept()
        await near.send_all(b"hello")
        assert await far.receive_some() == b"hello"
        await far.send_all(b"and back")
        assert await near.receive_some() == b"and back"
