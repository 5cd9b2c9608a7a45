"""Gob, as a peer may send it in a signed object or a remote call."""

from dmsg_trio._wire.gob import (
    BOOL,
    BYTES,
    FLOAT,
    INT,
    STRING,
    UINT,
    UINT16,
    ByteArray,
    Decoder,
    Field,
    GobError,
    GobMismatchError,
    Marshaled,
    Optional,
    Slice,
    Struct,
    Type,
    decode_alone_untrusted,
    encode_alone,
)

POINT = Struct("Point", (Field("X", INT), Field("Y", UINT16)))
EVERYTHING = Struct(
    "Everything",
    (
        Field("Bool", BOOL),
        Field("Uint", UINT),
        Field("Float", FLOAT),
        Field("Bytes", BYTES),
        Field("Strings", Slice(STRING, "[]string")),
        Field("Key", Marshaled("Key")),
        Field("Points", Slice(POINT, "[]Point")),
        Field("Hash", ByteArray("Hash", 2)),
        Field("Point", POINT),
        Field("Perhaps", Optional(POINT)),
    ),
)
EXPECTED: tuple[Type | None, ...] = (None, EVERYTHING, POINT, Slice(STRING), INT)


def read_all(pieces: list[bytes], expected: Type | None) -> list[str]:
    """Read a stream that arrives in pieces; spell what came out, and how it ended."""
    decoder, seen = Decoder(), []
    for piece in pieces:
        decoder.receive_data(piece)
        while True:
            try:
                value = decoder.next_value_untrusted(expected)
            except GobMismatchError as error:
                seen.append(str(error))
                continue
            except GobError as error:
                return [*seen, str(error)]
            if value is None:
                break
            seen.append(repr(value))
    return seen


def check(data: bytes) -> None:
    """Any bytes are values or a `GobError`, however they are cut and whatever is expected.

    And a value that was read under a type of ours is written and read back as the same value.
    """
    for expected in EXPECTED:
        pieces = [data[start : start + 7] for start in range(0, len(data), 7)]
        whole = read_all([data], expected)
        if read_all(pieces, expected) != whole:
            raise AssertionError(f"pieces made a difference to {whole}")
    try:
        value = decode_alone_untrusted(EVERYTHING, data)
    except GobError:
        return
    again = decode_alone_untrusted(EVERYTHING, encode_alone(EVERYTHING, value))
    if again != value and "nan" not in repr(value):
        raise AssertionError(f"{value} came back as {again}")


if __name__ == "__main__":
    from fuzz._drive import run

    run(check)
