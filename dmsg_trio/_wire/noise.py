"""The Noise Protocol Framework, revision 34: the objects of its specification, with its names.

A `HandshakeState` has a `SymmetricState`, which has a `CipherState`. The cipher is ChaChaPoly and
the hash is SHA256; the curve is an argument. Ephemeral keys come in from outside, so everything
here is a function of its arguments. What dmsg does differently from the specification is in
``hybrid``, not here.
"""

import hashlib
import hmac
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from dmsg_trio._errors import HandshakeError, HandshakeFault, LocalProtocolError

PATTERNS: Final = {
    # name: (static keys known before: of the initiator, of the responder), messages
    "XK": (("", "s"), ("e es", "e ee", "s se")),
    "KK": (("s", "s"), ("e es ss", "e ee se")),
}

HASHLEN: Final = 32
TAG_SIZE: Final = 16
MAX_MESSAGE_SIZE: Final = 65535  # the specification's limit, of any Noise message
MAX_NONCE: Final = 2**64 - 1  # reserved by the specification: no message ever has it

aead_nonce: Final = struct.Struct("<4xQ").pack  # four zero bytes, then the counter

Secret = TypeVar("Secret")
Secret_contra = TypeVar("Secret_contra", contravariant=True)


class DH(Protocol[Secret_contra]):
    """A curve: its name in protocol names, the size of its public keys, and the agreement."""

    @property
    def name(self) -> str: ...

    @property
    def dhlen(self) -> int: ...

    def dh(self, secret: Secret_contra, public: bytes) -> bytes:
        """Agree on ``dhlen`` bytes; raise `ValueError` if ``public`` is no valid key."""
        ...


@dataclass(frozen=True, slots=True)
class KeyPair(Generic[Secret]):
    """A secret key, in the form that its curve likes, and the public bytes that belong to it."""

    secret: Secret = field(repr=False)
    public: bytes


def hkdf(salt: bytes, key_material: bytes, outputs: int, info: bytes = b"") -> list[bytes]:
    """Derive ``outputs`` keys of 32 bytes (RFC 5869; the specification's HKDF has no ``info``)."""
    temp_key = hmac.digest(salt, key_material, "sha256")
    keys, last = [], b""
    for number in range(1, outputs + 1):
        last = hmac.digest(temp_key, last + info + bytes([number]), "sha256")
        keys.append(last)
    return keys


class CipherState:
    """A key and the counter of what was encrypted with it; without a key, things stay plain."""

    __slots__ = ("_aead", "n")

    def __init__(self, key: bytes | None = None) -> None:
        self._aead = ChaCha20Poly1305(key) if key is not None else None
        self.n = 0

    @property
    def has_key(self) -> bool:
        return self._aead is not None

    def encrypt_with_ad(self, ad: bytes, plaintext: bytes) -> bytes:
        if self._aead is None:
            return plaintext
        ciphertext = self._aead.encrypt(self._nonce(), plaintext, ad)
        self.n += 1
        return ciphertext

    def decrypt_with_ad(self, ad: bytes, ciphertext: bytes) -> bytes:
        """Decrypt the next message; `InvalidTag` leaves the counter where it was."""
        if self._aead is None:
            return ciphertext
        plaintext = self._aead.decrypt(self._nonce(), ciphertext, ad)
        self.n += 1
        return plaintext

    def _nonce(self) -> bytes:
        if self.n >= MAX_NONCE:
            raise LocalProtocolError(f"this key has encrypted {self.n} messages, it is used up")
        return aead_nonce(self.n)


class SymmetricState:
    """What both ends have said so far, as a hash, and what they agreed on, as a key."""

    __slots__ = ("_cipher", "_ck", "h")

    def __init__(self, protocol_name: str) -> None:
        name = protocol_name.encode()
        fits = len(name) <= HASHLEN
        self.h = name.ljust(HASHLEN, b"\0") if fits else hashlib.sha256(name).digest()
        self._ck = self.h
        self._cipher = CipherState()

    @property
    def tag_size(self) -> int:
        """By how many bytes an encrypted thing is longer at this point of the handshake."""
        return TAG_SIZE if self._cipher.has_key else 0

    def mix_key(self, key_material: bytes) -> None:
        self._ck, key = hkdf(self._ck, key_material, 2)
        self._cipher = CipherState(key)

    def mix_hash(self, data: bytes) -> None:
        self.h = hashlib.sha256(self.h + data).digest()

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        ciphertext = self._cipher.encrypt_with_ad(self.h, plaintext)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        plaintext = self._cipher.decrypt_with_ad(self.h, ciphertext)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """Derive the keys of the two `CipherState` objects, the initiator's first."""
        first, second = hkdf(self._ck, b"", 2)
        return first, second


