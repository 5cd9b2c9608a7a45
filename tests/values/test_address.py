"""Addresses: what people write, and what comes back."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dmsg_trio._address import LAST_PORT, Address
from dmsg_trio._keys import SecretKey

PK = SecretKey(bytes([7]) * 32).pk

blanks = st.text(" \t\n", max_size=3)
ports = st.integers(0, LAST_PORT)


@given(ports)
def test_an_address_is_read_back_from_its_text(port: int) -> None:
    address = Address(PK, port)
    assert Address.parse(str(address)) == address
    assert str(address) == f"{PK}:{port or '~'}"


@given(blanks, blanks, blanks, blanks, ports)
def test_blanks_around_the_parts_do_not_matter(a: str, b: str, c: str, d: str, port: int) -> None:
    assert Address.parse(f"{a}{PK}{b}:{c}{port}{d}") == Address(PK, port)


@pytest.mark.parametrize("text", [f"{PK}", f"{PK}:", f"{PK}:~", f" {PK} : ~ "])
def test_without_a_port_it_is_the_default(text: str) -> None:
    assert Address.parse(text) == Address(PK)
    assert Address.parse(text).port == 0
    assert Address.parse(text, default_port=80) == Address(PK, 80)


def test_port_zero_is_said_to_be_zero_even_where_there_is_a_default() -> None:
    assert Address.parse(f"{PK}:0", default_port=80) == Address(PK)


def test_leading_zeros_change_nothing() -> None:
    assert Address.parse(f"{PK}:000000000080") == Address(PK, 80)


@given(st.integers(LAST_PORT + 1, 10**19))
@example(LAST_PORT + 1)
def test_a_port_that_is_too_large_is_named(port: int) -> None:
    with pytest.raises(ValueError, match=f"^a port is 0 to 65535, not {port}$"):
        Address.parse(f"{PK}:{port}")


@pytest.mark.parametrize(
    "port", ["-1", "+1", "8 0", "0x50", "80:80", "1e3", "٨٠", "²", "~~", "1" * 21]
)
def test_what_is_no_port_is_named(port: str) -> None:
    with pytest.raises(
        ValueError, match=r"^a port is a number from 0 to 65535 or '~', not "
    ) as caught:
        Address.parse(f"{PK}:{port}")
    assert repr(port)[:10] in str(caught.value)


def test_a_port_without_end_is_not_repeated_whole() -> None:
    with pytest.raises(ValueError, match="not '1111") as caught:
        Address.parse(f"{PK}:{'1' * 1_000_000}")
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("port", [-1, LAST_PORT + 1])
def test_an_address_has_a_port_that_fits_in_16_bits(port: int) -> None:
    with pytest.raises(ValueError, match=f"not {port}"):
        Address(PK, port)


@pytest.mark.parametrize("text", ["", ":80", "localhost:80", f"{PK}0:80", f"{str(PK)[:-2]}:80"])
def test_what_has_no_key_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a public key is 66 hex digits, not"):
        Address.parse(text)


@given(st.text() | st.text("0123456789abcdef:~ ", max_size=80))
@example(f"{PK}:80")
def test_any_text_is_an_address_or_a_reason(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError:
        return
    assert Address.parse(str(address)) == address


def test_addresses_are_in_the_order_of_key_and_port() -> None:
    others = [SecretKey.generate().pk for _ in range(3)]
    addresses = [Address(pk, port) for pk in others for port in (80, 22)]
    assert sorted(addresses) == sorted(addresses, key=lambda each: (each.pk.raw, each.port))
