"""The signed objects that open a stream: requests, responses, and a peer server's announce.

An object is ``signature (65) | gob``. The signature covers the gob as it was sent, and a response
names its request by the hash of both, so what is passed on is passed on as it came: a
`SignedObject` keeps the bytes, and nothing is ever encoded a second time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, TypeAlias, TypedDict, assert_never, cast

from dmsg_trio._address import NO_PORT, Address
from dmsg_trio._errors import (
    ErrorCode,
    LocalProtocolError,
    RemoteProtocolError,
    describe_code,
)
from dmsg_trio._keys import PUBLIC_KEY_SIZE, SIGNATURE_SIZE, PublicKey, SecretKey, Signature

from .gob import (
    BOOL,
    BYTES,
    FLOAT,
    INT,
    STRING,
    TEXT_ERRORS,
    UINT16,
    ByteArray,
    Field,
    GobError,
    Marshaled,
    Struct,
    Value,
    decode_alone_untrusted,
    encode_alone,
)

HASH_SIZE: Final = 32
IP_SIZES: Final = (0, 4, 16)  # none, IPv4, IPv6 (also an IPv4 address as IPv6 writes it)

# What fits, sealed and with its counter, into a body whose length is a uint16.
MAX_OBJECT_SIZE: Final = 0xFFFF - 8 - 16


class ObjectError(RemoteProtocolError):
    """A signed object that breaks the rules; ``code`` says which, in the protocol's numbers."""

    def __init__(self, code: ErrorCode, detail: str = "") -> None:
        self.code = code
        super().__init__(f"{describe_code(code)}{': ' if detail else ''}{detail}")


# ---- the types as the reference declares them ----

PUBLIC_KEY: Final = Marshaled("PubKey", nothing=bytes(PUBLIC_KEY_SIZE))
SHA256: Final = ByteArray("SHA256", HASH_SIZE)
ADDRESS: Final = Struct("Addr", (Field("PK", PUBLIC_KEY), Field("Port", UINT16)))

_TIMESTAMP: Final = Field("Timestamp", INT)
_ENDS: Final = (Field("SrcAddr", ADDRESS), Field("DstAddr", ADDRESS))
_IP_INFO: Final = Field("IPinfo", BOOL)
_GEO_INFO: Final = Field("GeoInfo", BOOL)
_NOISE: Final = Field("NoiseMsg", BYTES)
_SOURCE_PK: Final = Field("SrcPK", PUBLIC_KEY)
_VERDICT: Final = (Field("ReqHash", SHA256), Field("Accepted", BOOL), Field("IP", BYTES))
_GEO: Final = (
    Field("GeoCountry", STRING),
    Field("GeoRegion", STRING),
    Field("GeoLat", FLOAT),
    Field("GeoLon", FLOAT),
)
_REASON: Final = Field("ErrCode", UINT16)

# Every generation reads the short forms; the long ones are sent where their fields are used.
STREAM_REQUEST: Final = Struct("StreamRequest", (_TIMESTAMP, *_ENDS, _IP_INFO, _NOISE))
STREAM_REQUEST_GEO: Final = Struct(
    "StreamRequest", (_TIMESTAMP, *_ENDS, _IP_INFO, _GEO_INFO, _NOISE)
)
STREAM_RESPONSE: Final = Struct("StreamResponse", (*_VERDICT, _REASON, _NOISE))
STREAM_RESPONSE_GEO: Final = Struct("StreamResponse", (*_VERDICT, *_GEO, _REASON, _NOISE))
PEER_ANNOUNCE: Final = Struct("PeerAnnounce", (_TIMESTAMP, _SOURCE_PK))

# Fields are matched by name, so one declaration reads requests and announces alike.
_ANY_REQUEST: Final = Struct("request", (*STREAM_REQUEST_GEO.fields, _SOURCE_PK))


class _AddressFields(TypedDict):
    PK: bytes
    Port: int


class _RequestFields(TypedDict):
    """A value of `_ANY_REQUEST`."""

    Timestamp: int
    SrcAddr: _AddressFields
    DstAddr: _AddressFields
    IPinfo: bool
    GeoInfo: bool
    NoiseMsg: bytes
    SrcPK: bytes


