"""Chunks, and the mark behind the last of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire.marked import END, MAX_CHUNK, MarkedReader, encode_chunk


def test_a_chunk_is_its_length_and_its_bytes() -> None:
    assert encode_chunk(b"hello") == b"\0\0\0\x05hello"
    assert encode_chunk(memoryview(bytes(MAX_CHUNK))) == b"\0\x01\0\0" + bytes(MAX_CHUNK)


@pytest.mark.parametrize("size", [0, MAX_CHUNK + 1])
def test_a_chunk_of_another_size_is_not_written(size: int) -> None:
    with pytest.raises(ValueError, match=f"not {size}"):
        encode_chunk(bytes(size))


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=9), st.integers(1, 20), st.booleans())
def test_what_was_written_is_read_however_it_is_cut_up(
    chunks: list[bytes], size: int, ends: bool
) -> None:
    data = b"".join(map(encode_chunk, chunks)) + (END if ends else b"")
    reader = MarkedReader()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert b"".join(map(reader.receive_data_untrusted, pieces)) == b"".join(chunks)
    assert reader.has_ended is ends


@pytest.mark.parametrize(
    "data", [b"", b"\0\0\0", b"\0\0\0\x02", b"\0\0\0\x02x", b"\0\0\0\x01x\0\0\0"]
)
def test_without_the_whole_mark_it_has_not_ended(data: bytes) -> None:
    reader = MarkedReader()
    reader.receive_data_untrusted(data)
    assert not reader.has_ended


def test_a_chunk_of_the_largest_size_is_read_and_a_larger_one_refused() -> None:
    largest = bytes(MAX_CHUNK)
    assert MarkedReader().receive_data_untrusted(encode_chunk(largest)) == largest
    with pytest.raises(RemoteProtocolError, match="a chunk of 65537 bytes, over 65536"):
        MarkedReader().receive_data_untrusted(b"\0\x01\0\x01")


def test_nothing_may_come_behind_the_end() -> None:
    reader = MarkedReader()
    assert reader.receive_data_untrusted(encode_chunk(b"x") + END) == b"x"
    with pytest.raises(RemoteProtocolError, match="3 bytes behind the end"):
        reader.receive_data_untrusted(b"abc")
