"""The yamux machine, frame by frame."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dmsg_trio._errors import LocalProtocolError, RemoteProtocolError
from dmsg_trio._wire.yamux import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    HEADER_SIZE,
    INITIAL_WINDOW,
    LAST_STREAM_ID,
    MAX_SKIPPED,
    MAX_STREAMS,
    MAX_WINDOW,
    PING,
    RST,
    SYN,
    WINDOW,
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

GO_AWAY_PROTOCOL_ERROR = bytes.fromhex("00 03 0000 00000000 00000001")


def frame(
    kind: int, flags: int, stream_id: int, payload: bytes = b"", *, length: int | None = None
) -> bytes:
    return (
        HEADER.pack(0, kind, flags, stream_id, len(payload) if length is None else length) + payload
    )


def sent(yamux: YamuxConnection) -> bytes:
    return b"".join(yamux.data_to_send())


def received(stream_id: int, *chunks: bytes) -> DataReceived:
    return DataReceived(stream_id, [memoryview(chunk) for chunk in chunks], sum(map(len, chunks)))


def violation(events: list[Event]) -> str:
    """What the only event blames the peer for."""
    (event,) = events
    assert isinstance(event, ProtocolViolated)
    return str(event.error)


@pytest.fixture
def client() -> YamuxConnection:
    return YamuxConnection(client=True)


@pytest.fixture
def server() -> YamuxConnection:
    return YamuxConnection(client=False)


@pytest.fixture
def theirs(server: YamuxConnection) -> StreamState:
    """Stream 1 of ``server``, which its peer opened."""
    server.receive_data(frame(WINDOW, SYN, 1))
    return server.streams[1]


@pytest.fixture
def ours(client: YamuxConnection) -> StreamState:
    """Stream 1 of ``client``, whose SYN has been sent."""
    stream = client.open_stream()
    client.data_to_send()
    return stream


# ---- opening ----


def test_client_opens_odd_streams(client: YamuxConnection) -> None:
    assert [client.open_stream().stream_id for _ in range(3)] == [1, 3, 5]


def test_server_opens_even_streams(server: YamuxConnection) -> None:
    assert [server.open_stream().stream_id for _ in range(3)] == [2, 4, 6]


def test_stream_opens_with_a_window_update_of_zero_with_syn(server: YamuxConnection) -> None:
    server.open_stream()
    assert sent(server) == bytes.fromhex("00 01 0001 00000002 00000000")


def test_new_stream_has_the_initial_window_both_ways(client: YamuxConnection) -> None:
    stream = client.open_stream()
    assert (stream.send_window, stream.receive_window) == (256 * 1024, 256 * 1024)


@pytest.mark.parametrize(("is_client", "stream_id"), [(True, 2), (False, 1)])
def test_peer_opens_a_stream_by_window_update(is_client: bool, stream_id: int) -> None:
    yamux = YamuxConnection(client=is_client)
    assert yamux.receive_data(frame(WINDOW, SYN, stream_id)) == [StreamOpened(stream_id)]
    assert yamux.streams[stream_id].send_window == INITIAL_WINDOW


@pytest.mark.parametrize(("is_client", "stream_id"), [(True, 2), (False, 1)])
def test_peer_opens_a_stream_by_data(is_client: bool, stream_id: int) -> None:
    yamux = YamuxConnection(client=is_client)
    events = yamux.receive_data(frame(DATA, SYN, stream_id, b"hello"))
    assert events == [StreamOpened(stream_id), received(stream_id, b"hello")]


def test_syn_may_carry_a_grant(server: YamuxConnection) -> None:
    events = server.receive_data(frame(WINDOW, SYN, 1, length=1000))
    assert events == [StreamOpened(1), WindowGrown(1)]
    assert server.streams[1].send_window == INITIAL_WINDOW + 1000


def test_syn_may_carry_the_end(server: YamuxConnection) -> None:
    events = server.receive_data(frame(DATA, SYN | FIN, 1, b"all of it"))
    assert events == [StreamOpened(1), received(1, b"all of it"), StreamEnded(1)]


def test_syn_may_carry_a_reset(server: YamuxConnection) -> None:
    assert server.receive_data(frame(WINDOW, SYN | RST, 1)) == [StreamOpened(1), StreamReset(1)]
    assert server.streams == {}


def test_nothing_is_said_about_an_opened_stream_before_it_is_used(
    server: YamuxConnection, theirs: StreamState
) -> None:
    assert theirs.stream_id == 1
    assert sent(server) == b""


def test_first_data_acknowledges(server: YamuxConnection, theirs: StreamState) -> None:
    server.send_data(theirs, [b"a"], 1)
    server.send_data(theirs, [b"b"], 1)
    assert sent(server) == frame(DATA, ACK, 1, b"a") + frame(DATA, 0, 1, b"b")


def test_first_grant_acknowledges(server: YamuxConnection, theirs: StreamState) -> None:
    server.grant(theirs, 5)
    server.grant(theirs, 6)
    assert sent(server) == frame(WINDOW, ACK, 1, length=5) + frame(WINDOW, 0, 1, length=6)


def test_grant_of_nothing_is_a_bare_acknowledgement(
    server: YamuxConnection, theirs: StreamState
) -> None:
    server.grant(theirs, 0)
    assert sent(server) == bytes.fromhex("00 01 0002 00000001 00000000")


def test_end_acknowledges_if_nothing_did_before(
    server: YamuxConnection, theirs: StreamState
) -> None:
    server.end(theirs)
    assert sent(server) == bytes.fromhex("00 01 0006 00000001 00000000")


def test_reset_never_acknowledges(server: YamuxConnection, theirs: StreamState) -> None:
    server.reset(theirs)
    assert sent(server) == bytes.fromhex("00 01 0008 00000001 00000000")


def test_nothing_of_ours_carries_an_acknowledgement(
    client: YamuxConnection, ours: StreamState
) -> None:
    client.send_data(ours, [b"a"], 1)
    assert sent(client) == frame(DATA, 0, 1, b"a")


def test_acknowledgement_by_the_peer_is_no_event(
    client: YamuxConnection, ours: StreamState
) -> None:
    assert client.receive_data(frame(WINDOW, ACK, ours.stream_id)) == []


def test_acknowledgement_may_carry_a_grant(client: YamuxConnection, ours: StreamState) -> None:
    assert client.receive_data(frame(WINDOW, ACK, 1, length=7)) == [WindowGrown(1)]
    assert ours.send_window == INITIAL_WINDOW + 7


@pytest.mark.parametrize(
    ("is_client", "stream_id"), [(True, 1), (True, 3), (False, 2), (True, 0), (False, 0)]
)
def test_stream_that_is_not_the_peers_to_open_breaks_the_protocol(
    is_client: bool, stream_id: int
) -> None:
    events = YamuxConnection(client=is_client).receive_data(frame(WINDOW, SYN, stream_id))
    assert violation(events) == f"SYN for stream {stream_id}, which is not the peer's to open"


def test_second_syn_of_an_open_stream_breaks_the_protocol(
    server: YamuxConnection, theirs: StreamState
) -> None:
    events = server.receive_data(frame(DATA, SYN, theirs.stream_id, b"again"))
    assert violation(events) == "second SYN for stream 1"


def test_id_of_a_stream_that_is_gone_cannot_be_used_again(
    server: YamuxConnection, theirs: StreamState
) -> None:
    server.reset(theirs)
    assert violation(server.receive_data(frame(WINDOW, SYN, 1))) == "second SYN for stream 1"


@pytest.mark.parametrize(("is_client", "ids"), [(True, [6, 2, 4, 8]), (False, [5, 3, 1, 7])])
def test_openers_may_race_each_other(is_client: bool, ids: list[int]) -> None:
    yamux = YamuxConnection(client=is_client)
    events = yamux.receive_data(b"".join(frame(WINDOW, SYN, stream_id) for stream_id in ids))
    assert events == [StreamOpened(stream_id) for stream_id in ids]


def test_late_id_can_be_used_only_once(server: YamuxConnection) -> None:
    server.receive_data(frame(WINDOW, SYN, 3) + frame(WINDOW, SYN | RST, 1))
    assert violation(server.receive_data(frame(WINDOW, SYN, 1))) == "second SYN for stream 1"


def test_an_id_may_be_late_by_so_much_and_no_more(server: YamuxConnection) -> None:
    far = 1 + 2 * MAX_SKIPPED + 2
    server.receive_data(frame(WINDOW, SYN, far))
    assert server.receive_data(frame(WINDOW, SYN, 3)) == [StreamOpened(3)]
    assert violation(server.receive_data(frame(WINDOW, SYN, 1))) == "second SYN for stream 1"


def test_oldest_late_ids_are_forgotten_first(server: YamuxConnection) -> None:
    server.receive_data(frame(WINDOW, SYN, 5))
    server.receive_data(frame(WINDOW, SYN, 5 + 2 * MAX_SKIPPED))  # skips all but one that it may
    assert server.receive_data(frame(WINDOW, SYN, 3)) == [StreamOpened(3)]
    assert violation(server.receive_data(frame(WINDOW, SYN, 1))) == "second SYN for stream 1"


def test_highest_id_that_fits_can_be_opened_by_the_peer(server: YamuxConnection) -> None:
    assert server.receive_data(frame(WINDOW, SYN, 2**32 - 1)) == [StreamOpened(2**32 - 1)]


@pytest.mark.parametrize(
    ("is_client", "last"), [(True, LAST_STREAM_ID), (False, LAST_STREAM_ID - 1)]
)
def test_last_id_is_used_and_then_no_stream_can_be_opened(is_client: bool, last: int) -> None:
    yamux = YamuxConnection(client=is_client)
    yamux._next_id = last - 2
    opened = []
    while yamux.can_open:
        opened.append(yamux.open_stream().stream_id)
    assert opened == [last - 2, last]
    with pytest.raises(LocalProtocolError, match="ids are used up"):
        yamux.open_stream()


# ---- refusing ----


def test_stream_above_the_limit_is_reset_and_counted() -> None:
    yamux = YamuxConnection(client=False, max_streams=1)
    assert yamux.receive_data(frame(WINDOW, SYN, 1) + frame(WINDOW, SYN, 3)) == [StreamOpened(1)]
    assert sent(yamux) == bytes.fromhex("00 01 0008 00000003 00000000")
    assert yamux.refused == 1


def test_limit_is_what_it_says(server: YamuxConnection) -> None:
    ids = range(1, 2 * MAX_STREAMS + 2, 2)
    server.receive_data(b"".join(frame(WINDOW, SYN, stream_id) for stream_id in ids))
    assert (len(server.streams), server.refused) == (MAX_STREAMS, 1)


def test_our_own_streams_count_for_the_limit() -> None:
    yamux = YamuxConnection(client=False, max_streams=1)
    yamux.open_stream()
    assert yamux.receive_data(frame(WINDOW, SYN, 1)) == []


def test_place_of_a_stream_that_is_gone_can_be_taken() -> None:
    yamux = YamuxConnection(client=False, max_streams=1)
    yamux.receive_data(frame(WINDOW, SYN | RST, 1))
    assert yamux.receive_data(frame(WINDOW, SYN, 3)) == [StreamOpened(3)]


def test_data_of_a_refused_stream_is_skipped() -> None:
    yamux = YamuxConnection(client=False, max_streams=0)
    data = frame(DATA, SYN, 1, b"hello") + frame(DATA, FIN, 1, b"bye") + frame(PING, SYN, 0)
    assert yamux.receive_data(data) == [PingReceived(0)]


def test_refused_id_cannot_be_used_again() -> None:
    yamux = YamuxConnection(client=False, max_streams=0)
    yamux.receive_data(frame(WINDOW, SYN, 1))
    assert violation(yamux.receive_data(frame(WINDOW, SYN, 1))) == "second SYN for stream 1"


# ---- data and windows ----


def test_data_is_one_header_and_the_chunks_that_were_given(
    client: YamuxConnection, ours: StreamState
) -> None:
    chunks: list[Buffer] = [b"one", bytearray(b"two"), memoryview(b"three")]
    client.send_data(ours, chunks, 11)
    header, *rest = client.data_to_send()
    assert header == bytes.fromhex("00 00 0000 00000001 0000000b")
    assert all(given is taken for given, taken in zip(chunks, rest, strict=True))


def test_what_is_to_be_sent_is_given_once(client: YamuxConnection) -> None:
    client.open_stream()
    assert sent(client) != b""
    assert client.data_to_send() == []


def test_sending_uses_the_window_up(client: YamuxConnection, ours: StreamState) -> None:
    client.send_data(ours, [bytes(INITIAL_WINDOW)], INITIAL_WINDOW)
    assert ours.send_window == 0
    with pytest.raises(LocalProtocolError, match="stream 1: 1 bytes into a window of 0"):
        client.send_data(ours, [b"x"], 1)


def test_call_that_was_refused_sends_nothing(client: YamuxConnection, ours: StreamState) -> None:
    with pytest.raises(LocalProtocolError):
        client.send_data(ours, [bytes(INITIAL_WINDOW + 1)], INITIAL_WINDOW + 1)
    assert client.data_to_send() == []
    assert ours.send_window == INITIAL_WINDOW


def test_grant_of_the_peer_lets_us_send_more(client: YamuxConnection, ours: StreamState) -> None:
    assert client.receive_data(frame(WINDOW, 0, 1, length=10)) == [WindowGrown(1)]
    client.send_data(ours, [bytes(INITIAL_WINDOW + 10)], INITIAL_WINDOW + 10)
    assert ours.send_window == 0


def test_grant_of_nothing_is_no_event(client: YamuxConnection, ours: StreamState) -> None:
    assert client.receive_data(frame(WINDOW, 0, ours.stream_id, length=0)) == []


def test_grants_of_the_peer_may_add_up_to_32_bits(
    client: YamuxConnection, ours: StreamState
) -> None:
    client.receive_data(frame(WINDOW, 0, 1, length=MAX_WINDOW - INITIAL_WINDOW))
    assert ours.send_window == MAX_WINDOW
    assert violation(client.receive_data(frame(WINDOW, 0, 1, length=1))) == (
        f"stream 1: a grant of 1 on top of {MAX_WINDOW}"
    )


def test_our_grants_may_add_up_to_32_bits(server: YamuxConnection, theirs: StreamState) -> None:
    server.grant(theirs, MAX_WINDOW - INITIAL_WINDOW)
    server.data_to_send()
    with pytest.raises(LocalProtocolError, match=f"a grant of 1 on top of {MAX_WINDOW}"):
        server.grant(theirs, 1)
    assert server.data_to_send() == []


def test_peer_may_fill_its_window_to_the_last_byte(
    server: YamuxConnection, theirs: StreamState
) -> None:
    server.receive_data(frame(DATA, 0, 1, bytes(INITIAL_WINDOW)))
    assert theirs.receive_window == 0


def test_data_beyond_the_window_breaks_the_protocol(
    server: YamuxConnection, theirs: StreamState
) -> None:
    server.receive_data(frame(DATA, 0, 1, bytes(INITIAL_WINDOW - 1)))
    events = server.receive_data(frame(DATA, 0, theirs.stream_id, b"ab"))
    assert violation(events) == "stream 1: 2 bytes into a window of 1"


def test_data_beyond_the_window_is_refused_before_a_byte_of_it_came(
    server: YamuxConnection, theirs: StreamState
) -> None:
    events = server.receive_data(frame(DATA, 0, theirs.stream_id, length=MAX_WINDOW))
    assert violation(events) == f"stream 1: {MAX_WINDOW} bytes into a window of {INITIAL_WINDOW}"


def test_data_with_syn_cannot_exceed_the_window_either(server: YamuxConnection) -> None:
    opened, violated = server.receive_data(frame(DATA, SYN, 1, length=INITIAL_WINDOW + 1))
    assert opened == StreamOpened(1)
    assert isinstance(violated, ProtocolViolated)


def test_granting_lets_the_peer_send_more(server: YamuxConnection, theirs: StreamState) -> None:
    server.grant(theirs, 1)
    server.receive_data(frame(DATA, 0, 1, bytes(INITIAL_WINDOW + 1)))
    assert theirs.receive_window == 0


def test_each_stream_has_its_own_window(server: YamuxConnection, theirs: StreamState) -> None:
    server.receive_data(frame(DATA, SYN, 3, b"12345"))
    assert server.streams[3].receive_window == INITIAL_WINDOW - 5
    assert theirs.receive_window == INITIAL_WINDOW


@pytest.mark.parametrize("stream_id", [0, 1, 2, 99])
@pytest.mark.parametrize("flags", [0, ACK, FIN, RST])
def test_frames_of_a_stream_that_never_was_are_skipped(
    server: YamuxConnection, flags: int, stream_id: int
) -> None:
    data = frame(DATA, flags, stream_id, b"lost") + frame(
        WINDOW, flags, stream_id, length=MAX_WINDOW
    )
    assert server.receive_data(data + frame(PING, SYN, 0)) == [PingReceived(0)]
    assert server.data_to_send() == []


# ---- pieces ----


def test_neighbouring_frames_of_one_stream_come_out_as_one_event(
    server: YamuxConnection, theirs: StreamState
) -> None:
    events = server.receive_data(frame(DATA, 0, 1, b"one") + frame(DATA, 0, 1, b"two"))
    assert events == [received(theirs.stream_id, b"one", b"two")]


def test_frames_of_other_streams_keep_their_place(server: YamuxConnection) -> None:
    server.receive_data(frame(WINDOW, SYN, 1) + frame(WINDOW, SYN, 3))
    data = frame(DATA, 0, 1, b"a") + frame(DATA, 0, 3, b"b") + frame(DATA, 0, 1, b"c")
    assert server.receive_data(data) == [received(1, b"a"), received(3, b"b"), received(1, b"c")]


def test_other_events_keep_their_place_between_data(
    server: YamuxConnection, theirs: StreamState
) -> None:
    data = frame(DATA, 0, 1, b"a") + frame(WINDOW, 0, 1, length=1) + frame(DATA, 0, 1, b"b")
    assert server.receive_data(data) == [received(1, b"a"), WindowGrown(1), received(1, b"b")]
    assert theirs.send_window == INITIAL_WINDOW + 1


def test_empty_data_frame_is_no_event(server: YamuxConnection, theirs: StreamState) -> None:
    assert server.receive_data(frame(DATA, 0, theirs.stream_id)) == []


def test_half_a_frame_is_handed_on_at_once(server: YamuxConnection, theirs: StreamState) -> None:
    whole = frame(DATA, FIN, theirs.stream_id, b"hello")
    assert server.receive_data(whole[: HEADER_SIZE + 2]) == [received(1, b"he")]
    assert server.receive_data(b"") == []
    assert server.receive_data(whole[HEADER_SIZE + 2 :]) == [received(1, b"llo"), StreamEnded(1)]


def test_half_a_header_is_kept(server: YamuxConnection) -> None:
    whole = frame(PING, SYN, 0, length=7)
    assert server.receive_data(whole[:5]) == []
    assert server.receive_data(whole[5:11]) == []
    assert server.receive_data(whole[11:]) == [PingReceived(7)]


def test_window_is_used_by_what_has_arrived_of_a_frame(
    server: YamuxConnection, theirs: StreamState
) -> None:
    whole = frame(DATA, 0, theirs.stream_id, bytes(1000))
    server.receive_data(whole[: HEADER_SIZE + 300])
    assert theirs.receive_window == INITIAL_WINDOW - 300
    server.receive_data(whole[HEADER_SIZE + 300 :])
    assert theirs.receive_window == INITIAL_WINDOW - 1000


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_may_be_any_buffer(
    server: YamuxConnection, kind: type[bytes | bytearray | memoryview]
) -> None:
    data = kind(frame(DATA, SYN, 1, b"hello"))
    assert server.receive_data(data) == [StreamOpened(1), received(1, b"hello")]


def test_chunks_are_views_of_what_was_passed_in(
    server: YamuxConnection, theirs: StreamState
) -> None:
    buffer = bytearray(frame(DATA, 0, theirs.stream_id, b"hello") + frame(DATA, 0, 1, b"you"))
    (event,) = server.receive_data(buffer)
    assert isinstance(event, DataReceived)
    assert all(chunk.obj is buffer for chunk in event.chunks)
    buffer[HEADER_SIZE] = ord("j")
    assert bytes(event.chunks[0]) == b"jello"


def test_kept_header_does_not_hold_the_buffer(server: YamuxConnection) -> None:
    buffer = bytearray(frame(PING, SYN, 0)[:7])
    server.receive_data(buffer)
    buffer += b"a buffer that is held cannot grow"


# ---- ending ----


def test_end_is_a_window_update_of_zero_with_fin(
    client: YamuxConnection, ours: StreamState
) -> None:
    client.end(ours)
    assert sent(client) == bytes.fromhex("00 01 0004 00000001 00000000")


def test_second_end_has_no_effect(client: YamuxConnection, ours: StreamState) -> None:
    client.end(ours)
    client.data_to_send()
    client.end(ours)
    assert client.data_to_send() == []


def test_nothing_can_be_sent_after_our_end(client: YamuxConnection, ours: StreamState) -> None:
    client.end(ours)
    with pytest.raises(LocalProtocolError, match="stream 1: data after its end"):
        client.send_data(ours, [b"x"], 1)


@pytest.mark.parametrize("kind", [DATA, WINDOW])
def test_peer_ends_its_direction_by_either_frame(
    server: YamuxConnection, theirs: StreamState, kind: int
) -> None:
    assert server.receive_data(frame(kind, FIN, 1)) == [StreamEnded(1)]
    assert (theirs.remote_ended, theirs.local_ended) == (True, False)


def test_data_of_the_frame_comes_before_its_end(
    server: YamuxConnection, theirs: StreamState
) -> None:
    events = server.receive_data(frame(DATA, FIN, theirs.stream_id, b"bye"))
    assert events == [received(1, b"bye"), StreamEnded(1)]


def test_grant_may_carry_the_end(server: YamuxConnection, theirs: StreamState) -> None:
    events = server.receive_data(frame(WINDOW, FIN, theirs.stream_id, length=5))
    assert events == [WindowGrown(1), StreamEnded(1)]


def test_end_is_seen_once(server: YamuxConnection, theirs: StreamState) -> None:
    server.receive_data(frame(WINDOW, FIN, theirs.stream_id))
    assert server.receive_data(frame(WINDOW, FIN, 1) + frame(DATA, FIN, 1)) == []


def test_we_may_send_after_the_peers_end(server: YamuxConnection, theirs: StreamState) -> None:
    server.receive_data(frame(WINDOW, FIN, 1))
    server.send_data(theirs, [b"still here"], 10)
    assert sent(server) == frame(DATA, ACK, 1, b"still here")


def test_peer_may_grant_after_its_end(server: YamuxConnection, theirs: StreamState) -> None:
    server.receive_data(frame(WINDOW, FIN, theirs.stream_id))
    assert server.receive_data(frame(WINDOW, 0, 1, length=9)) == [WindowGrown(1)]


def test_peer_may_send_after_our_end(client: YamuxConnection, ours: StreamState) -> None:
    client.end(ours)
    assert client.receive_data(frame(DATA, 0, 1, b"still here")) == [received(1, b"still here")]


def test_we_may_grant_after_our_end(client: YamuxConnection, ours: StreamState) -> None:
    client.end(ours)
    client.data_to_send()
    client.grant(ours, 9)
    assert sent(client) == frame(WINDOW, 0, 1, length=9)


def test_grant_after_the_peers_end_has_no_effect(
    server: YamuxConnection, theirs: StreamState
) -> None:
    server.receive_data(frame(WINDOW, FIN, 1))
    server.grant(theirs, 9)
    assert server.data_to_send() == []
    assert theirs.receive_window == INITIAL_WINDOW


def test_stream_is_gone_when_we_end_after_the_peer(
    server: YamuxConnection, theirs: StreamState
) -> None:
    server.receive_data(frame(WINDOW, FIN, 1))
    assert server.streams == {1: theirs}
    server.end(theirs)
    assert server.streams == {}


def test_stream_is_gone_when_the_peer_ends_after_us(
    client: YamuxConnection, ours: StreamState
) -> None:
    client.end(ours)
    assert client.streams == {1: ours}
    assert client.receive_data(frame(WINDOW, FIN, 1)) == [StreamEnded(1)]
    assert client.streams == {}


def test_stream_is_gone_after_the_last_byte_of_the_frame_that_ends_it(
    client: YamuxConnection, ours: StreamState
) -> None:
    client.end(ours)
    whole = frame(DATA, FIN, 1, b"bye")
    client.receive_data(whole[:-1])
    assert client.streams == {1: ours}
    assert client.receive_data(whole[-1:]) == [received(1, b"e"), StreamEnded(1)]
    assert client.streams == {}


def test_data_after_the_peers_end_is_skipped(server: YamuxConnection, theirs: StreamState) -> None:
    server.receive_data(frame(WINDOW, FIN, 1))
    events = server.receive_data(frame(DATA, 0, 1, b"late") + frame(PING, SYN, 0))
    assert events == [PingReceived(0)]
    assert server.streams == {1: theirs}


def test_data_after_the_peers_end_still_needs_a_window(
    server: YamuxConnection, theirs: StreamState
) -> None:
    server.receive_data(frame(WINDOW, FIN, theirs.stream_id))
    events = server.receive_data(frame(DATA, 0, 1, length=INITIAL_WINDOW + 1))
    assert violation(events) == (
        f"stream 1: {INITIAL_WINDOW + 1} bytes into a window of {INITIAL_WINDOW}"
    )


def test_data_after_the_peers_end_can_end_nothing(
    server: YamuxConnection, theirs: StreamState
) -> None:
    server.receive_data(frame(DATA, FIN, theirs.stream_id, b"bye"))
    assert server.receive_data(frame(DATA, FIN, 1, b"late")) == []


def test_data_after_the_peers_end_can_still_reset(
    server: YamuxConnection, theirs: StreamState
) -> None:
    server.receive_data(frame(WINDOW, FIN, theirs.stream_id))
    assert server.receive_data(frame(DATA, RST, 1, b"late")) == [StreamReset(1)]
    assert server.streams == {}


# ---- resetting ----


def test_reset_is_a_window_update_of_zero_with_rst(
    client: YamuxConnection, ours: StreamState
) -> None:
    client.reset(ours)
    assert sent(client) == bytes.fromhex("00 01 0008 00000001 00000000")
    assert client.streams == {}


@pytest.mark.parametrize("kind", [DATA, WINDOW])
def test_peer_resets_by_either_frame(
    server: YamuxConnection, theirs: StreamState, kind: int
) -> None:
    assert server.receive_data(frame(kind, RST, theirs.stream_id)) == [StreamReset(1)]
    assert server.streams == {}


def test_data_of_the_frame_comes_before_its_reset(
    server: YamuxConnection, theirs: StreamState
) -> None:
    events = server.receive_data(frame(DATA, RST, theirs.stream_id, b"bye"))
    assert events == [received(1, b"bye"), StreamReset(1)]


def test_reset_hides_an_end_in_the_same_frame(server: YamuxConnection, theirs: StreamState) -> None:
    events = server.receive_data(frame(WINDOW, FIN | RST, theirs.stream_id))
    assert events == [StreamReset(1)]


def test_reset_reaches_a_stream_that_both_sides_use_half(
    client: YamuxConnection, ours: StreamState
) -> None:
    client.end(ours)
    assert client.receive_data(frame(WINDOW, RST, 1)) == [StreamReset(1)]
    assert client.streams == {}


def test_stream_that_we_reset_is_silent(server: YamuxConnection, theirs: StreamState) -> None:
    server.reset(theirs)
    data = (
        frame(DATA, 0, 1, b"late")
        + frame(WINDOW, 0, 1, length=5)
        + frame(WINDOW, FIN, 1)
        + frame(WINDOW, RST, 1)
    )
    assert server.receive_data(data + frame(PING, SYN, 0)) == [PingReceived(0)]


@pytest.mark.parametrize("flags", [0, FIN, RST])
def test_rest_of_a_frame_is_skipped_when_we_reset_in_its_middle(
    server: YamuxConnection, theirs: StreamState, flags: int
) -> None:
    whole = frame(DATA, flags, 1, b"hello") + frame(PING, SYN, 0)
    server.receive_data(whole[: HEADER_SIZE + 2])
    server.reset(theirs)
    assert server.receive_data(whole[HEADER_SIZE + 2 :]) == [PingReceived(0)]


def test_other_streams_frame_goes_on_when_we_reset_in_its_middle(
    server: YamuxConnection, theirs: StreamState
) -> None:
    whole = frame(DATA, SYN, 3, b"hello")
    server.receive_data(whole[:-2])
    server.reset(theirs)
    assert server.receive_data(whole[-2:]) == [received(3, b"lo")]


@pytest.mark.parametrize("by_peer", [True, False])
def test_nothing_has_an_effect_on_a_stream_that_was_reset(
    server: YamuxConnection, theirs: StreamState, by_peer: bool
) -> None:
    if by_peer:
        server.receive_data(frame(WINDOW, RST, 1))
    else:
        server.reset(theirs)
    server.data_to_send()
    server.send_data(theirs, [b"x"], 1)
    server.grant(theirs, 5)
    server.end(theirs)
    server.reset(theirs)
    assert server.data_to_send() == []


@pytest.mark.parametrize("by_peer", [True, False])
def test_reset_is_not_taken_for_an_end(
    server: YamuxConnection, theirs: StreamState, by_peer: bool
) -> None:
    if by_peer:
        server.receive_data(frame(WINDOW, RST, 1))
    else:
        server.reset(theirs)
    assert (theirs.local_ended, theirs.remote_ended) == (False, False)


# ---- pings and go-away ----


def test_ping_carries_its_value(client: YamuxConnection) -> None:
    client.ping(0xDEADBEEF)
    assert sent(client) == bytes.fromhex("00 02 0001 00000000 deadbeef")


def test_pong_carries_the_value_back(client: YamuxConnection) -> None:
    client.pong(0xDEADBEEF)
    assert sent(client) == bytes.fromhex("00 02 0002 00000000 deadbeef")


def test_pings_and_pongs_are_told_apart(client: YamuxConnection) -> None:
    data = frame(PING, SYN, 0, length=1) + frame(PING, ACK, 0, length=2)
    assert client.receive_data(data) == [PingReceived(1), PongReceived(2)]


@pytest.mark.parametrize("code", GoAwayCode)
def test_go_away_carries_its_code(client: YamuxConnection, code: GoAwayCode) -> None:
    client.go_away(code)
    assert sent(client) == bytes.fromhex("00 03 0000 00000000") + code.to_bytes(4)


def test_after_our_go_away_streams_of_the_peer_are_reset_and_counted(
    server: YamuxConnection,
) -> None:
    server.go_away()
    server.data_to_send()
    assert server.receive_data(frame(WINDOW, SYN, 1)) == []
    assert sent(server) == bytes.fromhex("00 01 0008 00000001 00000000")
    assert server.refused == 1


def test_after_a_lenient_go_away_streams_of_the_peer_are_taken_until_the_next(
    server: YamuxConnection,
) -> None:
    server.go_away(refuse=False)
    assert sent(server) == frame(GO_AWAY, 0, 0)
    assert server.receive_data(frame(WINDOW, SYN, 1)) == [StreamOpened(1)]
    server.go_away()
    assert server.receive_data(frame(WINDOW, SYN, 3)) == []
    server.go_away(refuse=False)
    assert server.receive_data(frame(WINDOW, SYN, 5)) == []
    assert server.refused == 2


def test_after_our_go_away_we_may_open_streams(client: YamuxConnection) -> None:
    client.go_away()
    client.data_to_send()
    assert client.can_open
    client.open_stream()
    assert sent(client) == frame(WINDOW, SYN, 1)


@pytest.mark.parametrize("code", [0, 1, 2, 77])
def test_after_the_peers_go_away_we_open_no_stream(client: YamuxConnection, code: int) -> None:
    assert client.receive_data(frame(GO_AWAY, 0, 0, length=code)) == [GoneAway(code)]
    assert not client.can_open
    with pytest.raises(LocalProtocolError, match="the peer went away"):
        client.open_stream()


def test_open_streams_go_on_after_both_went_away(
    server: YamuxConnection, theirs: StreamState
) -> None:
    server.go_away()
    server.data_to_send()
    data = frame(GO_AWAY, 0, 0) + frame(DATA, 0, 1, b"in")
    assert server.receive_data(data) == [GoneAway(0), received(1, b"in")]
    server.send_data(theirs, [b"out"], 3)
    assert sent(server) == frame(DATA, ACK, 1, b"out")


def test_peer_that_went_away_may_open_streams(server: YamuxConnection) -> None:
    data = frame(GO_AWAY, 0, 0) + frame(WINDOW, SYN, 1)
    assert server.receive_data(data) == [GoneAway(0), StreamOpened(1)]


# ---- what breaks the protocol ----


@pytest.mark.parametrize("version", [1, 255])
def test_unknown_version_breaks_the_protocol(client: YamuxConnection, version: int) -> None:
    events = client.receive_data(HEADER.pack(version, PING, SYN, 0, 0))
    assert violation(events) == f"yamux version {version}, not 0"


@pytest.mark.parametrize("kind", [4, 255])
def test_unknown_type_breaks_the_protocol(client: YamuxConnection, kind: int) -> None:
    assert violation(client.receive_data(frame(kind, 0, 0))) == f"yamux frame type {kind}"


def test_unknown_flags_are_overlooked(server: YamuxConnection) -> None:
    assert server.receive_data(frame(WINDOW, 0xFFF0 | SYN, 1)) == [StreamOpened(1)]


def test_go_away_that_blames_the_peer_is_ready_after_a_violation(client: YamuxConnection) -> None:
    client.receive_data(frame(9, 0, 0))
    assert sent(client) == GO_AWAY_PROTOCOL_ERROR
    assert not client.can_open


def test_violation_is_the_last_event_after_what_came_before_it(server: YamuxConnection) -> None:
    data = frame(DATA, SYN, 1, b"good") + frame(9, 0, 0) + frame(DATA, 0, 1, b"never")
    *before, last = server.receive_data(data)
    assert before == [StreamOpened(1), received(1, b"good")]
    assert last == ProtocolViolated(RemoteProtocolError("yamux frame type 9"))


def test_nothing_is_taken_in_after_a_violation(server: YamuxConnection) -> None:
    server.receive_data(frame(9, 0, 0))
    server.data_to_send()
    assert server.receive_data(frame(DATA, SYN, 1, b"hello") + frame(9, 0, 0)) == []
    assert (server.streams, server.data_to_send()) == ({}, [])


def test_violations_are_equal_when_they_say_the_same() -> None:
    one, same, other = (ProtocolViolated(RemoteProtocolError(text)) for text in "aab")
    assert one == same != other
    assert len({one, same, other}) == 2
    assert one != GoneAway(1)


# ---- pieces do not matter ----

LENGTHS = st.integers(0, 40) | st.sampled_from(
    [INITIAL_WINDOW, INITIAL_WINDOW + 1, MAX_WINDOW - INITIAL_WINDOW, MAX_WINDOW]
)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A frame that is mostly sound; large bodies are left out, so what follows is in their place."""
    kind = draw(st.sampled_from([DATA, DATA, DATA, WINDOW, WINDOW, PING, GO_AWAY]))
    flags = draw(st.sampled_from([0, 0, SYN, SYN, ACK, FIN, RST]) | st.integers(0, 15))
    length = draw(LENGTHS)
    body = (
        draw(st.binary(min_size=length, max_size=length)) if kind == DATA and length < 99 else b""
    )
    return frame(kind, flags, draw(st.integers(0, 6)), body, length=length)


