"""Remote calls: what is sent, what it means, and what a hostile peer can do with it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmsg_trio._errors import LocalProtocolError, RemoteProtocolError
from dmsg_trio._wire import gob
from dmsg_trio._wire.pty import (
    END_OF_COMMAND,
    PTY_SERVICE,
    READ,
    SET_SIZE,
    START,
    STOP,
    WHITELIST_ADD,
    WHITELIST_SERVICE,
    WINDOW_SIZE,
    WRITE,
)
from dmsg_trio._wire.rpc import (
    MAX_CALLS,
    MAX_ERROR,
    MAX_SHOWN,
    REQUEST,
    RESPONSE,
    BadCall,
    Call,
    Failure,
    Method,
    Outcome,
    Reply,
    RpcCaller,
    RpcResponder,
)

CAPTURES = Path(__file__).parents[1] / "vectors" / "captures"
ALL_METHODS = (*PTY_SERVICE, *WHITELIST_SERVICE)


def only_call(responder: RpcResponder, data: bytes) -> Call:
    [call] = responder.receive_data(data)
    assert isinstance(call, Call)
    return call


def ask(method: Method, argument: gob.Value) -> str:
    """Call ``method`` of a terminal service and give what is wrong with the call."""
    [call] = RpcResponder(PTY_SERVICE).receive_data(RpcCaller().call(method, argument)[1])
    assert isinstance(call, BadCall)
    return call.problem


# ---- the captures, in both roles ----


def conversation(name: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield connection, sender and bytes of each piece, without requests and their answers."""
    seen = set()
    for piece in re.split(r"^(?=\[)", (CAPTURES / name).read_text(), flags=re.MULTILINE):
        if head := re.match(r"\[(\d+)\] (\w)->", piece):
            dump = re.findall(r"^  [0-9a-f]{4}  ((?:[0-9a-f]{2} )+)", piece, re.MULTILINE)
            if head.groups() in seen:
                yield head[1], head[2], bytes.fromhex("".join(dump))
            seen.add(head.groups())


@pytest.mark.parametrize(
    ("name", "first_id", "calls"),
    [
        # the host's next free type number, after what it had sent to others before
        ("pty-local-all-methods.txt", 64, 24),
        ("pty-proxied-all-methods.txt", 68, 23),
        ("whitelist.txt", 64, 5),
    ],
)
def test_what_programs_of_the_reference_said_is_said_alike_in_both_roles(
    name: str, first_id: int, calls: int
) -> None:
    host_ids = gob.TypeIds(first_id)
    callers: dict[str, RpcCaller] = {}
    responders: dict[str, RpcResponder] = {}
    open_calls: dict[tuple[str, int], Call] = {}
    answered = 0
    for connection, sender, data in conversation(name):
        caller = callers.setdefault(connection, RpcCaller())
        responder = responders.setdefault(connection, RpcResponder(ALL_METHODS, host_ids))
        said = b""
        if sender == "C":
            for call in responder.receive_data(data):
                assert isinstance(call, Call)
                seq, sent = caller.call(call.method, call.argument)
                assert seq == call.seq
                open_calls[connection, seq] = call
                said += sent
        else:
            for outcome in caller.receive_data(data):
                call = open_calls.pop((connection, outcome.seq))
                match outcome:
                    case Reply(_, value):
                        said += responder.answer(call, value)
                    case Failure(_, text):
                        said += responder.fail(call, text)
                answered += 1
        assert said == data
    assert answered == calls


# ---- who asks ----


def test_calls_are_numbered_from_zero() -> None:
    caller = RpcCaller()
    assert [caller.call(STOP, {})[0] for _ in range(3)] == [0, 1, 2]


def test_answers_come_in_any_order() -> None:
    caller, responder = RpcCaller(), RpcResponder(PTY_SERVICE)
    first = only_call(responder, caller.call(READ, 5)[1])
    second = only_call(responder, caller.call(WRITE, b"abc")[1])
    data = responder.answer(second, 3) + responder.answer(first, b"hello")
    assert caller.receive_data(data) == [Reply(1, 3), Reply(0, b"hello")]


