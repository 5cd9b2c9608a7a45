"""A stream as applications see it: Noise frames, end to end encrypted, on one yamux stream.

A `send_all` seals as many whole frames as the window has room for and hands them over in one piece;
a `receive_some` opens every whole frame that has arrived.
"""

from __future__ import annotations

from typing import Final

import trio

from dmsg_trio._address import Address
from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._keys import PublicKey
from dmsg_trio._wire.frames import (
    FRAME_OVERHEAD,
    MAX_FRAME_SIZE,
    MAX_PLAINTEXT,
    FrameOpener,
    FrameSealer,
)
from dmsg_trio._wire.hybrid import TransportKeys
from dmsg_trio._wire.yamux import Buffer

from .blocks import BLOCK, give_back, scratch
from .conflict import ConflictDetector
from .mux_stream import CHUNK, FRAMES_IN_A_ROW, NOTHING, MuxStream, check_max_bytes
from .resettable import ResettableStream

SEND_BATCH: Final = CHUNK // MAX_FRAME_SIZE * MAX_PLAINTEXT  # bytes that go out in one yamux frame
RECEIVE_BATCH: Final = 256 * 1024  # sealed bytes after which one receive_some takes no more
RECEIVE_SIZE: Final = RECEIVE_BATCH + BLOCK + MAX_FRAME_SIZE  # what it can bring at the most