class _ResponseFields(TypedDict):
    """A value of `STREAM_RESPONSE_GEO`."""

    ReqHash: bytes
    Accepted: bool
    IP: bytes
    GeoCountry: str
    GeoRegion: str
    GeoLat: float
    GeoLon: float
    ErrCode: int
    NoiseMsg: bytes


# ---- the objects as we speak of them ----


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """Asks for a stream to ``destination``, or with ``ip_info`` for the own IP address."""

    timestamp: int  # nanoseconds since 1970
    source: Address
    destination: Address
    noise_message: bytes = b""
    ip_info: bool = False
    geo_info: bool = False


@dataclass(frozen=True, slots=True)
class StreamResponse:
    """Accepts or refuses the request whose hash it carries."""

    request_hash: bytes
    accepted: bool
    error_code: int = 0
    ip: bytes = b""
    noise_message: bytes = b""
    geo_country: str = ""
    geo_region: str = ""
    geo_latitude: float = 0.0
    geo_longitude: float = 0.0

    @property
    def refusal_code(self) -> int:
        """Why it was refused; a refusal that does not say has a code of its own."""
        return self.error_code or ErrorCode.REJECTED_WITHOUT_REASON


@dataclass(frozen=True, slots=True)
class PeerAnnounce:
    """Says that the session it comes on is a peer server's."""

    timestamp: int  # nanoseconds since 1970
    source_pk: PublicKey


Object: TypeAlias = StreamRequest | StreamResponse | PeerAnnounce


@dataclass(frozen=True, slots=True)
class SignedObject:
    """A signature and the gob that it covers, as they travel; trusted only once verified."""

    signature: Signature
    gob: bytes

    # ---- out ----

    @classmethod
    def sign(cls, sk: SecretKey, value: Object) -> SignedObject:
        gob = encode_alone(*described(value))
        if SIGNATURE_SIZE + len(gob) > MAX_OBJECT_SIZE:
            raise LocalProtocolError(
                f"an object of {SIGNATURE_SIZE + len(gob)} bytes, over {MAX_OBJECT_SIZE}"
            )
        return cls(sk.sign(gob), gob)

    @property
    def raw(self) -> bytes:
        return self.signature.raw + self.gob

    @property
    def hash(self) -> bytes:
        """What a response names its request by: SHA-256 of signature and gob."""
        return hashlib.sha256(self.raw).digest()

    # ---- in ----

    @classmethod
    def parse_untrusted(cls, data: bytes) -> SignedObject:
        """Take apart what came in, without believing a word of it yet."""
        if not SIGNATURE_SIZE < len(data) <= MAX_OBJECT_SIZE:
            raise ObjectError(ErrorCode.OBJECT_INVALID, f"{len(data)} bytes")
        try:
            signature = Signature(data[:SIGNATURE_SIZE])
        except ValueError as error:
            raise ObjectError(ErrorCode.OBJECT_INVALID, str(error)) from None
        return cls(signature, data[SIGNATURE_SIZE:])

    def request_untrusted(self) -> StreamRequest | PeerAnnounce:
        """Read a request or an announce, and verify that its source signed it."""
        fields = cast("_RequestFields", self._decode_untrusted(_ANY_REQUEST))
        request = _announce(fields) if _is_announce(fields) else _request(fields)
        source_pk = request.source_pk if isinstance(request, PeerAnnounce) else request.source.pk
        if not source_pk.verify(self.gob, self.signature):
            raise ObjectError(ErrorCode.REQUEST_SIGNATURE, f"claims to be from {source_pk}")
        return request

    def response_untrusted(self, request: SignedObject, signer: PublicKey) -> StreamResponse:
        """Read the response to ``request``, and verify that ``signer`` signed it.

        A refusal is returned as any other answer.
        """
        fields = cast("_ResponseFields", self._decode_untrusted(STREAM_RESPONSE_GEO))
        if not signer.verify(self.gob, self.signature):
            raise ObjectError(ErrorCode.RESPONSE_SIGNATURE, f"should be from {signer}")
        if fields["ReqHash"] != request.hash:
            raise ObjectError(ErrorCode.RESPONSE_HASH, f"of {fields['ReqHash'].hex()}")
        if len(fields["IP"]) not in IP_SIZES:
            raise ObjectError(ErrorCode.OBJECT_INVALID, f"an IP of {len(fields['IP'])} bytes")
        return StreamResponse(
            request_hash=fields["ReqHash"],
            accepted=fields["Accepted"],
            error_code=fields["ErrCode"],
            ip=fields["IP"],
            noise_message=fields["NoiseMsg"],
            geo_country=_printable(fields["GeoCountry"]),
            geo_region=_printable(fields["GeoRegion"]),
            geo_latitude=fields["GeoLat"],
            geo_longitude=fields["GeoLon"],
        )

    def _decode_untrusted(self, expected: Struct) -> Value:
        try:
            return decode_alone_untrusted(expected, self.gob)
        except GobError as error:
            raise ObjectError(ErrorCode.OBJECT_INVALID, str(error)) from error


