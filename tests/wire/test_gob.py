"""Gob: what is refused, what is tolerated, and what holds for any bytes."""

import json
import math
import tracemalloc
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio._errors import LocalProtocolError
from dmsg_trio._wire.gob import (
    BOOL,
    BYTES,
    EMPTY,
    FLOAT,
    INT,
    MAX_MESSAGE,
    STRING,
    UINT,
    UINT16,
    ByteArray,
    Decoder,
    Encoder,
    Field,
    GobError,
    GobMismatchError,
    GobRangeError,
    Marshaled,
    Optional,
    Slice,
    Struct,
    Type,
    TypeIds,
    Value,
    decode_alone_untrusted,
    encode_alone,
)
from dmsg_trio._wire.gob.primitives import MAX_ELEMENTS, Cursor, write_float, write_int, write_uint
from dmsg_trio._wire.gob.readers import own_reader
from dmsg_trio._wire.gob.table import MAX_DEPTH, MAX_TYPES

KEY = Marshaled("Key", nothing=b"\0\0")
POINT = Struct("Point", (Field("X", INT), Field("Y", INT)))
EVERYTHING = Struct(
    "Everything",
    (
        Field("Bool", BOOL),
        Field("Int", INT),
        Field("Uint", UINT),
        Field("Port", UINT16),
        Field("Float", FLOAT),
        Field("Bytes", BYTES),
        Field("String", STRING),
        Field("Key", KEY),
        Field("Keys", Slice(KEY, "[]Key")),
        Field("Points", Slice(POINT, "[]Point")),
        Field("Hash", ByteArray("Hash", 3)),
        Field("Point", POINT),
        Field("Perhaps", Optional(POINT)),
    ),
)
EVERYTHING_ZERO: Final[dict[str, Value]] = {
    field.name: field.type.zero() for field in EVERYTHING.fields
}


# ---- messages by hand ----


def uint(number: int) -> bytes:
    out = bytearray()
    write_uint(out, number)
    return bytes(out)


def sint(number: int) -> bytes:
    out = bytearray()
    write_int(out, number)
    return bytes(out)


def text(string: str) -> bytes:
    return uint(len(string)) + string.encode()


def message(type_id: int, body: bytes) -> bytes:
    head = sint(type_id)
    return uint(len(head + body)) + head + body


def common(type_id: int, name: str = "T") -> bytes:
    """Write the first field of any kind of type: its name and number."""
    return b"\x01\x01" + text(name) + b"\x01" + sint(type_id) + b"\0"


def define_struct(type_id: int, **fields: int) -> bytes:
    listed = b"".join(b"\x01" + text(n) + b"\x01" + sint(i) + b"\0" for n, i in fields.items())
    counted = b"\x01" + uint(len(fields)) + listed if fields else b""
    return message(-type_id, b"\x03" + common(type_id) + counted + b"\0\0")


def define_array(type_id: int, element: int, length: int) -> bytes:
    body = b"\x01" + common(type_id) + b"\x01" + sint(element) + b"\x01" + sint(length) + b"\0\0"
    return message(-type_id, body)


def define_slice(type_id: int, element: int) -> bytes:
    return message(-type_id, b"\x02" + common(type_id) + b"\x01" + sint(element) + b"\0\0")


def define_map(type_id: int, key: int, element: int) -> bytes:
    body = b"\x04" + common(type_id) + b"\x01" + sint(key) + b"\x01" + sint(element) + b"\0\0"
    return message(-type_id, body)


def define_opaque(type_id: int, number: int) -> bytes:
    return message(-type_id, uint(number + 1) + common(type_id, "Key") + b"\0\0")


GOB_ENCODER = 4


def decode(data: bytes, expected: Type | None = None) -> Value:
    decoder = Decoder()
    decoder.receive_data(data)
    return decoder.next_value_untrusted(expected)


# ---- atoms ----


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (0, "00"),
        (-1, "01"),
        (7, "0e"),
        (-64, "7f"),
        (64, "ff80"),
        (-65, "ff81"),
        (4096, "fe2000"),
        (2**63 - 1, "f8fffffffffffffffe"),
        (-(2**63), "f8ffffffffffffffff"),
    ],
)
def test_signed_numbers_carry_their_sign_in_the_last_bit(number: int, encoded: str) -> None:
    assert sint(number).hex() == encoded
    assert Cursor(bytes.fromhex(encoded)).read_int() == number


