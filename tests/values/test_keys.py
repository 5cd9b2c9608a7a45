"""Keys and signatures: the reference's vectors, a second implementation, and no way to see a secret."""

import copy
import hashlib
import io
import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console
from rich.traceback import Traceback

from dmsg_trio._keys import PublicKey, SecretKey, Signature

VECTORS = json.loads((Path(__file__).parent.parent / "vectors/keys.json").read_text())

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
FIELD = 2**256 - 2**32 - 977

SECRET = bytes.fromhex(VECTORS[0]["sk"])
SK = SecretKey(SECRET)
PAYLOAD = b"payload 0"

secret_keys = st.integers(1, ORDER - 1).map(lambda number: SecretKey(number.to_bytes(32)))


# ---- as the reference has it ----


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["payload"] for vector in VECTORS])
def test_keys_agree_and_signatures_hold_as_in_the_reference(vector: dict[str, str]) -> None:
    sk, peer = SecretKey.parse(vector["sk"]), SecretKey.parse(vector["peer_sk"])
    assert sk.pk == PublicKey.parse(vector["pk"])
    assert peer.pk == PublicKey.parse(vector["peer_pk"])
    assert sk.ecdh(peer.pk) == peer.ecdh(sk.pk) == bytes.fromhex(vector["ecdh"])
    payload = vector["payload"].encode()
    # Its nonces are random and ours RFC 6979's, so the two signatures differ; both are good.
    assert sk.pk.verify(payload, Signature.parse(vector["sig"]))
    assert second_opinion(sk.pk, payload, Signature.parse(vector["sig"]))
    assert sk.sign(payload) == sk.sign(payload)


# ---- as another implementation has it ----


def second_opinion(pk: PublicKey, payload: bytes, signature: Signature) -> bool:
    """Verify with OpenSSL, which knows nothing of recovery."""
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), pk.raw)
    r, s = int.from_bytes(signature.raw[:32]), int.from_bytes(signature.raw[32:64])
    digest = hashlib.sha256(payload).digest()
    try:
        key.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(SHA256())))
    except InvalidSignature:
        return False
    return True


@given(secret_keys, st.binary(max_size=100))
def test_openssl_accepts_what_we_sign(sk: SecretKey, payload: bytes) -> None:
    signature = sk.sign(payload)
    assert second_opinion(sk.pk, payload, signature)
    assert sk.pk.verify(payload, signature)
    assert int.from_bytes(signature.raw[32:64]) <= ORDER // 2


@given(st.integers(0, 63), st.integers(1, 255))
def test_openssl_and_we_refuse_a_signature_with_one_byte_changed(at: int, change: int) -> None:
    raw = bytearray(SK.sign(PAYLOAD).raw)
    raw[at] ^= change
    assume(int.from_bytes(raw[32:64]) <= ORDER // 2)
    signature = Signature(bytes(raw))
    assert not second_opinion(SK.pk, PAYLOAD, signature)
    assert not SK.pk.verify(PAYLOAD, signature)


@given(secret_keys, secret_keys)
def test_openssl_agrees_on_the_shared_point(a: SecretKey, b: SecretKey) -> None:
    private = ec.derive_private_key(int.from_bytes(a.reveal()), ec.SECP256K1())
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), b.pk.raw)
    x = private.exchange(ec.ECDH(), public)
    # OpenSSL gives x alone, and the protocol hashes the compressed point, so y may be either.
    assert a.ecdh(b.pk) in {hashlib.sha256(sign + x).digest() for sign in (b"\2", b"\3")}
    assert a.ecdh(b.pk) == b.ecdh(a.pk)


# ---- signatures ----


def test_a_signature_is_of_one_key_and_one_payload() -> None:
    signature = SK.sign(PAYLOAD)
    assert not SecretKey.generate().pk.verify(PAYLOAD, signature)
    assert not SK.pk.verify(PAYLOAD + b"!", signature)


def test_the_recovery_id_is_part_of_the_signature() -> None:
    raw = SK.sign(PAYLOAD).raw
    verdicts = [SK.pk.verify(PAYLOAD, Signature(raw[:64] + bytes([i]))) for i in range(4)]
    assert verdicts == [i == raw[64] for i in range(4)]


def test_the_mirror_image_of_a_signature_is_refused() -> None:
    raw = SK.sign(PAYLOAD).raw
    mirrored = ORDER - int.from_bytes(raw[32:64])
    with pytest.raises(ValueError, match="the s of a signature is in the upper half"):
        Signature(raw[:32] + mirrored.to_bytes(32) + bytes([raw[64] ^ 1]))


