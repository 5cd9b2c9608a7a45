"""The Noise engine against an independent one on 25519, and against the golden bytes of dmsg."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
)
from noise.connection import Keypair, NoiseConnection

from dmsg_trio._errors import HandshakeError, LocalProtocolError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._wire.hybrid import Secp256k1
from dmsg_trio._wire.noise import (
    MAX_MESSAGE_SIZE,
    MAX_NONCE,
    PATTERNS,
    CipherState,
    HandshakeState,
    KeyPair,
    aead_nonce,
    hkdf,
)

VECTORS: Final = json.loads((Path(__file__).parents[1] / "vectors" / "noise.json").read_text())


class Curve25519:
    """The curve that the independent implementation has; the engine has it only here."""

    name = "25519"
    dhlen = 32

    def dh(self, secret: X25519PrivateKey, public: bytes) -> bytes:
        return secret.exchange(X25519PublicKey.from_public_bytes(public))


def pair_25519(raw: bytes) -> KeyPair[X25519PrivateKey]:
    secret = X25519PrivateKey.from_private_bytes(raw)
    return KeyPair(secret, secret.public_key().public_bytes_raw())


@dataclass(frozen=True)
class Keys:
    """The 32 secret bytes of everybody's keys."""

    static: bytes
    ephemeral: bytes
    remote_static: bytes
    remote_ephemeral: bytes

    def swapped(self) -> "Keys":
        return Keys(self.remote_static, self.remote_ephemeral, self.static, self.ephemeral)


KEYS: Final = Keys(*(bytes([number]) * 32 for number in (1, 2, 3, 4)))


def ours(
    pattern: str, initiator: bool, prologue: bytes = b"", keys: Keys = KEYS
) -> HandshakeState[X25519PrivateKey]:
    known = PATTERNS[pattern][0][1 if initiator else 0]
    return HandshakeState(
        Curve25519(),
        pattern,
        initiator=initiator,
        s=pair_25519(keys.static),
        e=pair_25519(keys.ephemeral),
        rs=pair_25519(keys.remote_static).public if known else b"",
        prologue=prologue,
    )


def theirs(pattern: str, initiator: bool, prologue: bytes, keys: Keys) -> NoiseConnection:
    connection = NoiseConnection.from_name(f"Noise_{pattern}_25519_ChaChaPoly_SHA256".encode())
    (connection.set_as_initiator if initiator else connection.set_as_responder)()
    connection.set_prologue(prologue)
    if pattern != "NN":
        connection.set_keypair_from_private_bytes(Keypair.STATIC, keys.static)
    connection.set_keypair_from_private_bytes(Keypair.EPHEMERAL, keys.ephemeral)
    if PATTERNS[pattern][0][1 if initiator else 0]:
        remote = pair_25519(keys.remote_static).public
        connection.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, remote)
    with pytest.warns(UserWarning, match="ephemeral"):  # it rightly wants to make its own
        connection.start_handshake()
    return connection


def agree_with_the_oracle(
    pattern: str, initiator: bool, prologue: bytes, payloads: list[bytes]
) -> None:
    """Run one of ours against one of theirs: payloads, hash and transport keys are the same."""
    near = ours(pattern, initiator, prologue)
    far = theirs(pattern, not initiator, prologue, KEYS.swapped())
    our_turn = initiator
    for payload in payloads[: len(PATTERNS[pattern][1])]:
        if our_turn:
            assert far.read_message(near.write_message(payload)) == payload
        else:
            assert near.read_message_untrusted(bytes(far.write_message(payload))) == payload
        our_turn = not our_turn
    assert near.finished
    assert far.handshake_finished
    assert near.handshake_hash == far.get_handshake_hash()
    by_initiator, by_responder = (CipherState(key) for key in near.split())
    send, receive = (by_initiator, by_responder) if initiator else (by_responder, by_initiator)
    for text in (b"one", b"", b"three"):
        assert far.decrypt(send.encrypt_with_ad(b"", text)) == text
        assert receive.decrypt_with_ad(b"", far.encrypt(text)) == text


@given(
    st.sampled_from(["XK", "KK"]),
    st.booleans(),
    st.binary(max_size=80),
    st.lists(st.binary(max_size=1300), min_size=3, max_size=3),
)
def test_an_independent_implementation_agrees(
    pattern: str, initiator: bool, prologue: bytes, payloads: list[bytes]
) -> None:
    agree_with_the_oracle(pattern, initiator, prologue, payloads)


@pytest.mark.parametrize("initiator", [True, False])
@pytest.mark.parametrize(
    ("name", "known", "messages"),
    [
        ("NN", ("", ""), ("e", "e ee")),
        ("XX", ("", ""), ("e", "e ee s es", "s se")),
        ("IK", ("", "s"), ("e es s ss", "e ee se")),
    ],
)
def test_a_new_pattern_is_a_line_in_the_table(
    monkeypatch: pytest.MonkeyPatch,
    initiator: bool,
    name: str,
    known: tuple[str, str],
    messages: tuple[str, ...],
) -> None:
    monkeypatch.setitem(PATTERNS, name, (known, messages))
    agree_with_the_oracle(name, initiator, b"prologue", [b"first", b"second", b"third"])


