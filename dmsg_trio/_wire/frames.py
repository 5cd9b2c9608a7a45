"""Frames: how what is encrypted lies on a byte stream, and the ciphers that fill them.

Handshake messages and stream data travel as ``length uint16 | body`` of at most 4096 bytes, session
objects in the same form with a body of up to 65535. A body that is encrypted with a transport key
is ``counter uint64 | ciphertext | tag(16)``, all numbers big-endian; the counter starts at 1.

Every byte of every stream goes through `FrameSealer.seal` and `FrameOpener.open_untrusted`.
"""

import struct
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from dmsg_trio._errors import LocalProtocolError, RemoteProtocolError
from dmsg_trio._wire.noise import MAX_NONCE, TAG_SIZE, aead_nonce
from dmsg_trio._wire.nonces import NonceWindow

PREFIX_SIZE: Final = 2
COUNTER_SIZE: Final = 8
MAX_FRAME_SIZE: Final = 4096  # with its prefix
MAX_BODY: Final = MAX_FRAME_SIZE - PREFIX_SIZE
MIN_BODY: Final = COUNTER_SIZE + TAG_SIZE  # of an encrypted frame
FRAME_OVERHEAD: Final = PREFIX_SIZE + MIN_BODY
MAX_PLAINTEXT: Final = MAX_FRAME_SIZE - FRAME_OVERHEAD
MAX_OBJECT_BODY: Final = 65535
MAX_OBJECT: Final = MAX_OBJECT_BODY - MIN_BODY  # before it is encrypted
PING_MARKER: Final = b"\0\0"  # a session object of no bytes: the other side sends it back

Buffer: TypeAlias = bytes | bytearray | memoryview

_REFUSED_BEFORE: Final = "a frame was refused before, nothing can follow it"
_HEADER: Final = struct.Struct(">HQ")  # prefix and counter
_HEADER_SIZE: Final = _HEADER.size


# ---- handshake messages and session objects: length | body ----


def frame(body: bytes) -> bytes:
    """Put the prefix of a Noise frame before a handshake message."""
    return _prefixed(body, MAX_BODY)


def frame_object(body: bytes) -> bytes:
    """Put the prefix of a session object before an encrypted object."""
    return _prefixed(body, MAX_OBJECT_BODY)