def test_an_error_has_a_text_and_no_value() -> None:
    caller, responder = RpcCaller(), RpcResponder(PTY_SERVICE)
    call = only_call(responder, caller.call(READ, 5)[1])
    assert caller.receive_data(responder.fail(call, END_OF_COMMAND)) == [Failure(0, END_OF_COMMAND)]


def test_what_comes_byte_by_byte_means_the_same() -> None:
    caller, responder = RpcCaller(), RpcResponder(PTY_SERVICE)
    data = caller.call(READ, 5)[1] + caller.call(START, {"Name": "/bin/sh"})[1]
    calls = [call for byte in data for call in responder.receive_data(bytes([byte]))]
    assert [call.seq for call in calls] == [0, 1]
    answers = b"".join(responder.fail(call, "no") for call in calls if isinstance(call, Call))
    outcomes: list[Outcome] = []
    for byte in answers:
        outcomes += caller.receive_data(bytes([byte]))
    assert outcomes == [Failure(0, "no"), Failure(1, "no")]


def test_an_answer_to_a_call_that_was_not_made_is_the_peers_fault() -> None:
    one, other, responder = RpcCaller(), RpcCaller(), RpcResponder(PTY_SERVICE)
    call = only_call(responder, one.call(STOP, {})[1])
    with pytest.raises(RemoteProtocolError, match="call 0, not made"):
        other.receive_data(responder.answer(call, {}))


def test_a_second_answer_to_a_call_is_the_peers_fault() -> None:
    caller, responder = RpcCaller(), RpcResponder(PTY_SERVICE)
    data = responder.answer(only_call(responder, caller.call(STOP, {})[1]), {})
    caller.receive_data(data)
    again = RpcResponder(PTY_SERVICE)
    copy = again.answer(only_call(again, RpcCaller().call(STOP, {})[1]), {})
    with pytest.raises(RemoteProtocolError):
        caller.receive_data(copy)


def test_an_answer_of_another_type_is_the_peers_fault() -> None:
    caller = RpcCaller()
    caller.call(READ, 5)
    encoder = gob.Encoder()
    data = encoder.encode(RESPONSE, {"ServiceMethod": "pty.Read"}) + encoder.encode(gob.INT, 5)
    with pytest.raises(gob.GobError, match=r"expected \[\]byte, received int"):
        caller.receive_data(data)


def test_an_argument_that_cannot_be_sent_leaves_no_trace_of_its_call() -> None:
    caller, responder = RpcCaller(), RpcResponder(PTY_SERVICE)
    with pytest.raises(LocalProtocolError, match="over 65536"):
        caller.call(WRITE, bytes(gob.MAX_MESSAGE))
    seq, data = caller.call(WRITE, b"x")
    assert (seq, only_call(responder, data).argument) == (0, b"x")


def test_calls_that_nobody_answers_have_a_bound() -> None:
    caller = RpcCaller()
    for _ in range(MAX_CALLS):
        assert not caller.is_full
        caller.call(STOP, {})
    assert caller.is_full
    with pytest.raises(LocalProtocolError, match=f"more than {MAX_CALLS} calls"):
        caller.call(STOP, {})


# ---- who answers ----


def test_a_call_is_answered_once() -> None:
    caller, responder = RpcCaller(), RpcResponder(PTY_SERVICE)
    call = only_call(responder, caller.call(STOP, {})[1])
    responder.answer(call, {})
    with pytest.raises(LocalProtocolError, match="call 0 was answered before"):
        responder.answer(call, {})
    with pytest.raises(LocalProtocolError, match="call 0 was answered before"):
        responder.fail(call, "no")


def test_an_answer_that_cannot_be_sent_can_be_a_failure_instead() -> None:
    caller, responder = RpcCaller(), RpcResponder(PTY_SERVICE)
    call = only_call(responder, caller.call(READ, 5)[1])
    with pytest.raises(LocalProtocolError):
        responder.answer(call, bytes(gob.MAX_MESSAGE))
    assert caller.receive_data(responder.fail(call, "too much")) == [Failure(0, "too much")]