@pytest.mark.parametrize(
    ("r", "s"), [(0, 0), (0, 1), (1, 0), (ORDER, 1), (FIELD, 1), (2**256 - 1, ORDER // 2)]
)
def test_no_key_ever_made_a_signature_of_impossible_numbers(r: int, s: int) -> None:
    for recovery_id in range(4):
        signature = Signature(r.to_bytes(32) + s.to_bytes(32) + bytes([recovery_id]))
        assert not SK.pk.verify(PAYLOAD, signature)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (bytes(64), "a signature has 65 bytes, not 64"),
        (bytes(66), "a signature has 65 bytes, not 66"),
        (bytes(64) + b"\4", "the recovery id of a signature is 0 to 3, not 4"),
    ],
)
def test_wrong_bytes_are_no_signature(raw: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Signature(raw)


# ---- public keys ----

NO_SQUARE_ROOT = (5).to_bytes(32)  # 5³ + 7 has no square root, so no point has this x


@pytest.mark.parametrize(
    "raw",
    [
        bytes(33),
        b"\x02" + NO_SQUARE_ROOT,
        b"\x02" + FIELD.to_bytes(32),
        b"\x02" + (FIELD + 1).to_bytes(32),  # 1 is an x, but not when it is written like this
        b"\x04" + SK.pk.raw[1:],
        b"\x00" + SK.pk.raw[1:],
        b"\x06" + SK.pk.raw[1:],
    ],
)
def test_what_is_no_point_is_no_public_key(raw: bytes) -> None:
    with pytest.raises(ValueError, match=f"^not a point on secp256k1: {raw.hex()}$"):
        PublicKey(raw)


@pytest.mark.parametrize("size", [0, 32, 34, 65])
def test_a_public_key_has_33_bytes(size: int) -> None:
    with pytest.raises(ValueError, match=f"^a public key has 33 bytes, not {size}$"):
        PublicKey(bytes(size))


@given(secret_keys)
def test_a_public_key_is_read_back_from_its_text(sk: SecretKey) -> None:
    assert PublicKey.parse(f" {sk.pk}\n") == PublicKey.parse(str(sk.pk).upper()) == sk.pk
    assert repr(sk.pk) == f"PublicKey({sk.pk})"
    assert str(sk.pk).startswith(sk.pk.short)
    assert len(sk.pk.short) == 8


def test_public_keys_are_in_the_order_of_their_bytes() -> None:
    keys = [SecretKey.generate().pk for _ in range(20)]
    assert [key.raw for key in sorted(keys)] == sorted(key.raw for key in keys)


def test_signatures_are_read_back_from_their_text() -> None:
    signature = SK.sign(PAYLOAD)
    assert Signature.parse(str(signature)) == signature
    assert repr(signature) == f"Signature({signature})"


@pytest.mark.parametrize(
    ("parse", "text", "fault"),
    [
        (PublicKey.parse, "02ab", "a public key is 66 hex digits, not 4: '02ab'"),
        (
            PublicKey.parse,
            "x" * 66,
            f"a public key is hex digits only, not 'x' at place 1: '{'x' * 66}'",
        ),
        (
            PublicKey.parse,
            "02" + " " * 4 + "a" * 60,
            "a public key is hex digits only, not ' ' at place 3: '02    " + "a" * 60 + "'",
        ),
        (
            PublicKey.parse,
            "02" + "\N{FULLWIDTH DIGIT ONE}" * 64,
            "a public key is hex digits only, not '\N{FULLWIDTH DIGIT ONE}' at place 3: '02"
            + "\N{FULLWIDTH DIGIT ONE}" * 64
            + "'",
        ),
        (PublicKey.parse, "\x1b[2J", r"a public key is 66 hex digits, not 4: '\x1b[2J'"),
        (Signature.parse, "", "a signature is 130 hex digits, not 0: ''"),
        (SecretKey.parse, "ab", "a secret key is 64 hex digits, not 2"),
        (SecretKey.parse, "ab" * 31 + "g0", "a secret key is hex digits only, not 'g' at place 63"),
        (SecretKey.parse, "0" * 64, "not a secret key of secp256k1: zero or too large"),
        (SecretKey.parse, "f" * 64, "not a secret key of secp256k1: zero or too large"),
    ],
)
def test_errors_say_what_is_wrong_with_a_text(
    parse: Callable[[str], object], text: str, fault: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared whole
        parse(text)
    assert str(caught.value) == fault


def test_a_long_wrong_text_is_not_repeated_whole() -> None:
    with pytest.raises(ValueError, match="not 1000000") as caught:
        PublicKey.parse("a" * 1_000_000)
    assert len(str(caught.value)) < 250


# ---- secret keys ----


def test_fresh_keys_differ() -> None:
    assert SecretKey.generate() != SecretKey.generate()


@pytest.mark.parametrize("number", [1, 2, ORDER // 2, ORDER - 1])
def test_the_first_and_the_last_secret_keys_are_keys(number: int) -> None:
    sk = SecretKey(number.to_bytes(32))
    assert sk.pk.verify(PAYLOAD, sk.sign(PAYLOAD))


@pytest.mark.parametrize("number", [0, ORDER, 2**256 - 1])
def test_zero_and_numbers_beyond_the_order_are_no_secret_keys(number: int) -> None:
    with pytest.raises(ValueError, match="zero or too large"):
        SecretKey(number.to_bytes(32))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_secret_key_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match=f"^a secret key has 32 bytes, not {size}$"):
        SecretKey(bytes(size))


def test_secret_keys_are_equal_if_they_are_the_same_key() -> None:
    assert SecretKey(SECRET) == SecretKey.parse(SECRET.hex()) == SK
    assert len({SK, SecretKey(SECRET), SecretKey.generate()}) == 2
    assert SK.pk != SK
    assert SK.reveal() == SECRET


def shows_secret(text: str, secret: bytes = SECRET) -> bool:
    """Tell whether somebody who reads ``text`` learns a good part of the key."""
    text = text.lower()
    decimal = ", ".join(map(str, secret[:8]))
    return any(form in text for form in (secret.hex()[4:24], repr(secret)[4:40].lower(), decimal))


def test_the_search_for_a_secret_finds_it() -> None:
    assert all(
        map(shows_secret, [SECRET.hex(), SECRET.hex().upper(), repr(SECRET), str([*SECRET])])
    )


def test_a_secret_key_shows_whose_it_is_and_nothing_more() -> None:
    shown = [repr(SK), str(SK), f"{SK}", f"{SK!s:>200}", "%s" % SK, "%r" % SK, repr([SK])]  # noqa: UP031
    assert not any(map(shows_secret, shown))
    assert repr(SK) == f"<SecretKey of {SK.pk}>"


def test_a_secret_key_in_a_log_line_stays_secret() -> None:
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    record = logging.LogRecord("dmsg", logging.INFO, __file__, 1, "%s %r %s", (SK, SK, [SK]), None)
    handler.emit(record)
    assert str(SK.pk) in lines.getvalue()
    assert not shows_secret(lines.getvalue())


def test_a_secret_key_is_neither_copied_nor_pickled() -> None:
    attempts: Iterable[Callable[[SecretKey], object]] = (pickle.dumps, copy.copy, copy.deepcopy)
    for attempt in attempts:
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            attempt(SK)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            pickle.dumps(SK, protocol)
    with pytest.raises(TypeError, match="__dict__"):
        vars(SK)


def traceback_with_locals(error: BaseException) -> str:
    """Show what the most talkative of reporters would show."""
    console = Console(file=io.StringIO(), width=400)
    trace = error.__traceback__
    assert trace is not None
    # The test's own frame knows the secret, of course.
    inner = Traceback.from_exception(
        type(error), error, trace.tb_next, show_locals=True, locals_max_string=10_000
    )
    console.print(inner)
    assert isinstance(console.file, io.StringIO)
    plain = traceback.TracebackException(type(error), error, trace.tb_next, capture_locals=True)
    return console.file.getvalue() + "".join(plain.format())


def use_and_fail(sk: SecretKey) -> None:
    holder = {"key": sk, "signature": sk.sign(PAYLOAD)}
    raise RuntimeError(f"{sk} of {sorted(holder)}")


def test_a_traceback_with_variables_does_not_show_a_key_in_use() -> None:
    with pytest.raises(RuntimeError) as caught:
        use_and_fail(SK)
    shown = traceback_with_locals(caught.value)
    assert "holder" in shown
    assert not shows_secret(shown)


@pytest.mark.parametrize(
    "parse_wrong",
    [
        lambda: SecretKey.parse(SECRET.hex()[:-1]),
        lambda: SecretKey.parse(SECRET.hex()[:-1] + "x"),
        lambda: SecretKey(SECRET[:-1]),
        lambda: PublicKey.parse(SECRET.hex()),
    ],
    ids=["one digit short", "one digit wrong", "one byte short", "in the wrong place"],
)
def test_a_key_that_is_refused_does_not_show_either(parse_wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"is|has") as caught:
        parse_wrong()
    assert not shows_secret(str(caught.value))
    if "public" not in str(caught.value):
        assert not shows_secret(traceback_with_locals(caught.value))


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", "a public key has 33 bytes, not 0"),
        (b"\x02" * 65, "a public key has 33 bytes, not 65"),
        (b"\x05" + bytes(32), "not a point on secp256k1: 05"),
    ],
)
def test_nothing_is_agreed_on_with_what_is_no_key(raw: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=f"^{fault}"):
        SecretKey.generate().ecdh_untrusted(raw)
