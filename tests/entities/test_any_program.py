"""Whatever two clients do with their streams: what was sent arrives, in order, and nothing is left."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from dmsg_trio.client import DmsgStream
from dmsg_trio.testing import Network
from tests.entities.parties import connect, connections
from tests.net.links import count_tasks, leftovers


@dataclass
class End:
    """One end of a stream, with what went through it as the model has it."""

    stream: DmsgStream
    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    saw_end: bool = False
    gave_up: bool = False

    async def receive(self) -> None:
        try:
            async for data in self.stream:
                self.received += data
            self.saw_end = True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def send(self, size: int, patience: float) -> None:
        data = bytes((len(self.sent) + index) % 251 for index in range(size))
        self.sent += data
        try:
            with trio.fail_after(patience):
                await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.gave_up = True
        except trio.TooSlowError:
            # What went out is a prefix; nothing may follow it, so the model ends here.
            self.gave_up = True
            self.stream.reset()


STREAMS = st.integers(0, 3)
SIDES = st.integers(0, 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), STREAMS, SIDES, st.sampled_from([0, 1, 5000, 300_000])),
        st.tuples(st.just("cancelled send"), STREAMS, SIDES, st.sampled_from([1, 700_000])),
        st.tuples(st.just("end"), STREAMS, SIDES, st.just(0)),
        st.tuples(st.just("reset"), STREAMS, SIDES, st.just(0)),
        st.tuples(st.just("restart"), STREAMS, SIDES, st.just(0)),
        st.tuples(st.just("sleep"), STREAMS, SIDES, st.integers(1, 40)),
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(steps=STEPS)
async def test_what_was_sent_arrives_in_order_and_nothing_is_left(
    autojump_clock: MockClock, steps: list[tuple[str, int, int, int]]
) -> None:
    async with Network(latency=0.01) as network, network.client() as a, network.client() as b:
        await trio.sleep(2)
        before = count_tasks()
        was_restarted = False
        async with trio.open_nursery() as nursery:
            pairs = []
            for port in range(80, 84):
                near, far = await connect(a, b, port)
                pairs.append((End(near), End(far)))
            for end in [end for pair in pairs for end in pair]:
                nursery.start_soon(end.receive)
            for action, which, side, number in steps:
                end = pairs[which][side]
                if action == "send" and not end.stream._mux.state.local_ended:
                    await end.send(number, patience=60)
                elif action == "cancelled send" and not end.stream._mux.state.local_ended:
                    await end.send(number, patience=0.001)
                elif action == "end":
                    await _end(end)
                elif action == "reset":
                    end.gave_up = True
                    end.stream.reset()
                elif action == "restart" and not was_restarted:
                    was_restarted = True
                    key = network.servers[0]._sk
                    await network.stop_server(network.servers[0])
                    await network.start_server(key)
                elif action == "sleep":
                    await trio.sleep(number)
            for end in [end for pair in pairs for end in pair]:
                await _end(end)
        for near_end, far_end in pairs:
            for end, other in ((near_end, far_end), (far_end, near_end)):
                assert other.sent.startswith(end.received)
                if not (was_restarted or end.gave_up or other.gave_up):
                    assert end.saw_end
                    assert end.received == other.sent
                await end.stream.aclose()
        await trio.sleep(60)
        left = leftovers(*connections(network, a, b))
        assert not any(left.values()), left
        assert count_tasks() == before
        again, accepted = await connect(a, b)
        await again.send_all(b"still here")
        assert await accepted.receive_some() == b"still here"


async def _end(end: End) -> None:
    try:
        await end.stream.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        end.gave_up = True
