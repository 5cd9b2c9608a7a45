"""The handshakes of dmsg: golden bytes with and without ML-KEM, and what each side may insist on."""

import json
from pathlib import Path
from typing import Final, NotRequired, TypedDict

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio._errors import HandshakeError, LocalProtocolError
from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio._wire.frames import FrameOpener, ObjectOpener, ObjectSealer, frame
from dmsg_trio._wire.hybrid import (
    CIPHERTEXT_SIZE,
    ENCAPSULATION_KEY_SIZE,
    Handshake,
    PostQuantum,
    Secp256k1,
    TransportKeys,
)
from dmsg_trio._wire.noise import HandshakeState, KeyPair

OFFER, REQUIRE, OFF = PostQuantum.OFFER, PostQuantum.REQUIRE, PostQuantum.OFF
SEED: Final = bytes(range(64))
ALICE, BOB = SecretKey(bytes([1]) * 32), SecretKey(bytes([2]) * 32)
EPHEMERALS: Final = SecretKey(bytes([3]) * 32), SecretKey(bytes([4]) * 32)


def pair(
    pattern: str,
    initiator: PostQuantum = OFFER,
    responder: PostQuantum = OFFER,
) -> tuple[Handshake, Handshake]:
    """Alice, who begins, and Bob."""
    alice = Handshake(
        pattern,
        initiator=True,
        static=ALICE,
        remote_static=BOB.pk,
        ephemeral=EPHEMERALS[0],
        post_quantum=initiator,
        kem_seed=SEED,
    )
    bob = Handshake(
        pattern,
        initiator=False,
        static=BOB,
        remote_static=ALICE.pk if pattern == "KK" else None,
        ephemeral=EPHEMERALS[1],
        post_quantum=responder,
    )
    return alice, bob


def shake(near: Handshake, far: Handshake) -> list[bytes]:
    """Carry messages until both have finished."""
    messages = []
    while not near.finished:
        messages.append(near.write_message())
        far.read_message_untrusted(messages[-1])
        near, far = far, near
    assert far.finished
    return messages


# ---- golden bytes ----


class Side(TypedDict):
    """The keys of one side."""

    static_sk: str
    static_pk: str
    ephemeral_sk: str
    mlkem768_seed_d_z: NotRequired[str]


Body = TypedDict("Body", {"from": str, "nonce": int, "plaintext": str, "frame_body": str})


class Vector(TypedDict):
    """One golden handshake, and what was said after it."""

    protocol: str
    messages: list[str]
    handshake_hash: str
    initiator: Side
    responder: Side
    transport: list[Body]
    payload_2: NotRequired[str]
    shared_secret: NotRequired[str]
    classical_key_initiator_to_responder: NotRequired[str]
    classical_key_responder_to_initiator: NotRequired[str]
    hybrid_key_initiator_to_responder: NotRequired[str]
    hybrid_key_responder_to_initiator: NotRequired[str]


FOLDER: Final = Path(__file__).parents[1] / "vectors"
CLASSICAL: list[Vector] = json.loads((FOLDER / "noise.json").read_text())
HYBRID: list[Vector] = json.loads((FOLDER / "noise_hybrid.json").read_text())


def golden_pair(vector: Vector) -> tuple[Handshake, Handshake]:
    pattern = vector["protocol"][6:8]
    near, far = vector["initiator"], vector["responder"]
    seed = near.get("mlkem768_seed_d_z")
    alice = Handshake(
        pattern,
        initiator=True,
        static=SecretKey.parse(near["static_sk"]),
        remote_static=PublicKey.parse(far["static_pk"]),
        ephemeral=SecretKey.parse(near["ephemeral_sk"]),
        post_quantum=OFFER if seed else OFF,
        kem_seed=bytes.fromhex(seed) if seed else None,
    )
    answer = (
        bytes.fromhex(vector.get("shared_secret", "")),
        bytes.fromhex(vector.get("payload_2", "")),
    )
    bob = Handshake(
        pattern,
        initiator=False,
        static=SecretKey.parse(far["static_sk"]),
        remote_static=PublicKey.parse(near["static_pk"]) if pattern == "KK" else None,
        ephemeral=SecretKey.parse(far["ephemeral_sk"]),
        encapsulate=lambda _offer: answer,
    )
    return alice, bob