def _prefixed(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise LocalProtocolError(f"a body of {len(body)} bytes, the limit is {limit}")
    return len(body).to_bytes(PREFIX_SIZE) + body


class FrameReader:
    """Finds whole bodies in what a peer sends, and keeps what comes after them.

    A handshake takes one frame at a time with `feed` and `next_frame`, since what follows its last
    frame is no frame any more: that is `trailing`.
    """

    __slots__ = ("_incoming", "_limit")

    def __init__(self, limit: int = MAX_BODY) -> None:
        self._limit = limit
        self._incoming = bytearray()

    @property
    def trailing(self) -> bytes:
        """What was fed and not yet used."""
        return bytes(self._incoming)

    def feed(self, data: Buffer) -> None:
        """Take in what was read from the peer; ask for frames until there is none, then feed more."""
        self._incoming += data

    def next_frame(self) -> bytes | None:
        """Take out the next body, or None if it is not all there."""
        if len(self._incoming) < PREFIX_SIZE:
            return None
        length = int.from_bytes(self._incoming[:PREFIX_SIZE])
        if length > self._limit:
            raise RemoteProtocolError(f"a frame of {length} bytes, the limit is {self._limit}")
        end = PREFIX_SIZE + length
        if len(self._incoming) < end:
            return None
        body = bytes(self._incoming[PREFIX_SIZE:end])
        del self._incoming[:end]
        return body

    def receive_data(self, data: Buffer) -> list[bytes]:
        """Take in what was read from the peer; answer with all bodies that are complete by it."""
        self.feed(data)
        return list(iter(self.next_frame, None))


# ---- stream data: frames in order ----


def sealed_size(size: int) -> int:
    """How many bytes the frames take that carry ``size`` bytes."""
    return size + _frames_of(size) * FRAME_OVERHEAD


def _frames_of(size: int) -> int:
    return -(-size // MAX_PLAINTEXT)


class FrameSealer:
    """Encrypts what a stream sends; the frames must be sent in the order in which they were sealed."""

    __slots__ = ("_counter", "_encrypt_into")

    def __init__(self, key: bytes) -> None:
        self._encrypt_into = ChaCha20Poly1305(key).encrypt_into
        self._counter = 0

    def seal(self, plaintext: Buffer) -> bytearray:
        """Encrypt ``plaintext`` of any length into as many frames as it takes, back to back."""
        sealed = bytearray(sealed_size(len(plaintext)))
        self.seal_into(plaintext, memoryview(sealed))
        return sealed

    def seal_into(self, plaintext: Buffer, target: memoryview) -> int:
        """Do as `seal` does, to the beginning of ``target``; say how many bytes came out."""
        size = len(plaintext)
        if self._counter + _frames_of(size) >= MAX_NONCE:
            raise LocalProtocolError(f"this key has sealed {self._counter} frames, it is used up")
        source, encrypt_into = memoryview(plaintext), self._encrypt_into
        counter, start = self._counter, 0
        for at in range(0, size, MAX_PLAINTEXT):
            chunk = source[at : at + MAX_PLAINTEXT]
            end = start + len(chunk) + FRAME_OVERHEAD
            counter += 1
            _HEADER.pack_into(target, start, end - start - PREFIX_SIZE, counter)
            encrypt_into(aead_nonce(counter), chunk, None, target[start + _HEADER_SIZE : end])
            start = end
        self._counter = counter
        return start

    def __repr__(self) -> str:
        return f"<FrameSealer after {self._counter} frames>"


class FrameOpener:
    """Decrypts what a stream receives, however the way has cut it into pieces.

    After an error it opens nothing more: the frames behind one that was refused are never taken
    for the ones that follow the last good one.
    """

    __slots__ = ("_broken", "_decrypt", "_decrypt_into", "_last", "_partial")

    def __init__(self, key: bytes) -> None:
        cipher = ChaCha20Poly1305(key)
        self._decrypt = cipher.decrypt
        self._decrypt_into = cipher.decrypt_into
        self._last = 0  # the counter of the latest frame
        self._partial = b""
        self._broken = False

    @property
    def partial(self) -> int:
        """How many bytes of a frame that is not all there are kept for the next call."""
        return len(self._partial)

    def open_untrusted(self, *pieces: Buffer) -> bytes | bytearray:
        """Decrypt all frames that are complete by ``pieces``; they may carry nothing at all."""
        if self._broken:
            raise LocalProtocolError(_REFUSED_BEFORE)
        if len(pieces) == 1 and not self._partial and self._is_next_frame(view := pieces[0]):
            return self._open_frame(view)  # whoever says little and waits sends it like this
        opened = bytearray(self.room_for(*pieces))
        with memoryview(opened) as target:
            size = self.open_untrusted_into(target, *pieces)
        del opened[size:]
        return opened

    def room_for(self, *pieces: Buffer) -> int:
        """How many bytes `open_untrusted_into` may need; a frame is longer than what it carries."""
        return len(self._partial) + sum(map(len, pieces))

    def open_untrusted_into(self, target: memoryview, *pieces: Buffer) -> int:
        """Do as `open_untrusted` does, to the beginning of ``target``; say how many bytes came out.

        There must be `room_for` the pieces.
        """
        if self._broken:
            raise LocalProtocolError(_REFUSED_BEFORE)
        size = 0
        for piece in pieces:
            size += self._open_piece(memoryview(piece), target[size:])
        return size

    def _is_next_frame(self, data: Buffer) -> bool:
        """Whether ``data`` is one whole frame, and the one that is due."""
        size = len(data)
        if not PREFIX_SIZE + MIN_BODY <= size <= MAX_FRAME_SIZE:
            return False
        length, counter = _HEADER.unpack_from(data)
        return bool(size == PREFIX_SIZE + length and counter == self._last + 1)

    def _open_frame(self, data: Buffer) -> bytes:
        self._last += 1
        try:
            sealed = memoryview(data)[_HEADER_SIZE:]
            return self._decrypt(aead_nonce(self._last), sealed, None)
        except InvalidTag:
            raise self._refusal(f"frame {self._last} does not decrypt") from None

    def _open_piece(self, view: memoryview, target: memoryview) -> int:
        """Decrypt what ``view`` completes, keep what it leaves open, and say how much came out."""
        size = 0
        if kept := len(self._partial):
            # The frame that lies across two pieces is completed in a copy; all others are opened
            # where they lie. So much of `view` completes it for sure, if there is so much.
            head = self._partial + view[: MAX_FRAME_SIZE - kept]
            used, size = self._open_frames(memoryview(head), target)
            if not used:
                self._partial = head
                return 0
            view = view[used - kept :]
        used, more = self._open_frames(view, target[size:])
        self._partial = bytes(view[used:])
        return size + more

    def _open_frames(self, view: memoryview, target: memoryview) -> tuple[int, int]:
        """Decrypt the whole frames that ``view`` begins with, and say how many bytes went in and out."""
        decrypt_into, last, size, start, filled = self._decrypt_into, self._last, len(view), 0, 0
        while size - start >= _HEADER_SIZE:
            length, counter = _HEADER.unpack_from(view, start)
            if not MIN_BODY <= length <= MAX_BODY:
                raise self._refusal(f"a frame of {length} bytes, not {MIN_BODY} to {MAX_BODY}")
            # The protocol lets counters skip; but a server on the way that leaves out a frame would
            # then go unnoticed, and nobody who sends ever skips one.
            if counter != last + 1:
                raise self._refusal(f"frame {counter} after frame {last}")
            end = start + PREFIX_SIZE + length
            if end > size:
                break
            room = target[filled : filled + length - MIN_BODY]
            try:
                decrypt_into(aead_nonce(counter), view[start + _HEADER_SIZE : end], None, room)
            except InvalidTag:
                raise self._refusal(f"frame {counter} does not decrypt") from None
            filled += length - MIN_BODY
            last, start = counter, end
        self._last = last
        return start, filled

    def _refusal(self, reason: str) -> RemoteProtocolError:
        self._broken = True
        return RemoteProtocolError(reason)

    def __repr__(self) -> str:
        return f"<FrameOpener after frame {self._last}, {self.partial} bytes of the next>"


# ---- session objects: bodies that may overtake each other ----


class ObjectSealer:
    """Encrypts the objects that a session sends; all its streams share the counter.

    It keeps the key and no cipher: that would be 2 KiB for the life of each session of a server.
    """

    __slots__ = ("_counter", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._counter = 0

    def seal(self, plaintext: Buffer) -> bytes:
        """Encrypt one object to ``counter | ciphertext``; `frame_object` puts it on a stream."""
        if len(plaintext) > MAX_OBJECT:
            raise LocalProtocolError(
                f"an object of {len(plaintext)} bytes, the limit is {MAX_OBJECT}"
            )
        if self._counter + 1 >= MAX_NONCE:
            raise LocalProtocolError(f"this key has sealed {self._counter} objects, it is used up")
        self._counter += 1
        sealed = ChaCha20Poly1305(self._key).encrypt(aead_nonce(self._counter), plaintext, None)
        return self._counter.to_bytes(COUNTER_SIZE) + sealed

    def __repr__(self) -> str:
        return f"<ObjectSealer after {self._counter} objects>"


class ObjectOpener:
    """Decrypts the objects that a session receives, each once, a little out of order at most."""

    __slots__ = ("_key", "_window")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._window = NonceWindow()

    def open_untrusted(self, body: Buffer) -> bytes:
        """Decrypt one object; a body that is refused changes nothing."""
        if not MIN_BODY <= len(body) <= MAX_OBJECT_BODY:
            raise RemoteProtocolError(
                f"an encrypted object of {len(body)} bytes, not {MIN_BODY} to {MAX_OBJECT_BODY}"
            )
        view = memoryview(body)
        counter = int.from_bytes(view[:COUNTER_SIZE])
        if not self._window.check(counter):
            raise RemoteProtocolError(f"object {counter} was seen before, or is too old to tell")
        try:
            cipher = ChaCha20Poly1305(self._key)
            plaintext = cipher.decrypt(aead_nonce(counter), view[COUNTER_SIZE:], None)
        except InvalidTag:
            raise RemoteProtocolError(f"object {counter} does not decrypt") from None
        # Only now: a forged counter must not move the window.
        self._window.mark(counter)
        return plaintext

    def __repr__(self) -> str:
        return f"<ObjectOpener with {self._window!r}>"
