"""What Go programs sent, read to the last byte and written again as the same bytes."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest

from dmsg_trio._wire.gob import (
    BOOL,
    BYTES,
    EMPTY,
    INT,
    STRING,
    UINT,
    Decoder,
    Encoder,
    Optional,
    Struct,
    Type,
    TypeIds,
    Value,
)
from dmsg_trio._wire.objects import SHA256, STREAM_REQUEST, STREAM_RESPONSE
from dmsg_trio._wire.pty import COMMAND, KEYS, PTY_SERVICE, WHITELIST_SERVICE, WINDOW_SIZE
from dmsg_trio._wire.rpc import REQUEST, RESPONSE

CAPTURES = Path(__file__).parents[1] / "vectors" / "captures"

METHODS = {method.name: method for method in (*PTY_SERVICE, *WHITELIST_SERVICE)}

RPC_CAPTURES = {
    # file: the host's next free type number, after what it had sent to others before
    "pty-local-all-methods.txt": 64,
    "pty-proxied-all-methods.txt": 68,
    "whitelist.txt": 64,
}


def chunks(name: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield connection, sender and bytes of each piece of a captured conversation."""
    for piece in re.split(r"^(?=\[)", (CAPTURES / name).read_text(), flags=re.MULTILINE):
        head = re.match(r"\[(\d+)\] (\w)->\w t=[\d.]+ len=(\d+)", piece)
        if head is None:
            continue
        dump = re.findall(r"^  [0-9a-f]{4}  ((?:[0-9a-f]{2} )+)", piece, re.MULTILINE)
        data = bytes.fromhex("".join(dump))
        assert len(data) == int(head[3])
        yield head[1], head[2], data


def streams(name: str) -> dict[tuple[str, str], bytes]:
    """Join what each side of each connection sent after ``pty`` was asked for and granted."""
    pieces: dict[tuple[str, str], list[bytes]] = {}
    for connection, sender, data in chunks(name):
        pieces.setdefault((connection, sender), []).append(data)
    return {key: b"".join(sent[1:]) for key, sent in pieces.items()}


def value_types(sender: str, header: dict[str, Value]) -> Type:
    method = METHODS[cast("str", header["ServiceMethod"])]
    if sender == "C":
        return method.argument
    return EMPTY if header["Error"] else method.reply


@pytest.mark.parametrize("name", RPC_CAPTURES)
def test_remote_calls_are_read_to_the_last_byte_and_written_alike(name: str) -> None:
    host_ids = TypeIds(RPC_CAPTURES[name])
    seen = 0
    for (_, sender), sent in streams(name).items():
        header = REQUEST if sender == "C" else RESPONSE
        decoder = Decoder()
        encoder = Encoder(host_ids if sender == "H" else TypeIds())
        decoder.receive_data(sent)
        written = b""
        while (call := decoder.next_value_untrusted(header)) is not None:
            value_type = value_types(sender, cast("dict[str, Value]", call))
            value = decoder.next_value_untrusted(value_type)
            assert value is not None
            written += encoder.encode(header, call) + encoder.encode(value_type, value)
            seen += 1
        assert written == sent
    assert seen >= 10


def test_what_a_terminal_session_says_is_understood() -> None:
    decoder = Decoder()
    decoder.receive_data(streams("pty-local-all-methods.txt")["2", "C"])
    said = []
    while (call := decoder.next_value_untrusted()) is not None:
        said.append((call, decoder.next_value_untrusted()))
    assert said[0] == ({"ServiceMethod": "pty.Read"}, 4096)
    assert said[2] == ({"ServiceMethod": "pty.SetPtySize", "Seq": 2}, {"Rows": 1, "Cols": 2})
    assert said[4] == ({"ServiceMethod": "pty.Start", "Seq": 4}, {"Name": "/nonexistent"})


# ---- single values, all sent by one program ----

PK = bytes.fromhex("0392d691a628563fe48fd708a2c7fcafe0c6ef5057e7b4a4d82bf800da19d42e3f")
DESTINATION_PK = bytes.fromhex("025936da46d7e3691a1de824c60456d35c08994c23ec4cf6c15a16d9d162b677d3")
SOURCE: Value = {"PK": PK, "Port": 49153}
DESTINATION: Value = {"PK": DESTINATION_PK, "Port": 80}
NOISE = bytes(range(49))
HASH = bytes.fromhex("2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881")
TIMESTAMP = 1_730_000_000_123_456_789
NULL_IP4 = bytes(10) + b"\xff\xff"