@given(st.integers(0, 2**64 - 1))
def test_unsigned_numbers_come_back(number: int) -> None:
    encoded = uint(number)
    assert Cursor(encoded).read_uint() == number
    assert Cursor(encoded).has_uint
    assert not any(Cursor(encoded[:size]).has_uint for size in range(len(encoded)))


def test_a_number_may_be_longer_than_needed_as_go_has_it() -> None:
    assert Cursor(b"\xfe\x00\x05").read_uint() == 5


@given(st.floats(allow_nan=False))
def test_floats_come_back(number: float) -> None:
    out = bytearray()
    write_float(out, number)
    read = Cursor(bytes(out)).read_float()
    assert (read, math.copysign(1, read)) == (number, math.copysign(1, number))


def test_a_whole_number_of_nine_bytes_is_refused() -> None:
    with pytest.raises(GobError, match="a number of 9 bytes at byte 0"):
        Cursor(b"\xf7" + bytes(9)).read_uint()


def test_the_length_of_a_message_cannot_be_nine_bytes_long() -> None:
    with pytest.raises(GobError, match="a number of 9 bytes"):
        decode(b"\xf7" + bytes(8))


# ---- values ----


def points() -> st.SearchStrategy[Value]:
    numbers = st.integers(-(2**63), 2**63 - 1)
    return st.fixed_dictionaries({"X": numbers, "Y": numbers})


def everything() -> st.SearchStrategy[dict[str, Value]]:
    return st.fixed_dictionaries(
        {
            "Bool": st.booleans(),
            "Int": st.integers(-(2**63), 2**63 - 1),
            "Uint": st.integers(0, 2**64 - 1),
            "Port": st.integers(0, 2**16 - 1),
            "Float": st.floats(allow_nan=False),
            "Bytes": st.binary(max_size=200),
            "String": st.text(max_size=40),
            "Key": st.binary(max_size=3),
            "Keys": st.lists(st.binary(max_size=3), max_size=3),
            "Points": st.lists(points(), max_size=3),
            "Hash": st.binary(min_size=3, max_size=3),
            "Point": points(),
            "Perhaps": st.none() | points(),
        }
    )


@given(everything())
def test_any_value_comes_back(value: dict[str, Value]) -> None:
    # An empty key is not the zero key: it is sent, and comes back as what it was.
    assert decode_alone_untrusted(EVERYTHING, encode_alone(EVERYTHING, value)) == value


@given(everything())
def test_a_value_is_read_as_described_without_its_zeros(value: dict[str, Value]) -> None:
    read = decode(encode_alone(EVERYTHING, value))
    assert isinstance(read, dict)
    always = {"Hash", "Point"}
    zeros = {"Key": b"\0\0"}
    sent = {n for n, v in value.items() if n in always or v != zeros.get(n, EVERYTHING_ZERO[n])}
    assert read.keys() == sent


@given(everything())
def test_both_ends_knowing_a_type_need_no_description(value: dict[str, Value]) -> None:
    out = bytearray()
    EVERYTHING.write(out, value)
    assert own_reader(EVERYTHING)(Cursor(bytes(out))) == value


@given(st.lists(everything() | st.integers(0, 100), max_size=4), st.integers(1, 50))
def test_pieces_do_not_matter(values: list[dict[str, Value] | int], size: int) -> None:
    encoder, decoder = Encoder(TypeIds(300)), Decoder()
    kinds: list[Type] = [EVERYTHING if isinstance(value, dict) else INT for value in values]
    sent = b"".join(encoder.encode(k, v) for k, v in zip(kinds, values, strict=True))
    read: list[Value] = []
    for start in range(0, len(sent), size):
        decoder.receive_data(sent[start : start + size])
        while len(read) < len(kinds):
            value = decoder.next_value_untrusted(kinds[len(read)])
            if value is None:
                break
            read.append(value)
    assert read == values


def test_a_type_is_described_once_in_a_stream() -> None:
    encoder = Encoder()
    first, second = encoder.encode(POINT, {"X": 1}), encoder.encode(POINT, {"X": 1})
    assert len(second) == 6
    assert first.endswith(second)
    assert encoder.describe(POINT) == b""


def test_a_refused_value_leaves_its_type_to_be_described() -> None:
    encoder = Encoder()
    with pytest.raises(LocalProtocolError):
        encoder.encode(POINT, {"X": "left"})
    assert encoder.encode(POINT, {}) == encode_alone(POINT, {})


def test_text_that_is_no_utf8_is_carried_along() -> None:
    assert decode_alone_untrusted(STRING, b"\x05\x0c\x00\x02\xff\x80") == "\udcff\udc80"
    assert encode_alone(STRING, "\udcff\udc80") == b"\x05\x0c\x00\x02\xff\x80"


