"""Memory for bytes that wait: blocks that are used again and again.

A large piece of fresh memory costs a page fault per 4 KiB, many times the copy into it. So what is
copied at the speed of the network goes to blocks, which whoever is done with them gives back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import trio

from dmsg_trio._wire.yamux import Buffer

BLOCK: Final = 64 * 1024  # bytes
SCRATCH: Final = 256 * 1024  # bytes
SPARE_BLOCKS: Final = 64  # that wait for their next use, per event loop
WORTH_A_BLOCK: Final = BLOCK // 2  # bytes; so at most twice the memory of what waits is in use

_scratch: Final = trio.lowlevel.RunVar[memoryview]("dmsg_trio scratch")
_spare_blocks: Final = trio.lowlevel.RunVar[list[bytearray]]("dmsg_trio spare blocks")


def copied(chunks: Iterable[Buffer], size: int) -> list[memoryview]:
    """Copy ``chunks``, ``size`` bytes in all, to pieces that may be kept."""
    if size < WORTH_A_BLOCK:
        return [memoryview(b"".join(chunks))]
    pieces: list[memoryview] = []
    block, filled = _take(), 0
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            if filled == BLOCK:
                pieces.append(block)
                block, filled = _take(), 0
            part = rest[: BLOCK - filled]
            block[filled : filled + len(part)] = part
            filled += len(part)
            rest = rest[len(part) :]
    pieces.append(block[:filled])
    return pieces


def give_back(piece: memoryview) -> None:
    """Let the block of ``piece`` be used again: nobody may look at any part of it after this."""
    if isinstance(block := piece.obj, bytearray) and len(spare := _spare()) < SPARE_BLOCKS:
        spare.append(block)


def scratch() -> memoryview:
    """Memory of the event loop, for what is used up before the next wait."""
    try:
        return _scratch.get()
    except LookupError:
        memory = memoryview(bytearray(SCRATCH))
        _scratch.set(memory)
        return memory


def _take() -> memoryview:
    spare = _spare()
    return memoryview(spare.pop() if spare else bytearray(BLOCK))


def _spare() -> list[bytearray]:
    try:
        return _spare_blocks.get()
    except LookupError:
        spare: list[bytearray] = []
        _spare_blocks.set(spare)
        return spare
