"""Signed objects, as anybody may send them to a server or a client."""

from dmsg_trio._address import Address
from dmsg_trio._keys import SecretKey
from dmsg_trio._wire.objects import ObjectError, SignedObject, StreamRequest

SOURCE = SecretKey(b"\x01" * 32)
DESTINATION = SecretKey(b"\x02" * 32)
REQUEST = SignedObject.sign(
    SOURCE, StreamRequest(1, Address(SOURCE.pk, 49152), Address(DESTINATION.pk, 80))
)


def check(data: bytes) -> None:
    """Any bytes are an object or an `ObjectError`, as they are and under a fresh signature.

    An object keeps its bytes, its source is who signed it, and its content survives being sent on
    as an object of our own.
    """
    try:
        parsed = SignedObject.parse_untrusted(data)
        if parsed.raw != data:
            raise AssertionError("other bytes than came in")
        parsed.request_untrusted()
    except ObjectError:
        pass
    check_request(SignedObject(SOURCE.sign(data), data))
    check_response(SignedObject(DESTINATION.sign(data), data))


def check_request(signed: SignedObject) -> None:
    try:
        request = signed.request_untrusted()
    except ObjectError:
        return
    source_pk = request.source.pk if isinstance(request, StreamRequest) else request.source_pk
    if source_pk != SOURCE.pk:
        raise AssertionError(f"{source_pk} did not sign it")
    again = SignedObject.sign(SOURCE, request).request_untrusted()
    if again != request:
        raise AssertionError(f"{request} came back as {again}")


def check_response(signed: SignedObject) -> None:
    try:
        response = signed.response_untrusted(REQUEST, DESTINATION.pk)
    except ObjectError:
        return
    again = SignedObject.sign(DESTINATION, response).response_untrusted(REQUEST, DESTINATION.pk)
    if again != response and "nan" not in repr(response):
        raise AssertionError(f"{response} came back as {again}")


if __name__ == "__main__":
    from fuzz._drive import run

    run(check)