@pytest.mark.parametrize(
    ("declared", "value", "problem"),
    [
        (BOOL, 1, "1 is no bool"),
        (INT, 2**63, "9223372036854775808 is no int"),
        (INT, "1", "'1' is no int"),
        (UINT, -1, "-1 is no uint"),
        (UINT16, 65536, "65536 is no uint16"),
        (UINT16, b"", "b'' is no uint16"),
        (FLOAT, 1, "1 is no float"),
        (BYTES, "", "'' is no []byte"),
        (STRING, b"", "b'' is no string"),
        (STRING, "\ud800", r"'\ud800' is no string"),
        (KEY, "", "'' is no Key"),
        (Slice(INT), b"", "b'' is no []int"),
        (Slice(INT), ["1"], "'1' is no int"),
        (ByteArray("Hash", 3), b"12", "b'12' is no Hash ([3]uint8)"),
        (ByteArray("Hash", 3), "123", "'123' is no Hash ([3]uint8)"),
        (POINT, 7, "7 is no Point"),
        (EMPTY, None, "None is no struct{}"),
        (POINT, {"Z": 1, "A": 0}, "Point has no A, Z"),
        (BYTES, bytes(MAX_MESSAGE), "a message of 65542 bytes, over 65536"),
    ],
)
def test_what_is_not_of_its_type_is_not_sent(declared: Type, value: Value, problem: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode_alone(declared, value)
    assert str(caught.value) == f"gob: {problem}"


# ---- what Go tolerates ----


def test_type_numbers_are_whatever_the_peer_makes_them() -> None:
    data = Encoder(TypeIds(1000)).encode(POINT, {"X": 5})
    assert decode(data, POINT) == {"X": 5, "Y": 0}


def test_definitions_may_come_in_any_order() -> None:
    inner, outer = define_struct(70, X=2), define_struct(65, Point=70)
    value = message(65, b"\x01\x01\x06\x00\x00")
    for data in (inner + outer + value, outer + inner + value):
        assert decode(data) == {"Point": {"X": 3}}


def test_bytes_after_a_value_that_stands_alone_are_dropped() -> None:
    data = encode_alone(POINT, {"Y": 1})
    assert decode_alone_untrusted(POINT, data + b"\xff garbage") == {"X": 0, "Y": 1}


def test_any_struct_is_an_empty_struct_to_who_expects_none_of_its_fields() -> None:
    assert decode(define_struct(64, X=2) + message(64, b"\x01\x02\x00"), EMPTY) == {}


def test_an_empty_struct_has_all_fields_at_zero() -> None:
    assert decode(define_struct(64) + message(64, b"\x00"), POINT) == {"X": 0, "Y": 0}


def test_a_nested_struct_may_have_nothing_in_common() -> None:
    outer = Struct("Outer", (Field("Point", POINT),))
    data = define_struct(64, Point=65) + define_struct(65, Z=2)
    assert decode(data + message(64, b"\x01\x01\x02\x00\x00"), outer) == {"Point": {"X": 0, "Y": 0}}


def test_unknown_fields_of_every_kind_are_read_and_dropped() -> None:
    data = b"".join(
        [
            define_struct(64, Complex=7, Map=65, Array=66, Opaque=67, Nested=68, X=2),
            define_map(65, 6, 69),
            define_array(66, 3, 2),
            define_opaque(67, GOB_ENCODER),
            define_struct(68, A=1, B=4),
            define_slice(69, 5),
            message(
                64,
                b"\x01\xfe\xf0\x3f\x00"  # complex: 1 + 0i
                b"\x01\x01\x01k\x02\x01a\x01b"  # {"k": [a, b]}
                b"\x01\x02\x07\x08"
                b"\x01\x03any"
                b"\x01\x01\x01\x01\x40\x00"  # true, 2.0
                b"\x01\x0e\x00",
            ),
        ]
    )
    assert decode(data, POINT) == {"X": 7, "Y": 0}
    assert decode(data) == {
        "Complex": [1.0, 0.0],
        "Map": [["k", [b"a", b"b"]]],
        "Array": [7, 8],
        "Opaque": b"any",
        "Nested": {"A": True, "B": 2.0},
        "X": 7,
    }


def test_a_map_that_stands_alone_is_a_list_of_pairs() -> None:
    assert decode(define_map(64, 2, 1) + message(64, b"\0\x01\x04\x01")) == [[2, True]]


# ---- mismatches ----


@pytest.mark.parametrize(
    ("expected", "definitions", "type_id", "problem"),
    [
        (INT, b"", 6, "int: expected int, received string"),
        (INT, b"", 3, "int: expected int, received uint"),
        (BYTES, b"", 6, "[]byte: expected []byte, received string"),
        (EMPTY, b"", 2, "struct{}: expected struct{}, received int"),
        (POINT, define_slice(64, 2), 64, "Point: expected Point, received slice 'T'"),
        (POINT, define_map(64, 2, 2), 64, "Point: expected Point, received map 'T'"),
        (STRING, define_struct(64), 64, "string: expected string, received struct 'T'"),
        (KEY, b"", 5, "Key: expected Key, received []byte"),
        (KEY, define_array(64, 3, 2), 64, "Key: expected Key, received array 'T'"),
        (KEY, define_opaque(64, GOB_ENCODER), 64, "Key: expected Key, received GobEncoder 'Key'"),
        (
            ByteArray("Hash", 3),
            define_array(64, 3, 4),
            64,
            "Hash ([3]uint8): expected Hash ([3]uint8), received array 'T'",
        ),
        (
            ByteArray("Hash", 3),
            define_array(64, 2, 3),
            64,
            "Hash ([3]uint8): expected Hash ([3]uint8), received array 'T'",
        ),
        (Slice(INT), define_slice(64, 3), 64, "[]int: expected int, received uint"),
        (Optional(POINT), define_slice(64, 3), 64, "*Point: expected Point, received slice 'T'"),
        (POINT, define_struct(64, X=6), 64, "Point.X: expected int, received string"),
        (
            POINT,
            define_struct(64, A=2, B=2),
            64,
            "Point: expected Point, received struct 'T' (they have no field in common)",
        ),
        (
            Struct("Outer", (Field("Point", POINT),)),
            define_struct(64, Point=65) + define_struct(65, Y=1),
            64,
            "Outer.Point.Y: expected int, received bool",
        ),
    ],
)
def test_a_mismatch_names_both_types_and_the_stream_goes_on(
    expected: Type, definitions: bytes, type_id: int, problem: str
) -> None:
    decoder = Decoder()
    decoder.receive_data(definitions + message(type_id, b"\0\0") + message(2, b"\0\x0e"))
    with pytest.raises(GobMismatchError) as caught:
        decoder.next_value_untrusted(expected)
    assert str(caught.value) == f"gob: {problem}"
    assert decoder.next_value_untrusted(INT) == 7


def test_a_number_without_room_is_an_error_and_the_stream_goes_on() -> None:
    decoder = Decoder()
    decoder.receive_data(message(3, b"\0\xfd\x01\x00\x00") + message(2, b"\0\x0e"))
    with pytest.raises(GobRangeError, match="uint16: 65536 is out of range for uint16"):
        decoder.next_value_untrusted(UINT16)
    assert decoder.next_value_untrusted(INT) == 7


def test_a_long_name_of_the_peer_is_cut_in_errors() -> None:
    definition = message(-64, b"\x03" + common(64, "N" * 5000) + b"\0\0")
    with pytest.raises(GobMismatchError) as caught:
        decode(definition + message(64, b"\0"), INT)
    assert len(str(caught.value)) < 120


# ---- refusals ----


def nest(levels: int) -> bytes:
    """Put a slice into a slice, and so on, down to an int."""
    ids = range(64, 64 + levels)
    definitions = b"".join(define_slice(i, i + 1 if i < ids[-1] else 2) for i in ids)
    return definitions + message(64, b"\0" + b"\x01" * levels + b"\x0e")


def test_values_nest_as_deep_as_allowed() -> None:
    expected: Value = 7
    for _ in range(MAX_DEPTH):
        expected = [expected]
    assert decode(nest(MAX_DEPTH)) == expected
    with pytest.raises(GobError, match=f"nested more than {MAX_DEPTH} deep"):
        decode(nest(MAX_DEPTH + 1))


def test_a_type_may_contain_itself_but_not_without_end() -> None:
    tree = define_struct(64, Children=65, X=2) + define_slice(65, 64)
    assert decode(tree + message(64, b"\x02\x02\x00"), POINT) == {"X": 1, "Y": 0}
    with pytest.raises(GobError, match=f"nested more than {MAX_DEPTH} deep"):
        decode(tree + message(64, b"\x01\x01" * 5000 + b"\0" * 5001), POINT)


def test_a_stream_has_no_more_types_than_allowed() -> None:
    definitions = b"".join(define_struct(64 + i, X=2) for i in range(MAX_TYPES))
    assert decode(definitions + message(64, b"\x01\x02\x00"), POINT) == {"X": 1, "Y": 0}
    with pytest.raises(GobError, match=f"more than {MAX_TYPES} types in one stream"):
        decode(definitions + define_struct(63 + MAX_TYPES + 1))


@pytest.mark.parametrize(
    ("data", "expected", "problem"),
    [
        (uint(MAX_MESSAGE + 1), None, "a message of 65537 bytes, over 65536"),
        (b"\0", None, "the message ends at byte 0, before a number"),
        (define_struct(63), None, "a definition of type 63, which is reserved"),
        (message(-1, b""), None, "a definition of type 1, which is reserved"),
        (message(-(2**31), b""), None, "a definition of type 2147483648, which is reserved"),
        (
            message(-(2**63), b""),
            None,
            "a definition of type 9223372036854775808, which is reserved",
        ),
        (define_struct(64) * 2, None, "type 64 is defined twice"),
        (message(65, b"\0\0"), None, "the value: type 65 is not defined"),
        (message(0, b"\0\0"), INT, "int: type 0 is not defined"),
        (message(16, b"\0\0"), POINT, "Point: type 16 is not defined"),
        (message(8, b"\0\0"), None, "the value: interface values are refused"),
        (
            define_struct(64, X=2, I=8) + message(64, b"\x02\x00"),
            POINT,
            "Point.an unknown field: interface values are refused",
        ),
        (
            define_struct(64, X=2, I=99) + message(64, b"\x02\x00"),
            POINT,
            "Point.an unknown field: type 99 is not defined",
        ),
        (
            define_struct(64, X=99) + message(64, b"\x00"),
            POINT,
            "Point.X: type 99 is not defined",
        ),
        (message(2, b"\x01\x0e"), INT, "int: a value that is no struct does not begin with zero"),
        (message(2, b"\0\x0e\0\0"), INT, "2 bytes after a value"),
        (message(2, b"\0"), INT, "int: the message ends at byte 2, before a number"),
        (message(2, b"\0\xfe\x01"), INT, "int: 2 bytes at byte 3 of a message of 4"),
        (message(5, b"\0\x7fabc"), BYTES, "[]byte: 127 bytes at byte 3 of a message of 6"),
        (
            define_slice(64, 2) + message(64, b"\0\x04\x02\x02"),
            Slice(INT),
            "[]int: 4 elements in 2 bytes",
        ),
        (
            define_slice(64, 2) + message(64, b"\0\xfc\xff\xff\xff\xff"),
            None,
            "the value: 4294967295 elements in 0 bytes",
        ),
        (
            define_map(64, 2, 2) + message(64, b"\0\x04\x02\x02"),
            None,
            "the value: 4 elements in 2 bytes",
        ),
        (
            define_array(64, 3, 3) + message(64, b"\0\x02\x02\x02"),
            None,
            "the value: 2 elements of an array of 3",
        ),
        (
            define_array(64, 3, 3) + message(64, b"\0\x02\x02\x02"),
            ByteArray("Hash", 3),
            "Hash ([3]uint8): 2 elements of an array of 3",
        ),
        (
            define_array(64, 3, 2) + message(64, b"\0\x02\x02\xfe\x01\x00"),
            ByteArray("Hash", 2),
            "Hash ([2]uint8): 256 is out of range for uint8",
        ),
        (
            define_struct(64, X=2) + message(64, b"\x02\x02\x00"),
            POINT,
            "Point: field 1 of a struct that has 1",
        ),
        (
            define_struct(64, X=2) + message(64, b"\xf8" + b"\xff" * 8 + b"\x02\x00"),
            None,
            "the value: field 18446744073709551614 of a struct that has 1",
        ),
        (
            define_struct(64, X=2) + message(64, b"\x01\x02"),
            None,
            "the value: the message ends at byte 4, before a number",
        ),
        (message(-64, b"\x07" + common(64) + b"\0\0\0"), None, "1 bytes after a definition"),
        (message(-64, b"\0"), None, "a definition of 0 kinds at once"),
        (
            message(-64, b"\x06" + common(64) + b"\0\x01" + common(64) + b"\0\0"),
            None,
            "a definition of 2 kinds at once",
        ),
        (
            message(-64, b"\x03" + common(64) + b"\x01\x7f\0\0"),
            None,
            "a definition.StructT.Field: 127 elements in 2 bytes",
        ),
        (
            message(-64, b"\x08\0\0"),
            None,
            "a definition: field 7 of a struct that has 7",
        ),
    ],
)
def test_broken_rules_are_told_with_their_place(
    data: bytes, expected: Type | None, problem: str
) -> None:
    with pytest.raises(GobError) as caught:
        decode(data, expected)
    assert str(caught.value) == f"gob: {problem}"
    assert not isinstance(caught.value, GobMismatchError)


def test_a_definition_too_large_to_remember_is_read_all_the_same() -> None:
    fields = {f"F{number}": 2 for number in range(100)}
    data = define_struct(64, **fields, X=2) + message(64, uint(101) + b"\x08\x00")
    assert decode(data, POINT) == {"X": 4, "Y": 0}


def test_a_value_that_stands_alone_must_be_whole() -> None:
    data = encode_alone(POINT, {"X": 1})
    for size in range(len(data)):
        with pytest.raises(GobError, match=f"Point: {size} bytes end before the value does"):
            decode_alone_untrusted(POINT, data[:size])


# ---- any bytes ----


def samples() -> list[bytes]:
    vectors = Path(__file__).parents[1] / "vectors"
    recorded = json.loads((vectors / "stream_objects.json").read_text())
    newer = json.loads((vectors / "objects_2026.json").read_text())
    listed = recorded["requests"] + recorded["responses"] + newer["objects"]
    full = {**EVERYTHING_ZERO, "Points": [{"X": 1}, {"Y": 2}], "Keys": [b"a"], "Perhaps": {}}
    return [bytes.fromhex(item["gob"]) for item in listed] + [
        encode_alone(EVERYTHING, full),
        define_map(64, 2, 65) + define_array(65, 64, 2) + message(64, b"\0\x01\x02\x02\0\0"),
    ]


def read_all(data: bytes, expected: Type | None) -> None:
    decoder = Decoder()
    decoder.receive_data(data)
    while True:
        try:
            if decoder.next_value_untrusted(expected) is None:
                break
        except GobMismatchError:
            continue
        except GobError:
            break


@given(st.binary(max_size=300), st.sampled_from([None, EVERYTHING, POINT, INT]))
def test_any_bytes_are_values_or_a_gob_error(data: bytes, expected: Type | None) -> None:
    read_all(data, expected)


@given(
    st.sampled_from(samples()),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 400),
    st.sampled_from([None, EVERYTHING, POINT]),
)
def test_damaged_values_are_values_or_a_gob_error(
    sample: bytes, edits: list[tuple[int, int]], cut: int, expected: Type | None
) -> None:
    damaged = bytearray(sample)
    for place, byte in edits:
        damaged[place % len(damaged)] = byte
    read_all(bytes(damaged), expected)
    read_all(bytes(damaged[:cut] + damaged[cut + 1 :]), expected)