# ---- from fields to objects ----


def _is_announce(fields: _RequestFields) -> bool:
    return PUBLIC_KEY.is_left_out(fields["SrcAddr"]["PK"]) and not PUBLIC_KEY.is_left_out(
        fields["SrcPK"]
    )


def _announce(fields: _RequestFields) -> PeerAnnounce:
    source_pk = _public_key(fields["SrcPK"], ErrorCode.REQUEST_SOURCE_PK)
    return PeerAnnounce(_timestamp(fields), source_pk)


def _request(fields: _RequestFields) -> StreamRequest:
    return StreamRequest(
        source=_address(
            fields["SrcAddr"], ErrorCode.REQUEST_SOURCE_PK, ErrorCode.REQUEST_SOURCE_PORT
        ),
        destination=_address(
            fields["DstAddr"], ErrorCode.REQUEST_DESTINATION_PK, ErrorCode.REQUEST_DESTINATION_PORT
        ),
        timestamp=_timestamp(fields),
        noise_message=fields["NoiseMsg"],
        ip_info=fields["IPinfo"],
        geo_info=fields["GeoInfo"],
    )


def _timestamp(fields: _RequestFields) -> int:
    if fields["Timestamp"] <= 0:
        raise ObjectError(ErrorCode.REQUEST_TIMESTAMP, str(fields["Timestamp"]))
    return fields["Timestamp"]


def _address(fields: _AddressFields, pk_code: ErrorCode, port_code: ErrorCode) -> Address:
    pk = _public_key(fields["PK"], pk_code)
    if fields["Port"] == NO_PORT:
        raise ObjectError(port_code, str(NO_PORT))
    return Address(pk, fields["Port"])


def _public_key(raw: bytes, code: ErrorCode) -> PublicKey:
    try:
        return PublicKey(raw)
    except ValueError as error:
        raise ObjectError(code, str(error)) from None


def _printable(text: str) -> str:
    """Replace what was no UTF-8, since whoever shows the text might fail over it."""
    return text.encode(errors=TEXT_ERRORS).decode(errors="replace")


# ---- from objects to fields ----


def described(value: Object) -> tuple[Struct, Value]:
    """Choose the form in which an object travels, and fill in its fields."""
    match value:
        case StreamRequest():
            return _described_request(value)
        case StreamResponse():
            return _described_response(value)
        case PeerAnnounce():
            return PEER_ANNOUNCE, {"Timestamp": value.timestamp, "SrcPK": value.source_pk.raw}
        case _:
            assert_never(value)


def _described_request(request: StreamRequest) -> tuple[Struct, Value]:
    fields: dict[str, Value] = {
        "Timestamp": request.timestamp,
        "SrcAddr": {"PK": request.source.pk.raw, "Port": request.source.port},
        "DstAddr": {"PK": request.destination.pk.raw, "Port": request.destination.port},
        "IPinfo": request.ip_info,
        "NoiseMsg": request.noise_message,
    }
    if not request.geo_info:
        return STREAM_REQUEST, fields
    return STREAM_REQUEST_GEO, {**fields, "GeoInfo": True}


def _described_response(response: StreamResponse) -> tuple[Struct, Value]:
    fields: dict[str, Value] = {
        "ReqHash": response.request_hash,
        "Accepted": response.accepted,
        "IP": response.ip,
        "ErrCode": response.error_code,
        "NoiseMsg": response.noise_message,
    }
    geo: dict[str, Value] = {
        "GeoCountry": response.geo_country,
        "GeoRegion": response.geo_region,
        "GeoLat": response.geo_latitude,
        "GeoLon": response.geo_longitude,
    }
    if not any(geo.values()):
        return STREAM_RESPONSE, fields
    return STREAM_RESPONSE_GEO, fields | geo
