"""Frames of files/1, and the order in which a sender may say them."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio._errors import LocalProtocolError
from dmsg_trio._wire.file_copy import (
    MAX_DATA,
    MAX_DEPTH,
    Abandoned,
    At,
    Complete,
    CopyReader,
    Data,
    Done,
    Event,
    Failed,
    File,
    Finished,
    Folder,
    Get,
    Have,
    Link,
    Order,
    Put,
    Ready,
    Refused,
    Unreadable,
    Up,
    Violated,
    data_header,
    encode,
)

NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: name not in (b".", b"..") and b"/" not in name and b"\0" not in name
)
PATHS = st.binary(max_size=60).filter(lambda path: b"\0" not in path)
NUMBERS = st.integers(0, 2**63 - 1)
TIMES = st.integers(1 - 2**63, 2**63 - 1)
MODES = st.integers(0, 0o7777)
DIGESTS = st.binary(min_size=32, max_size=32)
REASONS = st.text(max_size=40)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Put, target=PATHS, several=st.booleans(), overwrite=st.booleans()),
    st.builds(Get, sources=st.lists(PATHS, min_size=1, max_size=4).map(tuple)),
    st.builds(Refused, REASONS),
    st.builds(Folder, NAMES | st.just(b""), MODES, TIMES),
    st.builds(Link, NAMES, PATHS, TIMES),
    st.builds(File, NAMES, NUMBERS, MODES, TIMES, st.booleans()),
    st.builds(At, NUMBERS),
    st.builds(Data, st.binary(min_size=1, max_size=300)),
    st.builds(Complete, DIGESTS),
    st.builds(Abandoned, REASONS),
    st.builds(Unreadable, PATHS, REASONS),
    st.builds(Have, NUMBERS, NUMBERS, DIGESTS),
    st.builds(Failed, NUMBERS, PATHS, REASONS),
    st.sampled_from([Ready(), Up(), Done(), Finished()]),
)


def joined(events: list[Event | Violated]) -> list[Event | Violated]:
    """Put together pieces of content that follow each other."""
    together: list[Event | Violated] = []
    for event in events:
        last = together[-1] if together else None
        if isinstance(event, Data) and isinstance(last, Data):
            together[-1] = Data(last.data + event.data)
        else:
            together.append(event)
    return together


@given(st.lists(EVENTS, max_size=8), st.integers(1, 50))
def test_what_was_said_is_heard_however_it_was_cut_up(events: list[Event], step: int) -> None:
    wire = b"".join(map(encode, events))
    reader = CopyReader()
    heard = [
        event
        for at in range(0, len(wire), step)
        for event in reader.receive_data(wire[at : at + step])
    ]
    assert joined(heard) == joined(list(events))


def test_content_is_passed_on_before_its_frame_is_whole() -> None:
    reader = CopyReader()
    assert reader.receive_data(data_header(MAX_DATA) + b"begin") == [Data(b"begin")]
    assert reader.receive_data(b"more") == [Data(b"more")]


def test_a_reader_holds_no_more_than_a_frame_that_is_no_content() -> None:
    [violated] = CopyReader().receive_data(struct.pack(">BI", 0x13, 64 * 1024 + 1))
    assert isinstance(violated, Violated)
    assert "FILE of 65537 bytes" in violated.reason


@pytest.mark.parametrize("length", [0, MAX_DATA + 1, 2**32 - 1])
def test_content_of_a_wrong_length_is_a_violation(length: int) -> None:
    [violated] = CopyReader().receive_data(struct.pack(">BI", 0x15, length))
    assert isinstance(violated, Violated)


def test_nothing_follows_a_violation() -> None:
    reader = CopyReader()
    [violated] = reader.receive_data(b"\xff" + bytes(4) + encode(Done()))
    assert isinstance(violated, Violated)
    assert reader.receive_data(encode(Done())) == []


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"../x", b"a\0b", b"x" * 1025])
def test_a_name_that_is_none_cannot_be_said(name: bytes) -> None:
    with pytest.raises(ValueError, match="name"):
        File(name, 0, 0, 0)
    with pytest.raises(ValueError, match="name"):
        Link(name, b"target", 0)


@pytest.mark.parametrize("name", [b".", b"..", b"a/b", b"a\0b"])
def test_a_name_that_is_none_is_a_violation_on_the_wire(name: bytes) -> None:
    honest = encode(Folder(b"x" * len(name), 0o755, 0))
    [violated] = CopyReader().receive_data(honest.replace(b"x" * len(name), name, 1))
    assert isinstance(violated, Violated)


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda: Put(target=b"x" * 4097), "a path of 4097 bytes"),
        (lambda: Put(target=b"a\0b"), "a NUL within"),
        (lambda: Get(sources=()), "0 sources"),
        (lambda: Refused("x" * 4097), "a reason of 4097 characters"),
        (lambda: Folder(b"", 0o10000, 0), "a mode of 0o10000"),
        (lambda: Complete(bytes(31)), "a digest of 31 bytes"),
        (lambda: At(-1), "-1 is not between"),
    ],
)
def test_what_cannot_be_is_no_value(build: Callable[[], Event], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        build()


@pytest.mark.parametrize("length", [0, MAX_DATA + 1])
def test_content_of_a_wrong_length_is_not_sent(length: int) -> None:
    with pytest.raises(LocalProtocolError, match="the limit is"):
        data_header(length)


def test_what_is_nested_too_deeply_is_a_violation() -> None:
    payload = b"\x81\xa1x" + b"\x91" * 60_000
    frame = struct.pack(">BI", 0x02, len(payload)) + payload
    assert CopyReader().receive_data(frame) == [Violated("GET is nested too deeply")]


def test_a_reader_says_how_far_it_is() -> None:
    reader = CopyReader()
    reader.receive_data(data_header(10) + b"abc")
    assert repr(reader) == "<CopyReader with 0 bytes, 7 of content due>"
    reader.receive_data(b"x" * 7 + b"\xff" * 5)
    assert repr(reader) == "<CopyReader after a violation>"


def test_a_path_too_many_is_told_by_whoever_says_it() -> None:
    with pytest.raises(LocalProtocolError, match="GET of"):
        encode(Get(sources=(b"x" * 4096,) * 256))


def order_of(*events: Event) -> Order:
    order = Order()
    for event in events:
        order.check(event)
    return order


FILE = File(b"f", 10, 0o644, 0)
ASKS = File(b"f", 10, 0o644, 0, asks=True)
FOLDER = Folder(b"d", 0o755, 0)
WHOLE = Complete(bytes(32))


def test_items_are_counted_from_zero() -> None:
    assert order_of(FOLDER, Link(b"l", b"t", 0), FILE, Data(bytes(10)), WHOLE, Up()).item == 2


@pytest.mark.parametrize(
    "events",
    [
        [Up()],
        [Data(b"x")],
        [WHOLE],
        [At(0)],
        [Abandoned("")],
        [FOLDER, Done()],
        [FOLDER, Folder(b"", 0o755, 0)],
        [FILE, FILE],
        [FILE, FOLDER],
        [FILE, Unreadable(b"p", "r")],
        [FILE, Done()],
        [FILE, At(0)],
        [FILE, Data(bytes(11))],
        [FILE, Data(bytes(9)), WHOLE],
        [ASKS, Data(b"x")],
        [ASKS, WHOLE],
        [ASKS, At(11)],
        [ASKS, At(5), Data(bytes(6))],
        [ASKS, At(5), At(5)],
        [Done(), Done()],
        [Ready()],
        [Finished()],
        [FOLDER] * (MAX_DEPTH + 1),
    ],
    ids=lambda events: "-".join(type(event).__name__ for event in events[:4]),
)
def test_what_cannot_follow_is_refused(events: list[Event]) -> None:
    order_of(*events[:-1])
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own text
        order_of(*events)