def elements(count: int) -> bytes:
    """Put the cheapest elements that there are into a slice."""
    definitions = define_slice(64, 65) + define_struct(65)
    return definitions + message(64, b"\0" + uint(count) + bytes(count))


@pytest.mark.parametrize("expected", [None, Slice(EMPTY), Slice(POINT)])
def test_a_message_has_no_more_elements_than_allowed(expected: Type | None) -> None:
    value = decode(elements(MAX_ELEMENTS), expected)
    assert isinstance(value, list)
    assert len(value) == MAX_ELEMENTS
    with pytest.raises(GobError, match="4097 elements in a message, over 4096"):
        decode(elements(MAX_ELEMENTS + 1), expected)


def test_elements_are_counted_over_all_lists_of_a_message() -> None:
    definitions = define_slice(64, 65) + define_slice(65, 1)
    half = uint(MAX_ELEMENTS // 2) + bytes(MAX_ELEMENTS // 2)
    with pytest.raises(GobError, match="4098 elements in a message, over 4096"):
        decode(definitions + message(64, b"\0\x02" + half * 2))


@pytest.mark.parametrize("expected", [None, Slice(STRING), Slice(BYTES)])
def test_memory_is_bounded_by_the_message(expected: Type | None) -> None:
    wire_id = 5 if expected is not None and expected.shown == "[][]byte" else 6
    largest = bytes([1, 65]) * MAX_ELEMENTS
    data = define_slice(64, wire_id) + message(64, b"\0" + uint(MAX_ELEMENTS) + largest)
    tracemalloc.start()
    try:
        value = decode(data, expected)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert value
    assert peak < 1024 * 1024