class HandshakeState(Generic[Secret]):
    """One end of a handshake. ``s``, ``e``: own keys; ``rs``, ``re``: the peer's, empty until known."""

    def __init__(
        self,
        dh: DH[Secret],
        pattern: str,
        *,
        initiator: bool,
        s: KeyPair[Secret],
        e: KeyPair[Secret],
        rs: bytes = b"",
        prologue: bytes = b"",
    ) -> None:
        (initiator_known, responder_known), self._messages = PATTERNS[pattern]
        if bool(rs) != bool(responder_known if initiator else initiator_known):
            raise LocalProtocolError(
                f"{pattern}, {'initiator' if initiator else 'responder'}: the peer's static key "
                f"{'is learned in' if rs else 'must be known before'} the handshake"
            )
        self._dh = dh
        self._pattern = pattern
        self._initiator = initiator
        self._broken = False
        self.messages_done = 0
        self.s, self.e, self.rs, self.re = s, e, rs, b""
        self._symmetric = SymmetricState(f"Noise_{pattern}_{dh.name}_ChaChaPoly_SHA256")
        self._symmetric.mix_hash(prologue)
        if initiator_known:
            self._symmetric.mix_hash(s.public if initiator else rs)
        if responder_known:
            self._symmetric.mix_hash(rs if initiator else s.public)

    @property
    def finished(self) -> bool:
        return self.messages_done == len(self._messages)

    @property
    def wrote_last(self) -> bool:
        """Whether this end wrote the latest message; the initiator writes the odd ones."""
        return self._initiator == (self.messages_done % 2 == 1)

    @property
    def handshake_hash(self) -> bytes:
        """What both ends have said, as 32 bytes that are the same on both if nobody meddled."""
        return self._symmetric.h

    def write_message(self, payload: bytes = b"") -> bytes:
        """Make the next message of the pattern, with ``payload`` in it."""
        message = bytearray()
        with self._next_message(writing=True) as tokens:
            for token in tokens:
                match token:
                    case "e":
                        self._symmetric.mix_hash(self.e.public)
                        message += self.e.public
                    case "s":
                        message += self._symmetric.encrypt_and_hash(self.s.public)
                    case _:
                        self._mix_dh(token)
            if len(message) + len(payload) + self._symmetric.tag_size > MAX_MESSAGE_SIZE:
                raise LocalProtocolError(f"a payload of {len(payload)} bytes is too long for Noise")
            message += self._symmetric.encrypt_and_hash(payload)
        return bytes(message)

    def read_message_untrusted(self, message: bytes) -> bytes:
        """Take in the peer's next message and return its payload."""
        with self._next_message(writing=False) as tokens:
            if len(message) > MAX_MESSAGE_SIZE:
                raise ValueError(f"{len(message)} bytes, more than {MAX_MESSAGE_SIZE}")
            for token in tokens:
                match token:
                    case "e":
                        self.re, message = _cut(message, self._dh.dhlen)
                        self._symmetric.mix_hash(self.re)
                    case "s":
                        sealed, message = _cut(message, self._dh.dhlen + self._symmetric.tag_size)
                        self.rs = self._symmetric.decrypt_and_hash(sealed)
                    case _:
                        self._mix_dh(token)
            _cut(message, self._symmetric.tag_size)  # a payload has at least its tag
            return self._symmetric.decrypt_and_hash(message)

    def split(self) -> tuple[bytes, bytes]:
        """Give the keys for what the initiator sends and for what the responder sends."""
        if not self.finished:
            raise LocalProtocolError(f"{self._label} is still to come, there are no keys before")
        return self._symmetric.split()

    def _mix_dh(self, token: str) -> None:
        # The first letter is the initiator's key, the second the responder's.
        ours, theirs = (token[0], token[1]) if self._initiator else (token[1], token[0])
        near = self.e if ours == "e" else self.s
        far = self.re if theirs == "e" else self.rs
        shared = self._dh.dh(near.secret, far)
        if not any(shared):
            raise ValueError("the peer's key leads to an all-zero shared secret")
        self._symmetric.mix_key(shared)

    @contextmanager
    def _next_message(self, *, writing: bool) -> Iterator[list[str]]:
        """Hand out the tokens of the message that is due; an error on the way ends the handshake."""
        if self._broken:
            raise LocalProtocolError(f"the handshake has failed at {self._label}")
        if self.finished:
            raise LocalProtocolError(f"the {self._pattern} handshake is finished")
        if writing == self.wrote_last:
            whose = "the peer's" if writing else "ours"
            raise LocalProtocolError(f"it is {whose} to write {self._label}")
        # An error leaves the hash half-way between two messages: never go on from there.
        self._broken = True
        try:
            yield self._messages[self.messages_done].split()
        except InvalidTag:
            raise HandshakeError(
                f"{self._label} does not decrypt: made with other keys, or changed on the way",
                HandshakeFault.CRYPTO,
            ) from None
        except ValueError as error:
            raise HandshakeError(f"{self._label}: {error}") from error
        self._broken = False
        self.messages_done += 1

    @property
    def _label(self) -> str:
        return f"{self._pattern} message {self.messages_done + 1}"


def _cut(message: bytes, size: int) -> tuple[bytes, bytes]:
    if len(message) < size:
        raise ValueError(f"it ends {size - len(message)} bytes too early")
    return message[:size], message[size:]
