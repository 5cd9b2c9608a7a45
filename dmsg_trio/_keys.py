"""Keys and signatures on secp256k1: values that exist only if they are right.

Public keys are 33 compressed bytes, secret keys 32, signatures 65 (``r | s | recovery id``) over
SHA-256 of the payload (PROTOCOL: identity). A secret key never shows itself: not in its repr,
not in errors, not when formatted or pickled.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from string import hexdigits
from typing import Final, NoReturn

import coincurve

PUBLIC_KEY_SIZE: Final = 33
SECRET_KEY_SIZE: Final = 32
SIGNATURE_SIZE: Final = 65

_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_SHOWN: Final = 160  # characters of a wrong text that an error repeats


@dataclass(frozen=True, slots=True, order=True)
class PublicKey:
    """Who somebody is: a point on secp256k1, shown as 66 hex digits; ``raw`` has its 33 bytes."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != PUBLIC_KEY_SIZE:
            raise ValueError(f"a public key has {PUBLIC_KEY_SIZE} bytes, not {len(self.raw)}")
        try:
            coincurve.PublicKey(self.raw)
        except ValueError:
            raise ValueError(f"not a point on secp256k1: {self.raw.hex()}") from None

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read 66 hex digits; raise `ValueError` that says what is wrong with them."""
        return cls(_from_hex(text, PUBLIC_KEY_SIZE, "public key"))

    def verify(self, payload: bytes, signature: Signature) -> bool:
        """Tell whether this key signed ``payload``: the recovered key must be this one."""
        digest = hashlib.sha256(payload).digest()
        try:
            recovered = coincurve.PublicKey.from_signature_and_message(
                signature.raw, digest, hasher=None
            )
        except ValueError:
            return False
        return bool(recovered.format() == self.raw)

    @property
    def short(self) -> str:
        """The first 8 digits, for logs that name a key often."""
        return self.raw[:4].hex()

    def __str__(self) -> str:
        return self.raw.hex()

    def __repr__(self) -> str:
        return f"PublicKey({self.raw.hex()})"


class SecretKey:
    """The other half of a `PublicKey`; signs and agrees, and never shows itself."""

    __slots__ = ("_key", "_pk")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != SECRET_KEY_SIZE:
            size = len(raw)
            del raw  # most of a key, in a frame that a traceback may show
            raise ValueError(f"a secret key has {SECRET_KEY_SIZE} bytes, not {size}")
        if not 0 < int.from_bytes(raw) < _ORDER:
            raise ValueError("not a secret key of secp256k1: zero or too large")
        self._key = coincurve.PrivateKey(raw)
        self._pk = PublicKey(self._key.public_key.format())

    @classmethod
    def generate(cls) -> SecretKey:
        """Make a fresh key from the system's randomness."""
        # All but one in 2**128 of these are keys.
        return cls(secrets.token_bytes(SECRET_KEY_SIZE))

    @classmethod
    def parse(cls, text: str) -> SecretKey:
        """Read 64 hex digits; the `ValueError` says what is wrong without repeating them."""
        text = text.strip()
        if fault := _fault_of_hex(text, SECRET_KEY_SIZE, "secret key"):
            del text  # it may be a key with one wrong digit, in a frame that a traceback may show
            raise ValueError(fault)
        return cls(bytes.fromhex(text))

    @property
    def pk(self) -> PublicKey:
        """The public key that belongs to this secret key."""
        return self._pk

    def sign(self, payload: bytes) -> Signature:
        """Sign SHA-256 of ``payload``; deterministic (RFC 6979) and low-S."""
        digest = hashlib.sha256(payload).digest()
        return Signature(self._key.sign_recoverable(digest, hasher=None))

    def ecdh(self, pk: PublicKey) -> bytes:
        """Agree on 32 bytes with the holder of ``pk``: SHA-256 of the compressed shared point."""
        return self.ecdh_untrusted(pk.raw)

    def ecdh_untrusted(self, raw: bytes) -> bytes:
        """Agree with the holder of a key that nobody has looked at; `ValueError` if it is none."""
        if len(raw) != PUBLIC_KEY_SIZE:
            raise ValueError(f"a public key has {PUBLIC_KEY_SIZE} bytes, not {len(raw)}")
        try:
            return bytes(self._key.ecdh(raw))
        except ValueError:
            raise ValueError(f"not a point on secp256k1: {raw.hex()}") from None

    def reveal(self) -> bytes:
        """Hand out the 32 secret bytes, for writing a key file. Never log what this returns."""
        return bytes(self._key.secret)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretKey) and self._pk == other._pk

    def __hash__(self) -> int:
        return hash((SecretKey, self._pk))

    def __repr__(self) -> str:
        # Reporters of errors also ask a key that was refused while it was being made.
        return f"<SecretKey of {getattr(self, '_pk', 'nobody')}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecretKey is neither copied nor pickled; write an identity file")


@dataclass(frozen=True, slots=True)
class Signature:
    """65 bytes in ``raw``, r(32) | s(32) | recovery id(1); low-S, so that nobody can make a second one."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != SIGNATURE_SIZE:
            raise ValueError(f"a signature has {SIGNATURE_SIZE} bytes, not {len(self.raw)}")
        if self.raw[64] > 3:
            raise ValueError(f"the recovery id of a signature is 0 to 3, not {self.raw[64]}")
        if int.from_bytes(self.raw[32:64]) > _ORDER // 2:
            raise ValueError("the s of a signature is in the upper half")

    @classmethod
    def parse(cls, text: str) -> Signature:
        """Read 130 hex digits; raise `ValueError` that says what is wrong with them."""
        return cls(_from_hex(text, SIGNATURE_SIZE, "signature"))

    def __str__(self) -> str:
        return self.raw.hex()

    def __repr__(self) -> str:
        return f"Signature({self.raw.hex()})"


def _from_hex(text: str, size: int, what: str) -> bytes:
    text = text.strip()
    if fault := _fault_of_hex(text, size, what):
        # Who pastes a secret key into the wrong place should not find it in a log.
        shown = "" if len(text) == 2 * SECRET_KEY_SIZE else f": {text[:_SHOWN]!r}"
        raise ValueError(fault + shown)
    return bytes.fromhex(text)


def _fault_of_hex(text: str, size: int, what: str) -> str:
    """Say what keeps ``text`` from being ``size`` bytes in hex, without repeating it."""
    if len(text) != 2 * size:
        return f"a {what} is {2 * size} hex digits, not {len(text)}"
    if wrong := next((at for at, digit in enumerate(text, 1) if digit not in hexdigits), 0):
        return f"a {what} is hex digits only, not {text[wrong - 1]!r} at place {wrong}"
    return ""