def test_more_calls_than_a_terminal_needs_are_refused_until_some_are_answered() -> None:
    responder, encoder = RpcResponder(PTY_SERVICE), gob.Encoder()

    def call(seq: int) -> bytes:
        header: gob.Value = {"ServiceMethod": "pty.Read", "Seq": seq}
        return encoder.encode(REQUEST, header) + encoder.encode(gob.INT, 1)

    requests = responder.receive_data(b"".join(call(seq) for seq in range(MAX_CALLS + 2)))
    taken = [request for request in requests if isinstance(request, Call)]
    refused = [request for request in requests if isinstance(request, BadCall)]
    assert [request.seq for request in taken] == list(range(MAX_CALLS))
    problem = f"rpc: more than {MAX_CALLS} calls at a time"
    assert refused == [BadCall(seq, "pty.Read", problem) for seq in (MAX_CALLS, MAX_CALLS + 1)]
    responder.answer(taken[0], b"")
    assert isinstance(responder.receive_data(call(99))[0], Call)


UNKNOWN = {
    # name: what the reference's host says about it
    "foo.Bar": "rpc: can't find service foo.Bar",
    "pty.Nope": "rpc: can't find method pty.Nope",
    "pty.": "rpc: can't find method pty.",
    "pty": "rpc: service/method request ill-formed: pty",
    "": "rpc: service/method request ill-formed: ",
    ".": "rpc: can't find service .",
    "a.b.c": "rpc: can't find service a.b.c",
    "whitelist.Whitelist": "rpc: can't find service whitelist.Whitelist",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_methods_are_refused_in_the_words_of_the_reference(name: str) -> None:
    assert ask(Method(name, WINDOW_SIZE, gob.EMPTY), {}) == UNKNOWN[name]


LIST_OF_INTS = gob.Slice(gob.INT, "[]int")
OTHER = gob.Struct("Other", (gob.Field("A", gob.INT),))
TEXT_FOR_A_NUMBER = gob.Struct("Small", (gob.Field("Rows", gob.STRING),))
WIDE = gob.Struct("WinSize", (gob.Field("Rows", gob.UINT),))
NUMBER_FOR_A_NAME = gob.Struct("CommandReq", (gob.Field("Name", gob.INT),))

MISFITS = [
    # as the reference's host says it
    (READ, gob.STRING, "x", "gob: decoding into local type *int, received remote type string"),
    (READ, gob.BYTES, b"x", "gob: decoding into local type *int, received remote type bytes"),
    (READ, gob.UINT, 5, "gob: decoding into local type *int, received remote type uint"),
    (READ, OTHER, {}, "gob: decoding into local type *int, received remote type Other"),
    (READ, LIST_OF_INTS, [], "gob: decoding into local type *int, received remote type []int"),
    (WRITE, gob.STRING, "", "gob: decoding into local type *[]uint8, received remote type string"),
    (
        START,
        gob.STRING,
        "x",
        "gob: type mismatch in decoder: want struct type dmsgpty.CommandReq; got non-struct",
    ),
    (
        STOP,
        gob.INT,
        1,
        "gob: type mismatch in decoder: want struct type struct {}; got non-struct",
    ),
    (
        SET_SIZE,
        OTHER,
        {},
        "gob: type mismatch: no fields matched compiling decoder for WinSize",
    ),
    (
        START,
        NUMBER_FOR_A_NAME,
        {},
        "gob: wrong type (string) for received field CommandReq.Name",
    ),
    (
        START,
        gob.Struct("Mine", (gob.Field("Arg", LIST_OF_INTS),)),
        {},
        "gob: wrong type ([]string) for received field Mine.Arg",
    ),
    (
        START,
        gob.Struct("Mine", (gob.Field("Size", gob.INT),)),
        {},
        "gob: type mismatch in decoder: want struct type dmsgpty.WinSize; got non-struct",
    ),
    (
        START,
        gob.Struct("Mine", (gob.Field("Size", TEXT_FOR_A_NUMBER),)),
        {"Size": {}},
        "gob: wrong type (uint16) for received field Small.Rows",
    ),
    (SET_SIZE, WIDE, {"Rows": 70_000}, 'value for "Rows" out of range'),
]


@pytest.mark.parametrize(("method", "argument_type", "argument", "problem"), MISFITS)
def test_arguments_of_a_wrong_type_are_refused_in_the_words_of_the_reference(
    method: Method, argument_type: gob.Type, argument: gob.Value, problem: str
) -> None:
    assert ask(Method(method.name, argument_type, gob.EMPTY), argument) == problem


def test_types_without_a_name_are_told_by_their_kind() -> None:
    wrong = Method("pty.Read", gob.Slice(gob.INT), gob.EMPTY)
    assert ask(wrong, []) == "gob: decoding into local type *int, received remote type slice"


def test_a_list_of_what_are_no_keys_is_refused() -> None:
    wrong = Method(WHITELIST_ADD.name, gob.INT, gob.EMPTY)
    [call] = RpcResponder(WHITELIST_SERVICE).receive_data(RpcCaller().call(wrong, 1)[1])
    assert isinstance(call, BadCall)
    assert "local type *[]cipher.PubKey, received remote type int" in call.problem


def test_a_connection_goes_on_after_calls_that_were_refused() -> None:
    caller, responder = RpcCaller(), RpcResponder(PTY_SERVICE)
    for method, argument in (
        (Method("a.B", OTHER, gob.EMPTY), {"A": 1}),
        (Method("pty.Read", gob.STRING, gob.BYTES), "x"),
        (Method("pty.SetPtySize", WIDE, gob.EMPTY), {"Rows": 70_000}),
    ):
        [call] = responder.receive_data(caller.call(method, argument)[1])
        assert isinstance(call, BadCall)
        seq = call.seq
        assert caller.receive_data(responder.refuse(call)) == [Failure(seq, call.problem)]
    assert only_call(responder, caller.call(READ, 7)[1]).argument == 7


def test_a_long_name_is_not_repeated_in_full() -> None:
    caller, responder = RpcCaller(), RpcResponder(PTY_SERVICE)
    name = "ä" * 30_000
    [call] = responder.receive_data(caller.call(Method(name, gob.EMPTY, gob.EMPTY), {})[1])
    assert isinstance(call, BadCall)
    assert call.name == "ä" * (MAX_SHOWN // 2)
    assert len(responder.refuse(call)) < 400


def test_a_long_error_is_cut_between_two_characters_and_an_empty_one_is_still_an_error() -> None:
    caller, responder = RpcCaller(), RpcResponder(PTY_SERVICE)
    first = only_call(responder, caller.call(STOP, {})[1])
    second = only_call(responder, caller.call(STOP, {})[1])
    data = responder.fail(first, "x" + "ä" * MAX_ERROR) + responder.fail(second, "")
    assert caller.receive_data(data) == [
        Failure(0, "x" + "ä" * (MAX_ERROR // 2 - 1)),
        Failure(1, "unknown error"),
    ]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\xf8" + b"\xff" * 8, "a message of 18446744073709551615 bytes"),
        (b"\xfd\x01\x00\x01", "a message of 65537 bytes"),
        (b"\x05\x04\x00\xfe\x20\x00", "expected Request, received int"),
        (b"GET / HTTP/1.1\r\n" * 9, "a definition of type 35"),
    ],
)
def test_bytes_that_are_no_calls_are_the_peers_fault(data: bytes, problem: str) -> None:
    with pytest.raises(gob.GobError, match=problem):
        RpcResponder(PTY_SERVICE).receive_data(data)


def test_an_argument_that_is_broken_in_itself_is_the_peers_fault() -> None:
    data = RpcCaller().call(Method("pty.SetPtySize", WIDE, gob.EMPTY), {"Rows": 7})[1]
    data = data[:-1] + b"\x05"  # five fields further, in place of the end
    with pytest.raises(gob.GobError, match="field 5 of a struct that has 1"):
        RpcResponder(PTY_SERVICE).receive_data(data)
