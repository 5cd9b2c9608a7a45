"""Two joined streams between peers that do as they like: credit, order, and ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from dmsg_trio._net.carriers import Carrier
from dmsg_trio._net.mux import MuxConnection
from dmsg_trio._net.outbox import HARD_LIMIT, HIGH_WATER
from dmsg_trio._net.splice import CREDIT_BUDGET, Splice
from dmsg_trio._wire.yamux import (
    INITIAL_WINDOW,
    Buffer,
    DataReceived,
    ProtocolViolated,
    StreamEnded,
    StreamReset,
    StreamState,
    YamuxConnection,
)
from tests.net.links import accept


class Valve(Carrier):
    """Takes everything while it is open, and nothing while it is shut."""

    def __init__(self) -> None:
        self.is_open = True
        self.sent = bytearray()
        self._opened = trio.lowlevel.ParkingLot()

    def turn(self, *, is_open: bool) -> None:
        self.is_open = is_open
        if is_open:
            self._opened.unpark_all()

    async def receive(self) -> memoryview:
        await trio.sleep_forever()
        raise AssertionError

    def send_now(self, chunks: Sequence[Buffer]) -> int:
        if not self.is_open:
            return 0
        for chunk in chunks:
            self.sent += chunk
        return sum(map(len, chunks))

    async def send_some(self, chunks: Sequence[Buffer]) -> int:
        while not self.is_open:
            await self._opened.park()
        await trio.lowlevel.checkpoint()
        return self.send_now(chunks)

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    @property
    def peer(self) -> str:
        return "valve:0"


@dataclass
class Peer:
    """One end: its own yamux machine, and what it sent and got on the first stream."""

    yamux: YamuxConnection
    valve: Valve
    relay: MuxConnection
    stream: StreamState | None = None
    sent: int = 0
    received: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: bool = False

    def send(self, size: int) -> None:
        if self.stream is None or self.reset or self.stream.local_ended:
            return
        size = min(size, self.stream.send_window)
        data = bytes((self.sent + index) % 251 for index in range(size))
        self.yamux.send_data(self.stream, [data], size)
        self.sent += size

    def grant(self, size: int) -> None:
        if self.stream is not None and not self.reset:
            self.yamux.grant(self.stream, size)

    def end(self) -> None:
        if self.stream is not None:
            self.yamux.end(self.stream)

    def to_relay(self) -> None:
        data = b"".join(self.yamux.data_to_send())
        self.relay._take_untrusted(memoryview(data))

    def from_relay(self) -> None:
        data, self.valve.sent = bytes(self.valve.sent), bytearray()
        for event in self.yamux.receive_data(data):
            match event:
                case DataReceived(_, chunks, _):
                    self.received += b"".join(chunks)
                case StreamEnded():
                    self.ended = True
                case StreamReset():
                    self.reset = True
                case ProtocolViolated(error):
                    raise AssertionError(error)


@asynccontextmanager
async def open_joined() -> AsyncIterator[tuple[Splice, Peer, Peer]]:
    """Two peers and the splice between them, on connections of which only the writers run."""
    valves = Valve(), Valve()
    near, far = MuxConnection(valves[0], client=False), MuxConnection(valves[1], client=True)
    a = Peer(YamuxConnection(client=True), valves[0], near)
    b = Peer(YamuxConnection(client=False), valves[1], far)
    a.stream = a.yamux.open_stream()
    a.to_relay()
    splice = Splice(await accept(near), far.open_stream())
    far.flush()
    b.from_relay()
    [b.stream] = b.yamux.streams.values()
    async with trio.open_nursery() as nursery:
        for connection in (near, far):
            nursery.start_soon(connection._write)
        yield splice, a, b
        for connection in (near, far):
            connection._writing.cancel()


SIZES = st.sampled_from([0, 1, 4096, 65536, INITIAL_WINDOW, 3_000_000])
SIDES = st.sampled_from([0, 1])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), SIDES, SIZES),
        st.tuples(st.just("grant"), SIDES, SIZES),
        st.tuples(st.just("shut"), SIDES, st.just(0)),
        st.tuples(st.just("open"), SIDES, st.just(0)),
        st.tuples(st.just("end"), SIDES, st.just(0)),
        st.tuples(st.just("deliver"), SIDES, st.just(0)),
    ),
    max_size=25,
)


def check_credit(splice: Splice) -> None:
    for half in (splice.forward, splice.back):
        if not splice.finished.is_set() and not half.state.remote_ended:
            assert 0 <= half.state.receive_window <= half.other.state.send_window
        assert 0 <= half.connection.credit_lent <= CREDIT_BUDGET


@given(steps=STEPS)
async def test_no_peer_may_send_more_than_the_other_takes(
    autojump_clock: MockClock, steps: list[tuple[str, int, int]]
) -> None:
    async with open_joined() as (splice, *peers):
        for action, side, size in steps:
            peer = peers[side]
            match action:
                case "send":
                    peer.send(size)
                case "grant":
                    peer.grant(size)
                case "end":
                    peer.end()
                case "shut" | "open":
                    peer.valve.turn(is_open=action == "open")
            peer.to_relay()
            await wait_all_tasks_blocked()
            if action == "deliver":
                peer.from_relay()
            check_credit(splice)
        for peer in peers:
            peer.valve.turn(is_open=True)
        await wait_all_tasks_blocked()
        for peer, other in (peers, reversed(peers)):
            peer.end()
            peer.to_relay()
            await wait_all_tasks_blocked()
            other.from_relay()
        for peer, other in (peers, reversed(peers)):
            assert peer.ended or peer.reset
            if not peer.reset:
                assert len(peer.received) == other.sent
        assert splice.finished.is_set()
        for connection in (splice.forward.connection, splice.back.connection):
            assert not connection.yamux.streams
            assert not connection.stream_count
            assert connection.credit_lent == 0


async def test_a_receiver_that_takes_nothing_stops_its_sender_alone(
    autojump_clock: MockClock,
) -> None:
    async with open_joined() as (splice, a, b):
        b.valve.turn(is_open=False)
        for _ in range(100):
            b.grant(INITIAL_WINDOW)
            b.to_relay()
            a.send(INITIAL_WINDOW)
            a.to_relay()
            a.from_relay()
            await wait_all_tasks_blocked()
        assert splice.back.connection.outbox.size <= CREDIT_BUDGET + HIGH_WATER
        assert not splice.finished.is_set()
        b.valve.turn(is_open=True)
        await wait_all_tasks_blocked()
        b.from_relay()
        assert len(b.received) == a.sent


async def test_streams_that_outgrow_the_queue_of_one_reader_are_reset_and_no_others(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CREDIT_BUDGET < HARD_LIMIT
    monkeypatch.setattr("dmsg_trio._net.splice.HARD_LIMIT", INITIAL_WINDOW - 1)
    async with open_joined() as (splice, a, b):
        greedy = a.yamux.open_stream()
        a.to_relay()
        other = Splice(
            await accept(splice.forward.connection), splice.back.connection.open_stream()
        )
        b.valve.turn(is_open=False)
        a.send(INITIAL_WINDOW)
        a.to_relay()
        a.yamux.send_data(greedy, [b"too much"], 8)
        a.to_relay()
        assert other.finished.is_set()
        assert other.end_reason == "the destination does not read, and its queue is full"
        assert not splice.finished.is_set()
