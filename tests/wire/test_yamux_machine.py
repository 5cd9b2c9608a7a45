"""Two yamux machines on a link that delivers whatever it likes of what is in flight.

The model knows what went into each direction of each stream; the machines must bring out the same.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dmsg_trio._wire.yamux import (
    HEADER_SIZE,
    INITIAL_WINDOW,
    RST,
    Buffer,
    DataReceived,
    Event,
    GoAwayCode,
    GoneAway,
    PingReceived,
    PongReceived,
    ProtocolViolated,
    StreamEnded,
    StreamOpened,
    StreamReset,
    StreamState,
    WindowGrown,
    YamuxConnection,
)

STEPS: Final = 80  # rules in one example
MAX_OPENED: Final = 4  # streams of one side in one example, so that rules meet on the same ones
PATTERN: Final = random.Random(0).randbytes(2**20)  # so that no byte is at home in two places
ROUNDS: Final = 50  # an answer to an answer is the most that two sound ends say

SIDES = st.sampled_from(["client", "server"])
SIZES = st.integers(0, 40) | st.integers(0, INITIAL_WINDOW) | st.just(2**32)
GRANTS = st.integers(0, 40) | st.integers(0, INITIAL_WINDOW)
CUTS = (
    st.integers(1, 40)
    | st.integers(HEADER_SIZE - 1, HEADER_SIZE + 1)
    | st.integers(1, 2 * INITIAL_WINDOW)
    | st.just(2**32)
)


@dataclass
class Direction:
    """What went into one direction of a stream, and what came out of it."""

    sent: bytearray = field(default_factory=bytearray, repr=False)
    received: bytearray = field(default_factory=bytearray, repr=False)
    granted: int = INITIAL_WINDOW
    ended: bool = False
    end_seen: bool = False


@dataclass
class Stream:
    """One stream as both sides know it, once they do."""

    stream_id: int
    opener: str
    states: dict[str, StreamState]
    reset_by: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)  # sides that were told of a reset or asked for one
    out_of: dict[str, Direction] = field(
        default_factory=lambda: {"client": Direction(), "server": Direction()}
    )

    @property
    def was_refused(self) -> bool:
        return len(self.states) == 1


def other(side: str) -> str:
    return "server" if side == "client" else "client"


def is_finished(stream: Stream, side: str) -> bool:
    """Whether this side has sent its end and seen the other one."""
    return stream.out_of[side].ended and stream.out_of[other(side)].end_seen


class YamuxMachine(RuleBasedStateMachine):
    """Rules do what a session could do; events are held against the model as they come out."""

    connection: type[YamuxConnection] = YamuxConnection
    sides = ("client", "server")

    def __init__(self) -> None:
        super().__init__()
        self.yamux = {side: self.connection(client=side == "client") for side in self.sides}
        self.in_flight = {side: bytearray() for side in self.sides}  # by who sent it
        self.pings: dict[str, list[int]] = {side: [] for side in self.sides}  # not yet answered
        self.gone_away: dict[str, list[int]] = {side: [] for side in self.sides}  # codes to be seen
        self.refuses: set[str] = set()  # sides that went away
        self.refused_by_other: set[str] = set()  # sides that were told of it
        self.streams: dict[int, Stream] = {}

    # ---- what a session may do ----

    @rule(side=SIDES)
    def open(self, side: str) -> None:
        yamux = self.yamux[side]
        assert yamux.can_open == (side not in self.refused_by_other)
        opened = sum(stream.opener == side for stream in self.streams.values())
        if yamux.can_open and opened < MAX_OPENED:
            state = yamux.open_stream()
            assert state.stream_id not in self.streams
            self.streams[state.stream_id] = Stream(state.stream_id, side, {side: state})

    def usable(self, side: str) -> list[Stream]:
        """Streams that this side knows and has not seen reset."""
        streams = self.streams.values()
        return [each for each in streams if side in each.states and side not in each.gone]

    def some_stream(self, data: st.DataObject, side: str) -> Stream | None:
        usable = self.usable(side)
        return data.draw(st.sampled_from(usable)) if usable else None

    @precondition(lambda self: bool(self.streams))
    @rule(side=SIDES, data=st.data(), size=SIZES, frames=st.integers(1, 3))
    def send(self, side: str, data: st.DataObject, size: int, frames: int) -> None:
        stream = self.some_stream(data, side)
        if stream is None or stream.out_of[side].ended:
            return
        state, direction = stream.states[side], stream.out_of[side]
        size = min(size, state.send_window)
        at = (len(direction.sent) + 977 * stream.stream_id) % (len(PATTERN) // 2)
        payload = PATTERN[at : at + min(size, len(PATTERN) // 2)]
        step = len(payload) // frames + 1
        for start in range(0, len(payload), step):
            chunk = payload[start : start + step]
            self.yamux[side].send_data(state, [chunk[:5], chunk[5:]], len(chunk))
        direction.sent += payload

    @precondition(lambda self: bool(self.streams))
    @rule(side=SIDES, data=st.data(), size=GRANTS)
    def grant(self, side: str, data: st.DataObject, size: int) -> None:
        if stream := self.some_stream(data, side):
            direction = stream.out_of[other(side)]
            self.yamux[side].grant(stream.states[side], size)
            direction.granted += 0 if direction.end_seen else size

    @precondition(lambda self: bool(self.streams))
    @rule(side=SIDES, data=st.data())
    def end(self, side: str, data: st.DataObject) -> None:
        if stream := self.some_stream(data, side):
            self.yamux[side].end(stream.states[side])
            stream.out_of[side].ended = True

    @precondition(lambda self: bool(self.streams))
    @rule(side=SIDES, data=st.data())
    def reset(self, side: str, data: st.DataObject) -> None:
        if stream := self.some_stream(data, side):
            self.reset_stream(side, stream)

    @precondition(lambda self: any(yamux._body_stream for yamux in self.yamux.values()))
    @rule()
    def reset_what_is_half_there(self) -> None:
        for side, yamux in self.yamux.items():
            if state := yamux._body_stream:
                self.reset_stream(side, self.streams[state.stream_id])

    def reset_stream(self, side: str, stream: Stream) -> None:
        if not is_finished(stream, side):
            stream.reset_by.add(side)
            stream.gone.add(side)
        self.yamux[side].reset(stream.states[side])

    @precondition(lambda self: any(stream.gone for stream in self.streams.values()))
    @rule(size=st.integers(1, INITIAL_WINDOW))
    def use_what_is_gone(self, size: int) -> None:
        self.collect()
        for stream in self.streams.values():
            for side in stream.gone:
                yamux, state = self.yamux[side], stream.states[side]
                if not stream.out_of[side].ended:
                    yamux.send_data(state, [bytes(size)], size)
                yamux.grant(state, size)
                yamux.end(state)
                yamux.reset(state)
                assert not yamux.data_to_send()

    @rule(side=SIDES, value=st.integers(0, 2**32 - 1))
    def ping(self, side: str, value: int) -> None:
        self.yamux[side].ping(value)
        self.pings[side].append(value)

    @precondition(lambda self: len(self.streams) > MAX_OPENED)
    @rule(side=SIDES, normal=st.booleans())
    def go_away(self, side: str, normal: bool) -> None:
        code = GoAwayCode.NORMAL if normal else GoAwayCode.INTERNAL_ERROR
        self.yamux[side].go_away(code)
        self.gone_away[side].append(code)
        self.refuses.add(side)

    # ---- what the link may do ----

    def collect(self) -> None:
        for side, yamux in self.yamux.items():
            self.in_flight[side] += b"".join(yamux.data_to_send())

    @rule(sender=SIDES, sizes=st.lists(CUTS, min_size=1, max_size=4))
    def deliver(self, sender: str, sizes: list[int]) -> None:
        self.collect()
        for size in sizes:
            self.deliver_piece(sender, size)

    def deliver_piece(self, sender: str, size: int) -> None:
        piece = bytes(self.in_flight[sender][:size])
        del self.in_flight[sender][:size]
        receiver = other(sender)
        for event in self.yamux[receiver].receive_data(piece):
            self.take(receiver, event)

    @rule()
    def settle(self) -> None:
        self.collect()
        for _ in range(ROUNDS):
            if not any(self.in_flight.values()):
                break
            for side in self.sides:
                self.deliver_piece(side, 2**32)
            self.collect()
        else:
            pytest.fail(f"still talking after {ROUNDS} rounds")
        self.check_quiescence()

    # ---- what must come out ----

    def take(self, side: str, event: Event) -> None:
        match event:
            case StreamOpened(stream_id):
                assert stream_id in self.streams
                stream = self.streams[stream_id]
                assert stream.opener == other(side)
                assert side not in stream.states
                assert side not in self.refuses
                # A stream that was opened and reset in one piece is out of the table already.
                stream.states[side] = self.yamux[side].streams.get(
                    stream_id, StreamState(stream_id, send_window=0)
                )
            case DataReceived(stream_id, chunks, size):
                data = b"".join(chunks)
                assert len(data) == size > 0
                direction = self.heard(side, stream_id).out_of[other(side)]
                assert not direction.end_seen
                came_next = direction.sent[len(direction.received) :][:size] == data
                assert came_next, "no diff: it takes minutes for so many bytes"
                direction.received += data
            case WindowGrown(stream_id):
                self.heard(side, stream_id)
            case StreamEnded(stream_id):
                direction = self.heard(side, stream_id).out_of[other(side)]
                assert direction.ended
                assert not direction.end_seen
                all_came = direction.received == direction.sent
                assert all_came
                direction.end_seen = True
            case StreamReset(stream_id):
                stream = self.heard(side, stream_id)
                assert other(side) in stream.reset_by or (
                    stream.was_refused and other(side) in self.refuses
                )
                stream.gone.add(side)
            case PingReceived(value):
                assert value in self.pings[other(side)]
                self.yamux[side].pong(value)
            case PongReceived(value):
                assert self.pings[side][:1] == [value]
                del self.pings[side][0]
            case GoneAway(code):
                assert self.gone_away[other(side)][:1] == [code]
                del self.gone_away[other(side)][0]
                self.refused_by_other.add(side)
            case ProtocolViolated(error):
                raise AssertionError(f"{side} blames the other side: {error}")

    def heard(self, side: str, stream_id: int) -> Stream:
        """The stream of an event, which this side must know of and must not have seen go."""
        assert stream_id in self.streams
        stream = self.streams[stream_id]
        assert side in stream.states
        assert side not in stream.gone
        return stream

    @invariant()
    def tables_hold_what_is_alive(self) -> None:
        for side in self.sides:
            alive = {
                stream.stream_id for stream in self.usable(side) if not is_finished(stream, side)
            }
            assert set(self.yamux[side].streams) == alive

    @invariant()
    def credit_is_never_negative_nor_more_than_was_granted(self) -> None:
        for side in self.sides:
            for stream in self.usable(side):
                state, out = stream.states[side], stream.out_of[side]
                assert 0 <= state.send_window <= out.granted - len(out.sent)
                into = stream.out_of[other(side)]
                assert state.receive_window == into.granted - len(into.received) >= 0

    def check_quiescence(self) -> None:
        """Nothing is in flight: both sides know the same, and everything has arrived."""
        tables = [set(self.yamux[side].streams) for side in self.sides]
        assert tables[0] == tables[1]
        assert not any(self.pings.values())
        assert not any(self.gone_away.values())
        for stream in self.streams.values():
            if stream.was_refused:
                assert stream.gone == {stream.opener}
            elif stream.reset_by:
                assert all(side in stream.gone or is_finished(stream, side) for side in self.sides)
            else:
                for side in self.sides:
                    self.check_that_all_arrived(stream, side)
        refused = dict.fromkeys(self.sides, 0)
        for stream in self.streams.values():
            refused[other(stream.opener)] += stream.was_refused
        assert {side: self.yamux[side].refused for side in self.sides} == refused

    def check_that_all_arrived(self, stream: Stream, side: str) -> None:
        direction = stream.out_of[side]
        sender, receiver = stream.states[side], stream.states[other(side)]
        all_came = direction.received == direction.sent
        assert all_came
        assert direction.end_seen == direction.ended
        if stream.stream_id in self.yamux[side].streams:
            credit = direction.granted - len(direction.sent)
            assert sender.send_window == receiver.receive_window == credit

    def teardown(self) -> None:
        self.settle()


TestYamux = YamuxMachine.TestCase
TestYamux.settings = settings(stateful_step_count=STEPS)


# ---- the machine bites: each of these faults must be found ----


class EndIsLost(YamuxConnection):
    def _close_untrusted(self, stream: StreamState, flags: int, events: list[Event]) -> None:
        if flags & RST:
            super()._close_untrusted(stream, flags, events)


class EndOvertakesData(YamuxConnection):
    def receive_data(self, data: Buffer) -> list[Event]:
        events = super().receive_data(data)
        return sorted(events, key=lambda event: not isinstance(event, StreamEnded))


class SenderCountsOneTooFew(YamuxConnection):
    def send_data(self, stream: StreamState, chunks: Sequence[Buffer], size: int) -> None:
        super().send_data(stream, chunks, size)
        stream.send_window += 1


class ReceiverCountsOneTooMany(YamuxConnection):
    def grant(self, stream: StreamState, size: int) -> None:
        super().grant(stream, size)
        stream.receive_window -= 1


class MergedFramesAreDeliveredTwice(YamuxConnection):
    def receive_data(self, data: Buffer) -> list[Event]:
        events = super().receive_data(data)
        for event in events:
            if isinstance(event, DataReceived) and len(event.chunks) > 1:
                event.chunks *= 2
                event.size *= 2
        return events


class HeaderThatLacksOneByteIsLost(YamuxConnection):
    def receive_data(self, data: Buffer) -> list[Event]:
        events = super().receive_data(data)
        if len(self._header) == HEADER_SIZE - 1:
            self._header.clear()
        return events


class ResetIsNotSent(YamuxConnection):
    def reset(self, stream: StreamState) -> None:
        super().reset(stream)
        self._outgoing = self._outgoing[:-1]


class ResetLeavesTheRestOfTheFrame(YamuxConnection):
    def reset(self, stream: StreamState) -> None:
        body_stream = self._body_stream
        super().reset(stream)
        self._body_stream = body_stream


class ResetLeavesTheStreamInTheTable(YamuxConnection):
    def _drop(self, stream: StreamState) -> None:
        stream.send_window = 0


class GoAwayRefusesNobody(YamuxConnection):
    def _open_untrusted(self, stream_id: int, events: list[Event]) -> StreamState | None:
        self._refuses = False
        return super()._open_untrusted(stream_id, events)


@pytest.mark.parametrize(
    "faulty",
    [
        EndIsLost,
        EndOvertakesData,
        SenderCountsOneTooFew,
        ReceiverCountsOneTooMany,
        MergedFramesAreDeliveredTwice,
        HeaderThatLacksOneByteIsLost,
        ResetIsNotSent,
        ResetLeavesTheRestOfTheFrame,
        ResetLeavesTheStreamInTheTable,
        GoAwayRefusesNobody,
    ],
)
def test_fault_is_found(faulty: type[YamuxConnection]) -> None:
    class FaultyMachine(YamuxMachine):
        connection = faulty

    quick = settings(
        max_examples=1000,  # it stops at the first find, long before
        stateful_step_count=STEPS,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(FaultyMachine, settings=quick)
