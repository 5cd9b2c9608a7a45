"""Addresses, keys and identity files: texts that people copy, and strangers send."""

from dmsg_trio._address import Address
from dmsg_trio._errors import IdentityError
from dmsg_trio._identity import Hidden, Sealed, identity_untrusted
from dmsg_trio._keys import PublicKey, SecretKey, Signature


def check(data: bytes) -> None:
    """Any bytes are an address, a key, a signature, an identity, or an error that says why not.

    What is read is read back equal from its own text, and an error is short and repeats no digits
    of what may be a secret key.
    """
    text = data.decode("latin-1")
    for parse in (Address.parse, PublicKey.parse, Signature.parse):
        try:
            value = parse(text)
        except ValueError as error:
            expect_short(error)
        else:
            expect(parse(str(value)) == value, f"{value} came back as another")
    try:
        sk = SecretKey.parse(text)
    except ValueError as error:
        expect_silent(error, text)
    else:
        expect(SecretKey.parse(sk.reveal().hex()) == sk, "a secret key came back as another")
    try:
        identity = identity_untrusted(Hidden(data), "it")
    except IdentityError as error:
        expect_silent(error, text)
    else:
        expect(isinstance(identity, SecretKey | Sealed), "an identity of no kind")


def expect_silent(error: Exception, text: str) -> None:
    """A public key that stands in the file may be named, a run of other digits may not."""
    expect_short(error)
    if len(text) <= 64:
        expect(text.strip()[:20] not in str(error) or len(text.strip()) < 20, f"shown: {error}")


def expect_short(error: Exception) -> None:
    expect(len(str(error)) < 3000, f"an error of {len(str(error))} characters")


def expect(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not holds:
        raise AssertionError(what)


if __name__ == "__main__":
    from fuzz._drive import run

    run(check)