def test_the_initiator_of_xk_becomes_known_with_the_last_message() -> None:
    near, far = ours("XK", True), ours("XK", False, keys=KEYS.swapped())
    far.read_message_untrusted(near.write_message())
    near.read_message_untrusted(far.write_message())
    assert far.rs == b""
    far.read_message_untrusted(near.write_message())
    assert far.rs == near.s.public


# ---- golden bytes ----


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["protocol"])[6:8])
def test_the_golden_handshakes_come_out_byte_by_byte(vector: dict[str, object]) -> None:
    near, far = secp_pair(vector)
    writer, reader = near, far
    for message in texts(vector["messages"]):
        assert writer.write_message().hex() == message
        assert reader.read_message_untrusted(bytes.fromhex(message)) == b""
        writer, reader = reader, writer
    assert near.finished
    assert near.handshake_hash.hex() == far.handshake_hash.hex() == vector["handshake_hash"]
    assert near.split() == far.split()


def secp_pair(
    vector: dict[str, object],
) -> tuple[HandshakeState[SecretKey], HandshakeState[SecretKey]]:
    pattern = str(vector["protocol"])[6:8]

    def one(side: str, other: str, known: str) -> HandshakeState[SecretKey]:
        return HandshakeState(
            Secp256k1(),
            pattern,
            initiator=side == "initiator",
            s=pair_secp(field(vector, side, "static_sk")),
            e=pair_secp(field(vector, side, "ephemeral_sk")),
            rs=bytes.fromhex(field(vector, other, "static_pk")) if known else b"",
        )

    initiator_known, responder_known = PATTERNS[pattern][0]
    return (
        one("initiator", "responder", responder_known),
        one("responder", "initiator", initiator_known),
    )


def field(vector: dict[str, object], side: str, name: str) -> str:
    keys = vector[side]
    assert isinstance(keys, dict)
    return str(keys[name])


def texts(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(one) for one in value]


def pair_secp(digits: str) -> KeyPair[SecretKey]:
    secret = SecretKey.parse(digits)
    return KeyPair(secret, secret.pk.raw)


# ---- what a hostile peer can send ----


@pytest.mark.parametrize("pattern", ["XK", "KK"])
@given(data=st.data())
def test_a_changed_message_is_a_handshake_error_and_the_end(
    pattern: str, data: st.DataObject
) -> None:
    writer, reader = ours(pattern, True), ours(pattern, False, keys=KEYS.swapped())
    for _ in range(data.draw(st.integers(0, len(PATTERNS[pattern][1]) - 1))):
        reader.read_message_untrusted(writer.write_message(b"payload"))
        writer, reader = reader, writer
    message = bytearray(writer.write_message(b"payload"))
    at = data.draw(st.integers(0, len(message) - 1))
    # The top bit of a coordinate on 25519 means nothing there; the hash still notices it.
    message[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(HandshakeError, match=rf"{pattern} message \d"):
        reader.read_message_untrusted(bytes(message))
    with pytest.raises(LocalProtocolError, match="failed"):
        reader.write_message()
    with pytest.raises(LocalProtocolError, match="failed"):
        reader.read_message_untrusted(bytes(message))


def test_every_shorter_message_is_refused_and_says_what_is_missing() -> None:
    message = ours("XK", True).write_message()
    for size in range(len(message)):
        with pytest.raises(HandshakeError, match=r"ends \d+ bytes too early"):
            ours("XK", False, keys=KEYS.swapped()).read_message_untrusted(message[:size])


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(bytes(33), id="zero"),
        pytest.param(b"\x02" + b"\xff" * 32, id="x too large"),
        pytest.param(b"\x02" + bytes(31) + b"\x05", id="not on the curve"),
        pytest.param(b"\x04" + bytes(32), id="uncompressed"),
        pytest.param(b"\x06" + bytes(32), id="hybrid"),
    ],
)
def test_what_is_no_point_of_secp256k1_is_refused(point: bytes) -> None:
    _, responder = secp_pair(VECTORS[0])
    with pytest.raises(HandshakeError, match="XK message 1: not a point"):
        responder.read_message_untrusted(point + bytes(16))


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)])
def test_a_point_of_small_order_is_refused(point: bytes) -> None:
    with pytest.raises(HandshakeError, match="XK message 1"):
        ours("XK", False).read_message_untrusted(point + bytes(16))


def test_an_all_zero_shared_secret_is_refused_whatever_the_curve_thinks_of_it() -> None:
    class Careless:
        name = "Careless"
        dhlen = 32

        def dh(self, secret: bytes, public: bytes) -> bytes:
            return bytes(32)

    pair = KeyPair(b"secret", bytes(32))
    responder = HandshakeState(Careless(), "XK", initiator=False, s=pair, e=pair)
    with pytest.raises(HandshakeError, match="all-zero"):
        responder.read_message_untrusted(bytes(48))


