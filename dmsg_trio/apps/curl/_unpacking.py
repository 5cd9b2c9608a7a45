"""Bodies that were compressed on their way, piece by piece and never much at once."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Final, cast

import httpx

from ._codes import ExitCode, TransferError

PIECE: Final = 1024 * 1024  # bytes: what few bytes unpack to may be more than there is memory
ANY_HEADER: Final = 32 + zlib.MAX_WBITS  # that of gzip or of zlib
PACKED: Final = ("gzip", "x-gzip", "deflate")


Piece = bytes | memoryview


def raw_pieces(response: httpx.Response) -> AsyncGenerator[Piece]:
    """Give the body as it was sent, each piece good until the next; close it, also before its end."""
    stream = cast(httpx.AsyncByteStream, response.stream)
    return cast("AsyncGenerator[Piece]", stream.__aiter__())


def is_packed(response: httpx.Response) -> bool:
    """Tell whether `unpacked` changes anything."""
    return response.headers.get("content-encoding", "").strip().lower() in PACKED


async def unpacked(pieces: AsyncGenerator[Piece]) -> AsyncGenerator[bytes]:
    """Unpack gzip or deflate; `TransferError` for anything else, and for a part of it."""
    unpacker = zlib.decompressobj(ANY_HEADER)
    has_begun = False
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                rest = piece
                while rest:
                    if unpacker.eof:  # one file after the other, as `cat a.gz b.gz` makes them
                        unpacker = zlib.decompressobj(ANY_HEADER)
                    has_begun = True
                    for data in _steps(unpacker, rest):
                        yield data
                    rest = unpacker.unused_data
    except zlib.error as error:
        raise TransferError(ExitCode.BAD_ENCODING, f"unpacking: {error}") from None
    if has_begun and not unpacker.eof:
        raise TransferError(ExitCode.BAD_ENCODING, "unpacking: it ends too early")


def _steps(unpacker: zlib._Decompress, data: Piece) -> Iterator[bytes]:
    while data:
        yield unpacker.decompress(data, PIECE)
        data = unpacker.unconsumed_tail