@pytest.mark.parametrize("vector", CLASSICAL + HYBRID)
def test_the_golden_handshakes_come_out_byte_by_byte(vector: Vector) -> None:
    alice, bob = golden_pair(vector)
    assert [message.hex() for message in shake(alice, bob)] == vector["messages"]
    for side in (alice, bob):
        assert side.handshake_hash.hex() == vector["handshake_hash"]
        assert side.is_post_quantum is ("hybrid_key_initiator_to_responder" in vector)
    assert alice.remote_static.raw.hex() == vector["responder"]["static_pk"]
    assert bob.remote_static.raw.hex() == vector["initiator"]["static_pk"]
    ends = {"initiator": (alice.split(), bob.split()), "responder": (bob.split(), alice.split())}
    for sender, (near, far) in ends.items():
        assert near.send == far.receive
        check_bodies(near.send, [body for body in vector["transport"] if body["from"] == sender])
    if alice.is_post_quantum:
        keys = alice.split()
        assert keys.send.hex() == vector["hybrid_key_initiator_to_responder"]
        assert keys.receive.hex() == vector["hybrid_key_responder_to_initiator"]
        assert {key.hex() for key in alice._state.split()} == {
            vector["classical_key_initiator_to_responder"],
            vector["classical_key_responder_to_initiator"],
        }


def check_bodies(key: bytes, bodies: list[Body]) -> None:
    """What one direction said: the sealer makes the same bytes, the openers read them."""
    assert bodies
    sealer, opener, stream_opener = ObjectSealer(key), ObjectOpener(key), FrameOpener(key)
    sealed = 0
    for body in bodies:
        for _ in range(body["nonce"] - sealed - 1):  # some were left out of the file
            stream_opener.open_untrusted(frame(sealer.seal(b"")))
        sealed = body["nonce"]
        plaintext, golden = bytes.fromhex(body["plaintext"]), bytes.fromhex(body["frame_body"])
        assert sealer.seal(plaintext) == golden
        assert opener.open_untrusted(golden) == plaintext
        assert stream_opener.open_untrusted(frame(golden)) == plaintext


# ---- who wants what ----


@pytest.mark.parametrize("pattern", ["XK", "KK"])
@pytest.mark.parametrize(
    ("initiator", "responder", "hybrid"),
    [
        (OFFER, OFFER, True),
        (OFFER, REQUIRE, True),
        (REQUIRE, OFFER, True),
        (REQUIRE, REQUIRE, True),
        (OFFER, OFF, False),
        (OFF, OFFER, False),
        (OFF, OFF, False),
    ],
)
def test_both_sides_agree_on_keys_and_on_what_they_stand(
    pattern: str, initiator: PostQuantum, responder: PostQuantum, hybrid: bool
) -> None:
    alice, bob = pair(pattern, initiator, responder)
    messages = shake(alice, bob)
    assert alice.is_post_quantum is bob.is_post_quantum is hybrid
    assert alice.split() == TransportKeys(bob.split().receive, bob.split().send)
    assert alice.split().send != alice.split().receive
    assert len(messages[0]) == 33 + 16 + (ENCAPSULATION_KEY_SIZE if initiator is not OFF else 0)
    assert len(messages[1]) == 33 + 16 + (CIPHERTEXT_SIZE if hybrid else 0)


@pytest.mark.parametrize("pattern", ["XK", "KK"])
def test_a_responder_that_requires_ml_kem_refuses_an_initiator_without(pattern: str) -> None:
    alice, bob = pair(pattern, OFF, REQUIRE)
    with pytest.raises(HandshakeError, match=r"initiator offers no ML-KEM-768 key.* 0 bytes"):
        bob.read_message_untrusted(alice.write_message())


@pytest.mark.parametrize("pattern", ["XK", "KK"])
def test_an_initiator_that_requires_ml_kem_refuses_a_responder_without(pattern: str) -> None:
    alice, bob = pair(pattern, REQUIRE, OFF)
    bob.read_message_untrusted(alice.write_message())
    with pytest.raises(HandshakeError, match=r"answers without an ML-KEM-768.* 0 bytes"):
        alice.read_message_untrusted(bob.write_message())


def noise_of(
    secret: SecretKey, ephemeral: SecretKey, *, initiator: bool
) -> HandshakeState[SecretKey]:
    """Bare Noise XK, whose payloads can be anything."""
    return HandshakeState(
        Secp256k1(),
        "XK",
        initiator=initiator,
        s=KeyPair(secret, secret.pk.raw),
        e=KeyPair(ephemeral, ephemeral.pk.raw),
        rs=BOB.pk.raw if initiator else b"",
    )


