"""Frames of shell/1."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio._errors import LocalProtocolError
from dmsg_trio._wire.pty import WindowSize
from dmsg_trio._wire.shell import (
    MAX_PAYLOAD,
    Attach,
    Detach,
    Detached,
    Done,
    EndOfInput,
    Errors,
    Event,
    Exited,
    HangUp,
    Input,
    List,
    Output,
    Received,
    Refused,
    Resize,
    SessionInfo,
    Sessions,
    ShellReader,
    Signal,
    Start,
    Started,
    Taken,
    TakenOver,
    Violated,
    encode,
)

SESSION, CLIENT = "0123456789abcdef" * 2, "f" * 32
SIZE = WindowSize(24, 80, 640, 480)
CLIENT_EVENTS: list[Event] = [
    Start(session=SESSION, client=CLIENT, attempt=0, keep=60),
    Start(
        session=SESSION,
        client=CLIENT,
        attempt=1,
        keep=0,
        argv=("ls", "", "ä b"),
        terminal="xterm",
        size=SIZE,
        env={"LANG": "C"},
    ),
    Attach(session=SESSION, client=CLIENT, attempt=2),
    Attach(session=SESSION, client=CLIENT, attempt=2, output=9, size=SIZE),
    Input(b"ls\n"),
    Input(bytes(MAX_PAYLOAD)),
    EndOfInput(),
    Resize(SIZE),
    Signal("INT"),
    Signal("34"),
    Received(2**63 - 1),
    Detach(),
    HangUp(),
    List(),
    Done(),
]
INFO = SessionInfo(session=SESSION, argv=("top",), started=1, attached=True, terminal=True)
HOST_EVENTS: list[Event] = [
    Started(session=SESSION, input=5, taken=4, output=3, keep=60),
    Output(b"x"),
    Errors(b"y"),
    Taken(0),
    Exited(code=0),
    Exited(signal="TERM"),
    Refused("no"),
    Refused("fork/exec x: no such file or directory", 127),
    TakenOver(),
    Sessions(()),
    Sessions((INFO,), more=True),
    Detached(86400),
]


def read(data: bytes, size: int = 10**6, *, client: bool) -> list[Event | Violated]:
    reader = ShellReader(client=client)
    return [
        event
        for start in range(0, len(data), size)
        for event in reader.receive_data(data[start : start + size])
    ]


def violation(data: bytes, *, client: bool = False) -> str:
    (event,) = read(data, client=client)
    assert isinstance(event, Violated)
    return event.reason


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BI", kind, len(payload)) + payload


@pytest.mark.parametrize("event", CLIENT_EVENTS, ids=lambda event: type(event).__name__)
def test_a_host_reads_what_a_client_writes(event: Event) -> None:
    assert read(encode(event), client=False) == [event]
    assert "from the wrong side" in violation(encode(event), client=True)


@pytest.mark.parametrize("event", HOST_EVENTS, ids=lambda event: type(event).__name__)
def test_a_client_reads_what_a_host_writes(event: Event) -> None:
    assert read(encode(event), client=True) == [event]
    assert "from the wrong side" in violation(encode(event), client=False)


def test_frames_have_these_bytes() -> None:
    assert encode(Input(b"hi")) == b"\x03\0\0\0\2hi"
    assert encode(Output(b"hi")) == b"\x82\0\0\0\2hi"
    assert encode(Received(258)) == b"\x07\0\0\0\x08\0\0\0\0\0\0\1\2"
    assert encode(Resize(WindowSize(24, 80, 1, 2))) == b"\x05\0\0\0\x08\0\x18\0\x50\0\1\0\2"
    assert encode(Signal("INT")) == b"\x06\0\0\0\3INT"
    assert encode(Done()) == b"\x0b\0\0\0\0"
    assert encode(Exited(code=3)) == frame(0x85, b'{"code":3,"signal":null}')
    assert encode(Start(session=SESSION, client=CLIENT, attempt=0, keep=9, size=SIZE)) == frame(
        0x01,
        b'{"session":"0123456789abcdef0123456789abcdef",'
        b'"client":"ffffffffffffffffffffffffffffffff","attempt":0,"keep":9,"argv":null,'
        b'"terminal":null,"size":{"rows":24,"columns":80,"width":640,"height":480},"env":{}}',
    )


@given(
    st.lists(
        st.sampled_from([encode(event) for event in CLIENT_EVENTS + HOST_EVENTS])
        | st.binary(max_size=40)
        | st.builds(frame, st.integers(0, 255), st.binary(max_size=40)),
        max_size=6,
    ).map(b"".join),
    st.booleans(),
    st.integers(1, 50),
)
def test_pieces_do_not_matter(data: bytes, client: bool, size: int) -> None:
    assert read(data, size, client=client) == read(data, client=client)


def test_members_that_are_not_known_are_ignored() -> None:
    claim = b'{"session":"%s","client":"%s","attempt":0,"shade":[1]}'
    event = Attach(session=SESSION, client=CLIENT, attempt=0)
    assert read(frame(2, claim % (SESSION.encode(), CLIENT.encode())), client=False) == [event]


def test_nothing_is_read_behind_a_violation() -> None:
    reader = ShellReader(client=False)
    good = encode(HangUp())
    events = reader.receive_data(good + frame(0x7F, b"") + good)
    assert events[0] == HangUp()
    assert isinstance(events[1], Violated)
    assert len(events) == 2
    assert reader.receive_data(good) == []
    assert repr(reader) == "<ShellReader after a violation>"
    assert repr(ShellReader(client=True)) == "<ShellReader with 0 bytes>"


def claim(**members: str) -> bytes:
    usual = {"session": f'"{SESSION}"', "client": f'"{CLIENT}"', "attempt": "0", "keep": "0"}
    return b"{%s}" % ",".join(f'"{n}":{v}' for n, v in (usual | members).items()).encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (struct.pack(">BI", 3, MAX_PAYLOAD + 1), "INPUT of 65537 bytes, the limit is 65536"),
        (struct.pack(">BI", 3, 0), "INPUT of 0 bytes"),
        (frame(0x04, b"x"), "END_OF_INPUT of 1 bytes, the limit is 0"),
        (frame(0x05, b"1234567"), "RESIZE of 7 bytes"),
        (frame(0x06, b"int"), "'int' is no name of a signal"),
        (frame(0x06, b"\xff"), "utf-8"),
        (frame(0x07, b"\xff" * 8), "RECEIVED: 18446744073709551615 is not between"),
        (frame(0x0C, b""), "12 is not a valid FrameType"),
        (frame(0x01, b"{"), "truncated"),
        (frame(0x01, b'{"x":' + b"[" * 60000), "nested too deeply"),
        (frame(0x01, claim(session='"../x"')), "session: '../x' is not 32 hexadecimal digits"),
        (frame(0x01, claim(client='""')), "client: '' is not 32"),
        (frame(0x01, claim(attempt="-1")), "attempt: -1 is not between"),
        (frame(0x01, claim(keep="9223372036854775808")), "keep: 9223372036854775808"),
        (frame(0x01, claim(argv="[]")), "0 arguments"),
        (frame(0x01, claim(argv=f"[{'0,' * 5000}0]".replace("0", '""'))), "5001 arguments"),
        (frame(0x01, claim(argv='["a\\u0000"]')), "argv: a NUL within"),
        (frame(0x01, claim(terminal='""')), "a terminal has 0 characters"),
        (frame(0x01, claim(terminal='"\\u0000"')), "terminal: a NUL within"),
        (frame(0x01, claim(env='{"A=B":""}')), "'A=B' is no name of a variable"),
        (frame(0x01, claim(env='{"":""}')), "'' is no name of a variable"),
        (frame(0x01, claim(env='{"A":"\\u0000"}')), "env: a NUL within"),
        (
            frame(0x01, claim(env=str({f"v{n}": "" for n in range(257)}).replace("'", '"'))),
            "257 variables, the limit is 256",
        ),
        (frame(0x01, claim(size='{"rows":65536}')), "size: 65536 does not fit into 16 bits"),
        (frame(0x02, claim(output="-1")), "output: -1"),
    ],
)
def test_what_a_client_may_not_say_is_told_with_its_reason(data: bytes, reason: str) -> None:
    assert reason in violation(data)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Exited(), "either a code or a signal"),
        (lambda: Exited(code=1, signal="INT"), "either a code or a signal"),
        (lambda: Exited(code=256), "an exit code of 256"),
        (lambda: Exited(signal="x"), "no name of a signal"),
        (
            lambda: Started(session=SESSION, input=1, taken=2, output=0, keep=0),
            "2 bytes were taken of 1",
        ),
        (lambda: Detached(-1), "keep: -1"),
    ],
)
def test_values_exist_only_if_they_are_right(make: Callable[[], Event], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()


def test_what_does_not_fit_into_a_frame_is_not_written() -> None:
    with pytest.raises(LocalProtocolError, match="OUTPUT of 65537 bytes, the limit is 65536"):
        encode(Output(bytes(MAX_PAYLOAD + 1)))
    with pytest.raises(LocalProtocolError, match="not Unicode: '\\\\udcff'"):
        encode(Start(session=SESSION, client=CLIENT, attempt=0, keep=0, argv=("\udcff",)))
