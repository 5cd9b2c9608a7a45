"""Bytes whose end is marked, for sockets on which what broke looks like what ended.

    chunk   length uint32, from 1 to 65536 | so many bytes
    end     length 0, behind which nothing comes

A stream that ends without its mark was broken off, however properly it seems to end.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from dmsg_trio._errors import RemoteProtocolError

HEAD: Final = 4  # bytes of a length
MAX_CHUNK: Final = 64 * 1024  # bytes, as much as one write on such a socket carries
END: Final = bytes(HEAD)

Buffer: TypeAlias = bytes | bytearray | memoryview


def encode_chunk(data: Buffer) -> bytes:
    """Write a chunk of up to `MAX_CHUNK` bytes."""
    if not 0 < len(data) <= MAX_CHUNK:
        raise ValueError(f"a chunk has from 1 to {MAX_CHUNK} bytes, not {len(data)}")
    return len(data).to_bytes(HEAD) + data


class MarkedReader:
    """Takes chunks apart."""

    def __init__(self) -> None:
        self._head = b""  # what is there of a length
        self._left = 0  # bytes of a chunk that are yet to come
        self.has_ended = False

    def receive_data_untrusted(self, data: bytes) -> bytes:
        """Take in what was read; answer with what of it was in chunks."""
        pieces: list[bytes] = []
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                self._left -= len(piece)
                at += len(piece)
            elif self.has_ended:
                raise RemoteProtocolError(f"{len(data) - at} bytes behind the end")
            else:
                more = data[at : at + HEAD - len(self._head)]
                self._head += more
                at += len(more)
                if len(self._head) == HEAD:
                    self._begin(int.from_bytes(self._head))
        return b"".join(pieces)

    def _begin(self, length: int) -> None:
        if length > MAX_CHUNK:
            raise RemoteProtocolError(f"a chunk of {length} bytes, over {MAX_CHUNK}")
        self._head, self._left = b"", length
        self.has_ended = not length
