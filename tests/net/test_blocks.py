"""Blocks: what is copied to them comes out again, and they are used again."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio._net.blocks import BLOCK, SPARE_BLOCKS, WORTH_A_BLOCK, copied, give_back


@given(st.lists(st.binary(max_size=300).map(lambda data: data * 300), max_size=5))
async def test_what_was_copied_is_what_was_there(chunks: Sequence[bytes]) -> None:
    source = [bytearray(chunk) for chunk in chunks]
    pieces = copied(source, sum(map(len, source)))
    for chunk in source:
        chunk[:] = bytes(len(chunk))  # the memory it came from has another use
    assert b"".join(pieces) == b"".join(chunks)
    assert all(0 < len(piece) <= BLOCK for piece in pieces) or not any(chunks)


async def test_a_block_that_was_given_back_is_used_again() -> None:
    (first,) = copied([bytes(BLOCK)], BLOCK)
    give_back(first)
    (second,) = copied([b"x" * BLOCK], BLOCK)
    assert second.obj is first.obj


async def test_little_has_memory_of_its_own() -> None:
    (piece,) = copied([b"ab", memoryview(b"cd")], 4)
    assert piece.obj == b"abcd"
    give_back(piece)
    (other,) = copied([bytes(WORTH_A_BLOCK)], WORTH_A_BLOCK)
    assert other.obj is not piece.obj


async def test_only_so_many_blocks_wait_for_their_next_use() -> None:
    pieces = copied([bytes(BLOCK)] * (SPARE_BLOCKS + 5), (SPARE_BLOCKS + 5) * BLOCK)
    blocks = {id(piece.obj) for piece in pieces}
    assert len(blocks) == SPARE_BLOCKS + 5
    for piece in pieces:
        give_back(piece)
    again = copied([bytes(BLOCK)] * (SPARE_BLOCKS + 5), (SPARE_BLOCKS + 5) * BLOCK)
    assert len({id(piece.obj) for piece in again} & blocks) == SPARE_BLOCKS
