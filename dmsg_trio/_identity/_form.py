"""What an identity file says: a secret key in the clear, or sealed with a passphrase.

The public key stands in it in the clear, so whose it is can be told without the passphrase:

    {"dmsg_identity": 1, "public_key": "02…", "secret_key": "…"}
    {"dmsg_identity": 1, "public_key": "02…", "sealed": {"kdf": "argon2id", …}}

Also understood: a bare secret key of 64 hex digits, and configuration files of other dmsg programs,
which hold it as ``secret_key`` or ``sk``. Faults are `ValueError`s whose frames have seen the key:
whoever calls raises its own error outside of the ``except`` block, so that no traceback has them.
"""

from __future__ import annotations

import json
import unicodedata
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import nacl.exceptions
import nacl.pwhash
import nacl.secret
import nacl.utils

from dmsg_trio._keys import SECRET_KEY_SIZE, PublicKey, SecretKey

VERSION: Final = 1

# What a stranger's file may make us spend on one try of a passphrase.
MAX_PASSES: Final = 8
MAX_MEMORY: Final = 1 << 30

_MIN_MEMORY: Final = nacl.pwhash.argon2id.MEMLIMIT_MIN
_SALT_SIZE: Final = nacl.pwhash.argon2id.SALTBYTES
_BOX_SIZE: Final = (
    nacl.secret.SecretBox.NONCE_SIZE + nacl.secret.SecretBox.MACBYTES + SECRET_KEY_SIZE
)
_OUR_NAMES: Final = {"dmsg_identity", "public_key", "pk", "secret_key", "sk", "sealed"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one try of a passphrase costs with Argon2id: passes over so many bytes of memory."""

    passes: int
    memory: int

    def __post_init__(self) -> None:
        if not 1 <= self.passes <= MAX_PASSES:
            raise ValueError(f"sealed with {self.passes} passes, 1 to {MAX_PASSES} are accepted")
        if not _MIN_MEMORY <= self.memory <= MAX_MEMORY:
            limits = f"{_MIN_MEMORY} to {MAX_MEMORY}"
            raise ValueError(f"sealed with {self.memory} bytes of memory, {limits} are accepted")


MODERATE: Final = Cost(passes=3, memory=1 << 28)  # about half a second


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret key under a passphrase; ``pk`` is only claimed until it has been opened."""

    pk: PublicKey
    cost: Cost
    salt: bytes
    box: bytes

    @classmethod
    def of(cls, sk: SecretKey, passphrase: str, cost: Cost) -> Sealed:
        """Seal ``sk`` with a fresh salt and nonce."""
        if not passphrase:
            raise ValueError("an empty passphrase seals nothing")
        salt = nacl.utils.random(_SALT_SIZE)
        return cls(sk.pk, cost, salt, _secret_box(passphrase, salt, cost).encrypt(sk.reveal()))

    def open(self, passphrase: str) -> SecretKey:
        """Take the secret key out; raise `ValueError` if that cannot be."""
        box = _secret_box(passphrase, self.salt, self.cost)
        try:
            sk = SecretKey(box.decrypt(self.box))
        except nacl.exceptions.CryptoError:
            raise ValueError("wrong passphrase") from None
        if sk.pk != self.pk:
            raise ValueError(f"the sealed key belongs to {sk.pk}, the file claims {self.pk}")
        return sk


def _secret_box(passphrase: str, salt: bytes, cost: Cost) -> nacl.secret.SecretBox:
    # Systems differ in how they compose an "é"; to a person it is the same passphrase.
    words = unicodedata.normalize("NFC", passphrase).encode()
    try:
        key = nacl.pwhash.argon2id.kdf(
            nacl.secret.SecretBox.KEY_SIZE, words, salt, cost.passes, cost.memory
        )
    except nacl.exceptions.RuntimeError:
        needed = cost.memory >> 20
        raise ValueError(f"to try a passphrase {needed} MiB of memory are needed") from None
    return nacl.secret.SecretBox(key)


# ---- out ----


@dataclass(frozen=True, slots=True)
class Hidden:
    """Bytes that hold a key or a passphrase, and do not show in tracebacks."""

    raw: bytes = field(repr=False)


def form_of(identity: SecretKey | Sealed) -> Hidden:
    """Put an identity into the form that it has in a file."""
    key: dict[str, object]
    if isinstance(identity, SecretKey):
        key = {"secret_key": identity.reveal().hex()}
    else:
        key = {
            "sealed": {
                "kdf": "argon2id",
                "passes": identity.cost.passes,
                "memory": identity.cost.memory,
                "salt": identity.salt.hex(),
                "box": identity.box.hex(),
            }
        }
    settings = {"dmsg_identity": VERSION, "public_key": str(identity.pk), **key}
    return Hidden(json.dumps(settings, indent=2).encode() + b"\n")


# ---- in ----


@dataclass(frozen=True, slots=True)
class Understood:
    """An identity, and the names of what else the file holds."""

    identity: SecretKey | Sealed
    other_settings: tuple[str, ...] = ()


def understand_untrusted(data: Hidden) -> Understood:
    """Read a file of any of the forms that this module knows."""
    try:
        text = data.raw.decode().strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"neither JSON nor hex digits: byte {error.start} is no text") from None
    if not text:
        raise ValueError("empty")
    if not text.startswith("{"):
        return Understood(SecretKey.parse(text))
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} in line {error.lineno}") from None
    except RecursionError:
        raise ValueError("nested deeper than any identity") from None
    return Understood(_identity_untrusted(settings), tuple(sorted(settings.keys() - _OUR_NAMES)))


def _identity_untrusted(settings: dict[str, object]) -> SecretKey | Sealed:
    if (version := settings.get("dmsg_identity", VERSION)) != VERSION:
        raise ValueError(f"an identity of version {version!r:.20}, this program knows {VERSION}")
    pk_name = "pk" if "pk" in settings else "public_key"
    claimed = PublicKey.parse(_text(settings, pk_name)) if pk_name in settings else None
    if "sealed" in settings:
        return _sealed_untrusted(claimed, settings["sealed"])
    sk_name = "sk" if "sk" in settings else "secret_key"
    sk = SecretKey.parse(_text(settings, sk_name))
    if claimed not in (None, sk.pk):
        raise ValueError(f"{sk_name} belongs to {sk.pk}, but {pk_name} is {claimed}")
    return sk


def _sealed_untrusted(pk: PublicKey | None, sealed: object) -> Sealed:
    if pk is None:
        raise ValueError("public_key is missing")
    if not isinstance(sealed, dict):
        raise ValueError("sealed is not an object")
    if sealed.get("kdf") != "argon2id":
        raise ValueError("sealed.kdf is not 'argon2id'")
    cost = Cost(_number(sealed, "passes"), _number(sealed, "memory"))
    return Sealed(pk, cost, _hex(sealed, "salt", _SALT_SIZE), _hex(sealed, "box", _BOX_SIZE))


def _text(settings: dict[str, object], name: str) -> str:
    value = settings.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is missing" if value is None else f"{name} is not a text")
    return value


def _number(sealed: dict[str, object], name: str) -> int:
    value = sealed.get(name)
    if type(value) is not int:  # a bool would be an int too
        raise ValueError(f"sealed.{name} is not a whole number")
    return value


def _hex(sealed: dict[str, object], name: str, size: int) -> bytes:
    with suppress(ValueError):
        raw = bytes.fromhex(_text(sealed, name))
        if len(raw) == size:
            return raw
    raise ValueError(f"sealed.{name} is not {size} bytes in hex")
