"""Gob, the self-describing encoding of Go: as much of it as dmsg and its applications speak.

A gob stream first describes each type and then sends values of it, so what arrives is read by the
peer's description and matched with ours by the names of fields. `types` says how our types are
declared, `encoder` writes them as Go would, `decoder` reads what a peer sent.
"""

from .decoder import Decoder, decode_alone_untrusted
from .encoder import Encoder, TypeIds, encode_alone
from .primitives import MAX_MESSAGE, GobError, GobMismatchError, GobRangeError
from .types import (
    BOOL,
    BYTES,
    EMPTY,
    FLOAT,
    INT,
    STRING,
    TEXT_ERRORS,
    UINT,
    UINT16,
    Basic,
    ByteArray,
    Field,
    Marshaled,
    Optional,
    Slice,
    Struct,
    Type,
    Value,
)

__all__ = [
    "BOOL",
    "BYTES",
    "EMPTY",
    "FLOAT",
    "INT",
    "MAX_MESSAGE",
    "STRING",
    "TEXT_ERRORS",
    "UINT",
    "UINT16",
    "Basic",
    "ByteArray",
    "Decoder",
    "Encoder",
    "Field",
    "GobError",
    "GobMismatchError",
    "GobRangeError",
    "Marshaled",
    "Optional",
    "Slice",
    "Struct",
    "Type",
    "TypeIds",
    "Value",
    "decode_alone_untrusted",
    "encode_alone",
]