class DmsgStream(ResettableStream):
    """A byte stream with the holder of a key, encrypted end to end; no server on the way can read it.

    ``local`` and ``remote`` are the addresses of its ends, ``server_pk`` is the key of our server on
    the way.

    It raises what Trio's streams raise: `trio.BrokenResourceError` when the peer or a server reset
    it, the session was lost, or what arrived was not what the peer sent; `trio.ClosedResourceError`
    after it was closed here; `trio.BusyResourceError` when two tasks do the same thing at once.
    An end without `send_eof` of the peer cannot be told from one by the server: protocols that
    matter carry lengths, as HTTP does.
    """

    def __init__(
        self, mux: MuxStream, keys: TransportKeys, *, local: Address, remote: Address,
        server_pk: PublicKey,
    ) -> None:  # fmt: skip
        self.local = local
        self.remote = remote
        self.server_pk = server_pk
        self._mux = mux
        self._sealer = FrameSealer(keys.send)
        self._opener = FrameOpener(keys.receive)
        self._scratch = scratch()
        self._plaintext = memoryview(b"")  # opened and not yet asked for
        self._send_conflict = ConflictDetector("another task is sending on this stream")
        self._receive_conflict = ConflictDetector("another task is receiving on this stream")

    # ---- out: seal, frame, send ----

    async def send_all(self, data: Buffer) -> None:
        """Send all of ``data``. If this is cancelled, what went out is a prefix of it."""
        with self._send_conflict:
            await trio.lowlevel.checkpoint_if_cancelled()
            rest, batches = memoryview(data).cast("B"), 0
            if not rest:
                self._mux.check_sendable()
            while rest:
                frame_size = min(len(rest), MAX_PLAINTEXT) + FRAME_OVERHEAD
                fits = _plaintext_in(await self._mux.wait_for_room(frame_size))
                size = self._sealer.seal_into(rest[:fits], self._scratch)
                self._mux.push([self._scratch[:size]], size)
                rest = rest[fits:]
                batches += 1
                if batches % FRAMES_IN_A_ROW == 0 and rest:
                    await trio.lowlevel.checkpoint()
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the window has room for a whole frame."""
        with self._send_conflict:
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._mux.wait_for_room(MAX_FRAME_SIZE)
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def send_eof(self) -> None:
        """End our direction; the peer's goes on."""
        with self._send_conflict:
            await self._mux.send_eof()

    # ---- in: receive, unframe, open ----

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Wait for bytes from the peer; ``b""`` is its end."""
        if max_bytes is not None:
            check_max_bytes(max_bytes)
        with self._receive_conflict:
            await self._checkpoint_if_ready()
            self._mux.check_receivable()
            if self._plaintext:
                return self._take(max_bytes)
            while pieces := await self._receive_batch():
                plaintext = self._open_untrusted(pieces)
                if not plaintext:
                    continue
                if max_bytes is None or len(plaintext) <= max_bytes:
                    return plaintext
                self._plaintext = memoryview(plaintext)
                return self._take(max_bytes)
            return b""

    async def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Wait for bytes from the peer, put them into ``buffer``, and say how many; 0 is its end.

        With a buffer of `RECEIVE_SIZE` bytes, used again and again, this is the fastest way to read.
        """
        target = memoryview(buffer).cast("B")
        if not target:
            raise ValueError("a buffer of no bytes: nothing could be told from the end")
        with self._receive_conflict:
            await self._checkpoint_if_ready()
            self._mux.check_receivable()
            while not self._plaintext:
                pieces = await self._receive_batch()
                if not pieces:
                    return 0
                if len(target) < self._opener.room_for(*pieces):
                    self._plaintext = memoryview(self._open_untrusted(pieces))
                elif size := self._open_untrusted_into(target, pieces):
                    return size
            taken = self._take(len(target))
            target[: len(taken)] = taken
            return len(taken)

    @property
    def is_ready(self) -> bool:
        """Whether `receive_some` would not wait: bytes, the end, or an error are there."""
        return bool(self._plaintext) or self._mux.is_ready

    async def wait_ready(self) -> None:
        """Wait until `is_ready`, for who wants no memory to wait in."""
        with self._receive_conflict:
            await trio.lowlevel.checkpoint_if_cancelled()
            if not self._plaintext:
                await self._mux.wait_ready()
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def _checkpoint_if_ready(self) -> None:
        if self.is_ready:
            await trio.lowlevel.checkpoint()  # where there is nothing yet, waiting is one

    async def _receive_batch(self) -> list[memoryview]:
        """Wait for one piece, and take all that lie behind it, up to a limit; empty at the end."""
        piece = await self._mux.receive_piece()
        pieces = []
        size = 0
        while piece:
            pieces.append(piece)
            size += len(piece)
            piece = self._mux.take_piece() if size < RECEIVE_BATCH else NOTHING
        if not pieces and self._opener.partial:
            raise trio.BrokenResourceError("the stream ended within a frame")
        return pieces

    def _open_untrusted(self, pieces: list[memoryview]) -> bytes | bytearray:
        try:
            opened = self._opener.open_untrusted(*pieces)
        except RemoteProtocolError as error:
            raise self._tampered(error) from error
        _give_all_back(pieces)
        return opened

    def _open_untrusted_into(self, target: memoryview, pieces: list[memoryview]) -> int:
        try:
            size = self._opener.open_untrusted_into(target, *pieces)
        except RemoteProtocolError as error:
            raise self._tampered(error) from error
        _give_all_back(pieces)
        return size

    def _tampered(self, error: RemoteProtocolError) -> trio.BrokenResourceError:
        reason = f"what arrived is not what was sent: {error}"
        self._mux.fail(reason)
        return trio.BrokenResourceError(reason)

    def _take(self, max_bytes: int | None) -> bytes:
        size = len(self._plaintext) if max_bytes is None else max_bytes
        taken = bytes(self._plaintext[:size])
        self._plaintext = self._plaintext[size:]
        return taken

    # ---- the end ----

    async def aclose(self) -> None:
        """End the stream: what was sent still arrives; what the peer still sends is refused."""
        self._mux.close()
        await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """Drop the stream at once, without waiting: the peer's reads and writes break."""
        self._mux.reset()

    def __repr__(self) -> str:
        return f"<DmsgStream {self.local} - {self.remote} through {self.server_pk.short}>"


def _give_all_back(pieces: list[memoryview]) -> None:
    for piece in pieces:
        give_back(piece)


def _plaintext_in(room: int) -> int:
    """How many bytes of plaintext the frames that fit into ``room`` can carry."""
    whole, rest = divmod(room, MAX_FRAME_SIZE)
    return whole * MAX_PLAINTEXT + max(0, rest - FRAME_OVERHEAD)
