"""Signed objects: the reference's bytes, our own, and what is refused with which code."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio._address import Address
from dmsg_trio._errors import ErrorCode, LocalProtocolError
from dmsg_trio._keys import PublicKey, SecretKey, Signature
from dmsg_trio._wire.gob import (
    BOOL,
    INT,
    Encoder,
    Field,
    Struct,
    TypeIds,
    Value,
    decode_alone_untrusted,
    encode_alone,
)
from dmsg_trio._wire.objects import (
    ADDRESS,
    MAX_OBJECT_SIZE,
    PEER_ANNOUNCE,
    PUBLIC_KEY,
    STREAM_REQUEST,
    STREAM_REQUEST_GEO,
    STREAM_RESPONSE,
    STREAM_RESPONSE_GEO,
    Object,
    ObjectError,
    PeerAnnounce,
    SignedObject,
    StreamRequest,
    StreamResponse,
    described,
)

VECTORS = Path(__file__).parents[1] / "vectors"
SOURCE = SecretKey(b"\x01" * 32)
DESTINATION = SecretKey(b"\x02" * 32)
STRANGER = SecretKey(b"\x03" * 32)
NULL_PK = bytes(33)

REQUEST = StreamRequest(
    timestamp=1_800_000_000_000_000_000,
    source=Address(SOURCE.pk, 49152),
    destination=Address(DESTINATION.pk, 80),
    noise_message=bytes(49),
)
REQUEST_FIELDS: dict[str, Value] = {
    "Timestamp": 1,
    "SrcAddr": {"PK": SOURCE.pk.raw, "Port": 49152},
    "DstAddr": {"PK": DESTINATION.pk.raw, "Port": 80},
}


class Vector(TypedDict, total=False):
    """A signed object with what is in it; what a kind of object lacks is absent."""

    name: str
    gob: str
    sig: str
    sha256: str
    signed_object: str
    timestamp: int
    src_pk: str
    src_port: int
    dst_pk: str
    dst_port: int
    ipinfo: bool
    geoinfo: bool
    req_hash: str
    accepted: bool
    err_code: int
    ip: str
    geo_country: str
    geo_region: str
    geo_lat: float
    geo_lon: float
    noise_msg: str


class Vectors(TypedDict, total=False):
    """One of the recorded files."""

    src_sk: str
    dst_sk: str
    requests: list[Vector]
    responses: list[Vector]
    objects: list[Vector]


OLD: Vectors = json.loads((VECTORS / "stream_objects.json").read_text())
NEW: Vectors = json.loads((VECTORS / "objects_2026.json").read_text())
ALL = OLD["requests"] + OLD["responses"] + NEW["objects"]


def name_of(vector: Vector) -> str:
    return vector["name"]


def fields_of(vector: Vector) -> dict[str, Value]:
    """Spell a vector as the fields of its gob."""
    if "req_hash" in vector:
        return {
            "ReqHash": bytes.fromhex(vector["req_hash"]),
            "Accepted": vector["accepted"],
            "IP": bytes.fromhex(vector.get("ip", "")),
            "ErrCode": vector.get("err_code", 0),
            "NoiseMsg": bytes.fromhex(vector.get("noise_msg", "")),
        }
    if "dst_pk" not in vector:
        return {"Timestamp": vector["timestamp"], "SrcPK": bytes.fromhex(vector["src_pk"])}
    return {
        "Timestamp": vector["timestamp"],
        "SrcAddr": {"PK": bytes.fromhex(vector["src_pk"]), "Port": vector["src_port"]},
        "DstAddr": {"PK": bytes.fromhex(vector["dst_pk"]), "Port": vector["dst_port"]},
        "IPinfo": vector.get("ipinfo", False),
        "NoiseMsg": bytes.fromhex(vector.get("noise_msg", "")),
    }


def object_of(vector: Vector) -> Object:
    if "req_hash" in vector:
        return StreamResponse(
            request_hash=bytes.fromhex(vector["req_hash"]),
            accepted=vector["accepted"],
            error_code=vector.get("err_code", 0),
            ip=bytes.fromhex(vector.get("ip", "")),
            noise_message=bytes.fromhex(vector.get("noise_msg", "")),
            geo_country=vector.get("geo_country", ""),
            geo_region=vector.get("geo_region", ""),
            geo_latitude=vector.get("geo_lat", 0.0),
            geo_longitude=vector.get("geo_lon", 0.0),
        )
    if "dst_pk" not in vector:
        return PeerAnnounce(vector["timestamp"], PublicKey.parse(vector["src_pk"]))
    return StreamRequest(
        timestamp=vector["timestamp"],
        source=Address(PublicKey.parse(vector["src_pk"]), vector["src_port"]),
        destination=Address(PublicKey.parse(vector["dst_pk"]), vector["dst_port"]),
        noise_message=bytes.fromhex(vector.get("noise_msg", "")),
        ip_info=vector.get("ipinfo", False),
        geo_info=vector.get("geoinfo", False),
    )


def raw_of(vector: Vector) -> bytes:
    return bytes.fromhex(vector["sig"] + vector["gob"])


def signed(fields: dict[str, Value], declared: Struct = STREAM_REQUEST) -> SignedObject:
    gob = encode_alone(declared, fields)
    return SignedObject(SOURCE.sign(gob), gob)


# ---- the reference's objects ----


@pytest.mark.parametrize("vector", OLD["requests"] + OLD["responses"], ids=name_of)
def test_an_object_keeps_the_bytes_it_came_as(vector: Vector) -> None:
    parsed = SignedObject.parse_untrusted(bytes.fromhex(vector["signed_object"]))
    assert parsed.raw.hex() == vector["signed_object"]
    assert parsed.signature == Signature.parse(vector["sig"])
    assert parsed.gob.hex() == vector["gob"]


@pytest.mark.parametrize("vector", ALL, ids=name_of)
def test_every_recorded_gob_is_written_alike(vector: Vector) -> None:
    older, fields = "sha256" in vector, fields_of(vector)
    # Types are numbered from 64 in the order in which the recording programs used them.
    ids = TypeIds()
    ids.number(STREAM_REQUEST if older else STREAM_REQUEST_GEO)
    ids.number(STREAM_RESPONSE if older else STREAM_RESPONSE_GEO)
    if "req_hash" in vector and not older:
        fields |= {
            "GeoCountry": vector.get("geo_country", ""),
            "GeoRegion": vector.get("geo_region", ""),
            "GeoLat": vector.get("geo_lat", 0.0),
            "GeoLon": vector.get("geo_lon", 0.0),
        }
    if "dst_pk" in vector and not older:
        fields |= {"GeoInfo": vector.get("geoinfo", False)}
    if "req_hash" in vector:
        declared = STREAM_RESPONSE if older else STREAM_RESPONSE_GEO
    elif "dst_pk" in vector:
        declared = STREAM_REQUEST if older else STREAM_REQUEST_GEO
    else:
        declared = PEER_ANNOUNCE
    assert Encoder(ids).encode(declared, fields).hex() == vector["gob"]


RECORDED_REQUESTS = [v for v in ALL if "req_hash" not in v and v["timestamp"] > 0]


@pytest.mark.parametrize("vector", RECORDED_REQUESTS, ids=name_of)
def test_recorded_requests_and_announces_are_believed(vector: Vector) -> None:
    parsed = SignedObject.parse_untrusted(raw_of(vector))
    assert parsed.request_untrusted() == object_of(vector)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (2, ErrorCode.REQUEST_TIMESTAMP),
        (4, ErrorCode.REQUEST_SOURCE_PORT),
        (5, ErrorCode.REQUEST_SOURCE_PK),
    ],
)
def test_recorded_requests_with_nonsense_in_them_are_refused(number: int, code: ErrorCode) -> None:
    parsed = SignedObject.parse_untrusted(raw_of(OLD["requests"][number]))
    with pytest.raises(ObjectError) as caught:
        parsed.request_untrusted()
    assert caught.value.code == code


class RecordedRequest(SignedObject):
    """Stands for the request of the recorded responses, of which only the hash is known."""

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(b"request").digest()


@pytest.mark.parametrize("vector", [v for v in ALL if "req_hash" in v], ids=name_of)
def test_recorded_responses_are_believed(vector: Vector) -> None:
    request = RecordedRequest(Signature(bytes(65)), b"")
    signer = SecretKey.parse(NEW["dst_sk"]).pk
    parsed = SignedObject.parse_untrusted(raw_of(vector))
    assert parsed.response_untrusted(request, signer) == object_of(vector)


# ---- what real programs said to each other ----


def captured_objects() -> Iterator[tuple[str, PublicKey | None, SignedObject]]:
    """Yield kind, session and content of each object that a reference server saw."""
    text = (VECTORS / "captures" / "streamrequest-response-signed-real.txt").read_text()
    for piece in text.split("EXPDUMP ")[1:]:
        head, _, dump = piece.partition("\n")
        kind, _, session = head.partition(" from=")
        octets = re.findall(r"^[0-9a-f]{8}  ((?:[0-9a-f]{2} +)+)\|", dump, re.MULTILINE)
        data = bytes.fromhex("".join(octets))
        pk = PublicKey.parse(session) if session else None
        yield kind, pk, SignedObject.parse_untrusted(data)


def test_captured_requests_and_responses_are_believed_and_would_be_sent_alike() -> None:
    requests: list[SignedObject] = []
    answered: list[StreamResponse] = []
    for kind, session, captured in captured_objects():
        if kind == "REQ":
            request = captured.request_untrusted()
            assert isinstance(request, StreamRequest)
            assert request.source.pk == session
            assert encode_alone(*described(request)) == captured.gob
            requests.append(captured)
            continue
        # The server dumped a response when it came; requests may have come in between.
        asked = next(r for r in requests if r.hash in hashes_in(captured))
        request = asked.request_untrusted()
        assert isinstance(request, StreamRequest)
        response = captured.response_untrusted(asked, request.destination.pk)
        assert response.accepted
        # The last one came from a program that had numbered other types before.
        first = 68 if len(answered) == 2 else 64
        assert Encoder(TypeIds(first)).encode(*described(response)) == captured.gob
        answered.append(response)
    assert len(requests) == 4
    assert [bool(response.ip) for response in answered] == [False, True, False]
    assert answered[1].ip == b"\x7f\0\0\x01"


def hashes_in(captured: SignedObject) -> set[bytes]:
    fields = decode_alone_untrusted(STREAM_RESPONSE, captured.gob)
    assert isinstance(fields, dict)
    return {fields["ReqHash"]}


# ---- our own ----

secret_keys = st.sampled_from([SOURCE, DESTINATION, STRANGER])
ports = st.integers(1, 65535)
timestamps = st.integers(1, 2**63 - 1)


def addresses(sk: SecretKey | None = None) -> st.SearchStrategy[Address]:
    pks = st.just(sk.pk) if sk else secret_keys.map(lambda key: key.pk)
    return st.builds(Address, pks, ports)


requests_of_source = st.builds(
    StreamRequest,
    timestamp=timestamps,
    source=addresses(SOURCE),
    destination=addresses(),
    noise_message=st.binary(max_size=1400),
    ip_info=st.booleans(),
    geo_info=st.booleans(),
)
responses = st.builds(
    StreamResponse,
    request_hash=st.just(b""),
    accepted=st.booleans(),
    error_code=st.integers(0, 65535),
    ip=st.sampled_from([b"", b"\x7f\0\0\x01", bytes(15) + b"\x01"]),
    noise_message=st.binary(max_size=1400),
    geo_country=st.text(max_size=10),
    geo_region=st.text(max_size=10),
    geo_latitude=st.floats(allow_nan=False),
    geo_longitude=st.floats(allow_nan=False),
)


@given(requests_of_source | st.builds(PeerAnnounce, timestamps, st.just(SOURCE.pk)))
def test_what_is_asked_arrives(request: StreamRequest | PeerAnnounce) -> None:
    sent = SignedObject.sign(SOURCE, request)
    assert SignedObject.parse_untrusted(sent.raw).request_untrusted() == request


@given(responses)
def test_what_is_answered_arrives(response: StreamResponse) -> None:
    request = SignedObject.sign(SOURCE, REQUEST)
    response = replace(response, request_hash=request.hash)
    sent = SignedObject.sign(DESTINATION, response)
    arrived = SignedObject.parse_untrusted(sent.raw)
    assert arrived.response_untrusted(request, DESTINATION.pk) == response


def test_a_request_is_told_by_its_hash_over_signature_and_gob() -> None:
    request = SignedObject.sign(SOURCE, REQUEST)
    assert request.hash == hashlib.sha256(request.signature.raw + request.gob).digest()


def test_fields_of_2026_are_described_only_where_they_are_used() -> None:
    plain = SignedObject.sign(SOURCE, REQUEST)
    geo = SignedObject.sign(SOURCE, replace(REQUEST, geo_info=True))
    assert b"GeoInfo" not in plain.gob
    assert b"GeoInfo" in geo.gob
    answer = StreamResponse(plain.hash, accepted=True)
    assert b"Geo" not in SignedObject.sign(DESTINATION, answer).gob
    located = replace(answer, geo_longitude=-13.4)
    assert b"GeoCountry" in SignedObject.sign(DESTINATION, located).gob


def test_an_object_too_large_for_its_frame_is_not_sent() -> None:
    fits = MAX_OBJECT_SIZE - len(SignedObject.sign(SOURCE, REQUEST).raw)
    largest = replace(REQUEST, noise_message=bytes(fits + 46))
    assert len(SignedObject.sign(SOURCE, largest).raw) == MAX_OBJECT_SIZE
    with pytest.raises(LocalProtocolError, match=f"{MAX_OBJECT_SIZE + 1} bytes"):
        SignedObject.sign(SOURCE, replace(largest, noise_message=bytes(fits + 47)))


# ---- what is refused ----


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(65),
        bytes(MAX_OBJECT_SIZE + 1),
        bytes(64) + b"\x04" + b"gob",
        bytes(32) + b"\xff" * 32 + b"\0" + b"gob",
    ],
    ids=["nothing", "no gob", "too large", "recovery id", "high s"],
)
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(ObjectError) as caught:
        SignedObject.parse_untrusted(data)
    assert caught.value.code == ErrorCode.OBJECT_INVALID


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Timestamp": 0}, ErrorCode.REQUEST_TIMESTAMP),
        ({"Timestamp": -1}, ErrorCode.REQUEST_TIMESTAMP),
        ({"SrcAddr": {"PK": NULL_PK, "Port": 1}}, ErrorCode.REQUEST_SOURCE_PK),
        ({"SrcAddr": {"PK": b"\x02" * 32, "Port": 1}}, ErrorCode.REQUEST_SOURCE_PK),
        ({"SrcAddr": {"PK": b"\x05" * 33, "Port": 1}}, ErrorCode.REQUEST_SOURCE_PK),
        ({"SrcAddr": {"PK": SOURCE.pk.raw}}, ErrorCode.REQUEST_SOURCE_PORT),
        ({"DstAddr": {"Port": 80}}, ErrorCode.REQUEST_DESTINATION_PK),
        ({"DstAddr": {"PK": SOURCE.pk.raw}}, ErrorCode.REQUEST_DESTINATION_PORT),
        ({"SrcAddr": {"PK": STRANGER.pk.raw, "Port": 1}}, ErrorCode.REQUEST_SIGNATURE),
    ],
)
def test_each_flaw_of_a_request_has_its_code(change: dict[str, Value], code: ErrorCode) -> None:
    assert isinstance(signed(REQUEST_FIELDS).request_untrusted(), StreamRequest)
    with pytest.raises(ObjectError) as caught:
        signed(REQUEST_FIELDS | change).request_untrusted()
    assert caught.value.code == code
    assert str(caught.value).startswith(f"{code.text} ({int(code)}): ")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Timestamp": 0}, ErrorCode.REQUEST_TIMESTAMP),
        ({"SrcPK": NULL_PK}, ErrorCode.REQUEST_SOURCE_PK),
        ({"SrcPK": b"\x02"}, ErrorCode.REQUEST_SOURCE_PK),
        ({"SrcPK": STRANGER.pk.raw}, ErrorCode.REQUEST_SIGNATURE),
    ],
)
def test_each_flaw_of_an_announce_has_its_code(change: dict[str, Value], code: ErrorCode) -> None:
    announce: dict[str, Value] = {"Timestamp": 1, "SrcPK": SOURCE.pk.raw}
    assert signed(announce, PEER_ANNOUNCE).request_untrusted() == PeerAnnounce(1, SOURCE.pk)
    with pytest.raises(ObjectError) as caught:
        signed(announce | change, PEER_ANNOUNCE).request_untrusted()
    assert caught.value.code == code


def test_a_request_that_also_names_an_announcer_is_a_request() -> None:
    both = Struct("StreamRequest", (*STREAM_REQUEST.fields, Field("SrcPK", PUBLIC_KEY)))
    fields = REQUEST_FIELDS | {"SrcPK": STRANGER.pk.raw}
    assert isinstance(signed(fields, both).request_untrusted(), StreamRequest)


def test_one_flipped_bit_anywhere_is_noticed() -> None:
    raw = SignedObject.sign(SOURCE, REQUEST).raw
    for place in range(len(raw)):
        forged = bytearray(raw)
        forged[place] ^= 1
        with pytest.raises(ObjectError):
            SignedObject.parse_untrusted(bytes(forged)).request_untrusted()


def test_bytes_after_the_gob_are_signed_and_dropped() -> None:
    gob = encode_alone(STREAM_REQUEST, REQUEST_FIELDS) + b"from the future"
    request = SignedObject(SOURCE.sign(gob), gob)
    assert isinstance(request.request_untrusted(), StreamRequest)


@pytest.mark.parametrize(
    ("declared", "fields"),
    [
        (Struct("StreamRequest", (Field("Timestamp", BOOL),)), {"Timestamp": True}),
        (Struct("StreamRequest", (Field("Time", INT),)), {"Time": 5}),
        (ADDRESS, {"Port": 80}),
    ],
)
def test_gob_of_another_type_is_an_invalid_object(
    declared: Struct, fields: dict[str, Value]
) -> None:
    with pytest.raises(ObjectError) as caught:
        signed(fields, declared).request_untrusted()
    assert caught.value.code == ErrorCode.OBJECT_INVALID


# ---- answers ----


def answer(response: StreamResponse, signer: SecretKey = DESTINATION) -> StreamResponse:
    request = SignedObject.sign(SOURCE, REQUEST)
    return SignedObject.sign(signer, response).response_untrusted(request, DESTINATION.pk)


REQUEST_HASH = SignedObject.sign(SOURCE, REQUEST).hash


def test_an_answer_by_somebody_else_is_refused() -> None:
    with pytest.raises(ObjectError) as caught:
        answer(StreamResponse(REQUEST_HASH, accepted=True), signer=STRANGER)
    assert caught.value.code == ErrorCode.RESPONSE_SIGNATURE


def test_an_answer_to_another_request_is_refused() -> None:
    with pytest.raises(ObjectError) as caught:
        answer(StreamResponse(bytes(32), accepted=True))
    assert caught.value.code == ErrorCode.RESPONSE_HASH


def test_an_answer_with_an_address_of_no_kind_is_refused() -> None:
    with pytest.raises(ObjectError, match="an IP of 5 bytes") as caught:
        answer(StreamResponse(REQUEST_HASH, accepted=True, ip=bytes(5)))
    assert caught.value.code == ErrorCode.OBJECT_INVALID


def test_a_refusal_is_an_answer_and_has_a_reason() -> None:
    refusal = answer(StreamResponse(REQUEST_HASH, accepted=False, error_code=306))
    assert refusal.refusal_code == ErrorCode.NO_LISTENER
    assert not refusal.accepted
    silent = answer(StreamResponse(REQUEST_HASH, accepted=False))
    assert silent.refusal_code == ErrorCode.REJECTED_WITHOUT_REASON


def test_a_place_that_is_no_text_can_still_be_shown() -> None:
    arrived = answer(StreamResponse(REQUEST_HASH, accepted=True, geo_country="\udcff!"))
    assert arrived.geo_country == "\N{REPLACEMENT CHARACTER}!"


# ---- any bytes ----


def read(data: bytes) -> None:
    try:
        parsed = SignedObject.parse_untrusted(data)
    except ObjectError:
        return
    request = SignedObject.sign(SOURCE, REQUEST)
    for look in (
        parsed.request_untrusted,
        lambda: parsed.response_untrusted(request, DESTINATION.pk),
    ):
        with suppress(ObjectError):
            look()


@given(st.binary(max_size=400))
def test_any_bytes_are_an_object_or_an_object_error(data: bytes) -> None:
    read(data)
    read(bytes(65) + data)


@given(
    st.sampled_from(ALL).map(raw_of),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(66, 2000),
)
def test_damaged_objects_are_objects_or_an_object_error(
    raw: bytes, edits: list[tuple[int, int]], size: int
) -> None:
    damaged = bytearray(raw)
    for place, byte in edits:
        damaged[65 + place % (len(raw) - 65)] = byte
    read(bytes(damaged[:size]))


@given(
    st.sampled_from(ALL).map(raw_of),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3),
)
def test_damage_under_a_fresh_signature_is_an_object_or_an_object_error(
    raw: bytes, edits: list[tuple[int, int]]
) -> None:
    gob = bytearray(raw[65:])
    for place, byte in edits:
        gob[place % len(gob)] = byte
    read(DESTINATION.sign(bytes(gob)).raw + gob)