STREAMS_OF_FRAMES = st.lists(frames(), max_size=20).map(b"".join)
ANY_BYTES = st.binary(max_size=200)
ANY_HEADERS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1]),
        st.integers(0, 4),
        st.integers(0, 0xFFFF),
        st.integers(0, 2**32 - 1) | st.integers(0, 9),
        st.integers(0, 2**32 - 1) | st.integers(0, 30),
    ).map(lambda fields: HEADER.pack(*fields)),
    max_size=12,
).map(b"".join)


def told(yamux: YamuxConnection, pieces: list[bytes]) -> list[Event]:
    """All events of the pieces, neighbouring data put together as if it were one piece."""
    together: list[Event] = []
    for event in [event for piece in pieces for event in yamux.receive_data(piece)]:
        last = together[-1] if together else None
        if not isinstance(event, DataReceived):
            together.append(event)
        elif isinstance(last, DataReceived) and last.stream_id == event.stream_id:
            data = b"".join([*last.chunks, *event.chunks])
            together[-1] = replace(last, chunks=[memoryview(data)], size=last.size + event.size)
        else:
            data = b"".join(event.chunks)
            together.append(replace(event, chunks=[memoryview(data)]))
    return together


@given(
    data=STREAMS_OF_FRAMES | ANY_HEADERS | ANY_BYTES,
    cuts=st.lists(st.integers(0, 600), max_size=8),
    is_client=st.booleans(),
)
@example(
    data=frame(DATA, SYN, 1, b"a") + frame(DATA, FIN, 1, b"bc"), cuts=[13, 25], is_client=False
)
def test_pieces_do_not_matter(data: bytes, cuts: list[int], is_client: bool) -> None:
    whole, cut, bytewise = (YamuxConnection(client=is_client) for _ in range(3))
    for yamux in (whole, cut, bytewise):
        yamux.open_stream()
    bounds = [0, *sorted(cuts), len(data)]
    events = told(whole, [data])
    assert told(cut, [data[start:end] for start, end in pairwise(bounds)]) == events
    assert told(bytewise, [data[at : at + 1] for at in range(len(data))]) == events
    assert sent(whole) == sent(cut) == sent(bytewise)
    assert whole.streams == cut.streams == bytewise.streams
    assert all(isinstance(event, ProtocolViolated) <= (event is events[-1]) for event in events)
    assert all(stream.send_window <= MAX_WINDOW for stream in whole.streams.values())
    assert all(stream.receive_window >= 0 for stream in whole.streams.values())