@given(st.binary(min_size=1, max_size=1400))
def test_a_payload_of_another_size_offers_nothing(payload: bytes) -> None:
    if len(payload) == ENCAPSULATION_KEY_SIZE:
        payload += b"!"
    alice = noise_of(ALICE, EPHEMERALS[0], initiator=True)
    _, bob = pair("XK", responder=OFFER)
    bob.read_message_untrusted(alice.write_message(payload))
    assert alice.read_message_untrusted(bob.write_message()) == b""
    bob.read_message_untrusted(alice.write_message(payload))
    assert bob.finished
    assert not bob.is_post_quantum


@given(st.binary(max_size=1400))
def test_a_payload_of_another_size_answers_nothing(payload: bytes) -> None:
    if len(payload) == CIPHERTEXT_SIZE:
        payload += b"!"
    bob = noise_of(BOB, EPHEMERALS[1], initiator=False)
    alice, _ = pair("XK", initiator=OFFER)
    assert len(bob.read_message_untrusted(alice.write_message())) == ENCAPSULATION_KEY_SIZE
    alice.read_message_untrusted(bob.write_message(payload))
    bob.read_message_untrusted(alice.write_message())
    assert not alice.is_post_quantum
    first, second = bob.split()
    assert alice.split() == TransportKeys(send=second, receive=first)


def test_an_answer_that_nobody_asked_for_is_ignored() -> None:
    bob = noise_of(BOB, EPHEMERALS[1], initiator=False)
    alice, _ = pair("XK", initiator=OFF)
    assert bob.read_message_untrusted(alice.write_message()) == b""
    alice.read_message_untrusted(bob.write_message(bytes(CIPHERTEXT_SIZE)))
    assert not alice.is_post_quantum


def test_an_offer_that_is_no_ml_kem_key_is_refused() -> None:
    alice = noise_of(ALICE, EPHEMERALS[0], initiator=True)
    _, bob = pair("XK")
    # Coefficients are below 3329 in 12 bits each.
    with pytest.raises(HandshakeError, match="ML-KEM-768 key is invalid"):
        bob.read_message_untrusted(alice.write_message(b"\xff" * ENCAPSULATION_KEY_SIZE))


def test_a_wrong_ciphertext_leads_to_other_keys_and_no_sign_of_it() -> None:
    """ML-KEM rejects implicitly: only the first frame shows that the keys differ."""
    bob = noise_of(BOB, EPHEMERALS[1], initiator=False)
    alice, _ = pair("XK")
    bob.read_message_untrusted(alice.write_message())
    alice.read_message_untrusted(bob.write_message(bytes(CIPHERTEXT_SIZE)))
    bob.read_message_untrusted(alice.write_message())
    assert alice.is_post_quantum
    assert alice.split().send not in bob.split()


@given(st.data())
def test_nobody_between_can_take_the_offer_away(data: st.DataObject) -> None:
    alice, bob = pair("XK")
    message = alice.write_message()
    cut = data.draw(st.integers(0, len(message) - 1))
    with pytest.raises(HandshakeError):
        bob.read_message_untrusted(message[:cut])


# ---- the caller's side ----


@pytest.mark.parametrize("seed", [None, b"", bytes(63)])
def test_an_offer_needs_a_seed_of_64_bytes(seed: bytes | None) -> None:
    with pytest.raises(LocalProtocolError, match="64 bytes"):
        Handshake(
            "XK",
            initiator=True,
            static=ALICE,
            remote_static=BOB.pk,
            ephemeral=EPHEMERALS[0],
            kem_seed=seed,
        )


def test_the_offer_is_the_key_that_the_seed_gives() -> None:
    alice, _ = pair("XK")
    offer = noise_of(BOB, EPHEMERALS[1], initiator=False).read_message_untrusted(
        alice.write_message()
    )
    key = MLKEM768PrivateKey.from_seed_bytes(SEED)
    assert offer == key.public_key().public_bytes_raw()


def test_the_initiator_of_a_session_is_unknown_until_its_last_message() -> None:
    alice, bob = pair("XK")
    with pytest.raises(LocalProtocolError, match="not known yet"):
        _ = bob.remote_static
    with pytest.raises(LocalProtocolError, match="still to come"):
        bob.split()
    shake(alice, bob)
    assert bob.remote_static == ALICE.pk
    assert alice.remote_static == BOB.pk


def test_no_repr_shows_a_key() -> None:
    alice, bob = pair("KK")
    shake(alice, bob)
    keys = alice.split()
    assert repr(keys) == "TransportKeys()"
    assert repr(alice) == "<Handshake as initiator after 2 messages>"
    assert repr(bob) == "<Handshake as responder after 2 messages>"