SINGLE_VALUES: dict[str, tuple[Type, Value]] = {
    "StreamRequest": (
        STREAM_REQUEST,
        {
            "Timestamp": TIMESTAMP,
            "SrcAddr": SOURCE,
            "DstAddr": DESTINATION,
            "IPinfo": False,
            "NoiseMsg": NOISE,
        },
    ),
    "StreamRequest IP": (
        STREAM_REQUEST,
        {
            "Timestamp": TIMESTAMP,
            "SrcAddr": {"PK": PK, "Port": 49154},
            "DstAddr": {"PK": DESTINATION_PK, "Port": 1},
            "IPinfo": True,
        },
    ),
    "StreamResponse accept": (
        STREAM_RESPONSE,
        {"ReqHash": HASH, "Accepted": True, "NoiseMsg": NOISE},
    ),
    "StreamResponse IP v4-in-16": (
        STREAM_RESPONSE,
        {"ReqHash": HASH, "Accepted": True, "IP": NULL_IP4 + b"\x7f\0\0\x01"},
    ),
    "StreamResponse IP 4": (
        STREAM_RESPONSE,
        {"ReqHash": HASH, "Accepted": True, "IP": b"\x7f\0\0\x01"},
    ),
    "StreamResponse IP 6": (
        STREAM_RESPONSE,
        {"ReqHash": HASH, "Accepted": True, "IP": b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01"},
    ),
    "StreamResponse reject": (STREAM_RESPONSE, {"ReqHash": HASH, "ErrCode": 306}),
    "StreamResponse zero": (STREAM_RESPONSE, {}),
    "StreamRequest zero": (STREAM_REQUEST, {}),
    "StreamRequest ts=1 null pks": (STREAM_REQUEST, {"Timestamp": 1}),
    "StreamRequest ts=-1 null pks": (STREAM_REQUEST, {"Timestamp": -1}),
    "top-level int 0": (INT, 0),
    "top-level int 7": (INT, 7),
    "top-level int 127": (INT, 127),
    "top-level int 128": (INT, 128),
    "top-level int -1": (INT, -1),
    "top-level int 32768": (INT, 32768),
    "top-level []byte{}": (BYTES, b""),
    "top-level []byte(hi)": (BYTES, b"hi"),
    "top-level string": (STRING, "hi"),
    "top-level bool true": (BOOL, True),
    "top-level struct{}": (EMPTY, {}),
    "top-level ptr struct{}": (Optional(EMPTY), {}),
    "top-level []PubKey": (KEYS, [PK]),
    "top-level []PubKey empty": (KEYS, []),
    "top-level uint64 max": (UINT, 2**64 - 1),
    "top-level CommandReq": (
        COMMAND,
        {"Name": "/bin/bash", "Arg": ["-c", "echo hi"], "Size": {"Rows": 30, "Cols": 100}},
    ),
    "top-level CommandReq nil size": (COMMAND, {"Name": "/bin/bash"}),
    "top-level WinSize": (WINDOW_SIZE, {"X": 1, "Y": 2, "Rows": 30, "Cols": 100}),
    "top-level WinSize zero": (WINDOW_SIZE, {}),
    "top-level rpc.Request": (REQUEST, {"ServiceMethod": "pty.Start"}),
    "top-level rpc.Response": (RESPONSE, {"ServiceMethod": "pty.Start"}),
    "top-level rpc.Response err": (
        RESPONSE,
        {"ServiceMethod": "pty.Start", "Seq": 300, "Error": "boom"},
    ),
    "top-level SHA256": (SHA256, HASH),
}


def single_values() -> dict[str, bytes]:
    text = (CAPTURES / "gob-encodings.txt").read_text()
    found = re.findall(r"^== (.+) \((\d+) bytes\)\n([0-9a-f]+)$", text, re.MULTILINE)
    values = {name: bytes.fromhex(hexed) for name, _, hexed in found}
    assert all(len(values[name]) == int(size) for name, size, _ in found)
    return values


def ids_of_that_program() -> TypeIds:
    """Number the types as the program did that encoded `SINGLE_VALUES`, in order of first use."""
    ids = TypeIds()
    ids.number(STREAM_REQUEST)
    ids.number(STREAM_RESPONSE)
    for _ in range(7):  # the variants of requests that it made for the sake of the experiment
        ids.number(Struct("variant"))
    for used, _ in list(SINGLE_VALUES.values())[11:]:
        ids.number(used)
    return ids


def with_zeros(declared: Type, value: Value) -> Value:
    """Add the fields that a value leaves out."""
    match declared:
        case Struct(_, fields) if isinstance(value, Mapping):
            return {
                field.name: with_zeros(field.type, value.get(field.name, field.type.zero()))
                for field in fields
            }
        case Optional(target) if value is not None:
            return with_zeros(target, value)
    return value


def test_no_captured_value_is_left_out() -> None:
    assert single_values().keys() == SINGLE_VALUES.keys() | {
        "extra-fields variant",
        "reordered variant",
    }


@pytest.mark.parametrize("name", SINGLE_VALUES)
def test_single_values_are_written_alike(name: str) -> None:
    encoder = Encoder(ids_of_that_program())
    assert encoder.encode(*SINGLE_VALUES[name]) == single_values()[name]


@pytest.mark.parametrize("name", SINGLE_VALUES)
def test_single_values_are_read_to_the_last_byte(name: str) -> None:
    expected, value = SINGLE_VALUES[name]
    decoder = Decoder()
    decoder.receive_data(single_values()[name])
    assert decoder.next_value_untrusted(expected) == with_zeros(expected, value)
    assert decoder.next_value_untrusted() is None


@pytest.mark.parametrize("variant", ["extra-fields variant", "reordered variant"])
def test_fields_are_matched_by_name_whatever_else_was_sent(variant: str) -> None:
    decoder = Decoder()
    decoder.receive_data(single_values()[variant])
    assert decoder.next_value_untrusted(STREAM_REQUEST) == {
        "Timestamp": 5,
        "SrcAddr": SOURCE,
        "DstAddr": DESTINATION,
        "IPinfo": False,
        "NoiseMsg": NOISE,
    }


def test_without_an_expected_type_a_value_is_read_as_described() -> None:
    decoder = Decoder()
    decoder.receive_data(single_values()["extra-fields variant"])
    assert decoder.next_value_untrusted() == {
        "Timestamp": 5,
        "New": "hello",
        "SrcAddr": SOURCE,
        "DstAddr": DESTINATION,
        "NoiseMsg": NOISE,
        "Zed": [["a", [1, 2]]],
    }