def test_messages_have_the_size_limit_of_the_specification() -> None:
    too_long = MAX_MESSAGE_SIZE + 1
    with pytest.raises(HandshakeError, match=f"{too_long} bytes"):
        ours("XK", False).read_message_untrusted(bytes(too_long))
    room = MAX_MESSAGE_SIZE - 48
    with pytest.raises(LocalProtocolError, match=f"{room + 1} bytes"):
        ours("XK", True).write_message(bytes(room + 1))
    assert len(ours("XK", True).write_message(bytes(room))) == MAX_MESSAGE_SIZE


# ---- what the caller can do wrong ----


def test_messages_are_written_and_read_in_turn() -> None:
    near, far = ours("KK", True), ours("KK", False, keys=KEYS.swapped())
    with pytest.raises(LocalProtocolError, match="ours to write KK message 1"):
        near.read_message_untrusted(b"")
    with pytest.raises(LocalProtocolError, match="the peer's to write KK message 1"):
        far.write_message()
    far.read_message_untrusted(near.write_message())
    with pytest.raises(LocalProtocolError, match="KK message 2 is still to come"):
        near.split()
    near.read_message_untrusted(far.write_message())
    acts: list[Callable[[], bytes]] = [
        near.write_message,
        far.write_message,
        lambda: far.read_message_untrusted(b""),
    ]
    for act in acts:
        with pytest.raises(LocalProtocolError, match="finished"):
            act()
    assert near.split() == far.split()


@pytest.mark.parametrize(
    ("pattern", "initiator", "rs"),
    [("XK", True, b""), ("XK", False, bytes(32)), ("KK", True, b""), ("KK", False, b"")],
)
def test_a_pattern_says_whether_the_peers_key_must_be_known(
    pattern: str, initiator: bool, rs: bytes
) -> None:
    pair = pair_25519(KEYS.static)
    with pytest.raises(LocalProtocolError, match="static key"):
        HandshakeState(Curve25519(), pattern, initiator=initiator, s=pair, e=pair, rs=rs)


# ---- the parts ----


@given(st.binary(min_size=32, max_size=32), st.integers(0, MAX_NONCE - 1), st.binary(), st.binary())
def test_the_cipher_is_that_of_another_library(key: bytes, n: int, ad: bytes, text: bytes) -> None:
    near, far = CipherState(key), CipherState(key)
    near.n = far.n = n
    sealed = near.encrypt_with_ad(ad, text)
    nonce = bytes(4) + n.to_bytes(8, "little")
    assert aead_nonce(n) == nonce
    assert sealed == crypto_aead_chacha20poly1305_ietf_encrypt(text, ad, nonce, key)
    assert crypto_aead_chacha20poly1305_ietf_decrypt(sealed, ad, nonce, key) == text
    assert far.decrypt_with_ad(ad, sealed) == text
    assert near.n == far.n == n + 1


def test_what_does_not_decrypt_leaves_the_counter_where_it_was() -> None:
    near, far = CipherState(bytes(32)), CipherState(bytes(32))
    with pytest.raises(InvalidTag):
        far.decrypt_with_ad(b"", bytes(20))
    assert far.decrypt_with_ad(b"", near.encrypt_with_ad(b"", b"text")) == b"text"


@pytest.mark.parametrize("act", [CipherState.encrypt_with_ad, CipherState.decrypt_with_ad])
def test_the_last_nonce_is_never_used(act: Callable[[CipherState, bytes, bytes], bytes]) -> None:
    cipher = CipherState(bytes(32))
    cipher.n = MAX_NONCE
    with pytest.raises(LocalProtocolError, match="used up"):
        act(cipher, b"", bytes(16))
    assert cipher.n == MAX_NONCE


@given(st.binary(max_size=64), st.binary(max_size=100), st.integers(1, 3), st.binary(max_size=30))
def test_hkdf_is_that_of_rfc_5869(salt: bytes, secret: bytes, outputs: int, info: bytes) -> None:
    expected = HKDF(SHA256(), 32 * outputs, salt or None, info).derive(secret)
    assert b"".join(hkdf(salt, secret, outputs, info)) == expected


def test_a_key_pair_does_not_show_its_secret() -> None:
    pair = KeyPair(b"very secret bytes", b"public bytes")
    assert "very secret" not in repr(pair)
    assert "public bytes" in repr(pair)


def test_the_curve_of_dmsg_gives_33_bytes_that_end_in_zero() -> None:
    near, far = SecretKey(bytes([7]) * 32), SecretKey(bytes([8]) * 32)
    shared = Secp256k1().dh(near, far.pk.raw)
    assert shared == Secp256k1().dh(far, near.pk.raw) == near.ecdh(PublicKey(far.pk.raw)) + b"\0"
    assert len(shared) == Secp256k1.dhlen == 33
