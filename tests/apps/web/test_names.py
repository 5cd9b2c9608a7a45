"""What hosts and authorities are, whatever stands there."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dmsg_trio.apps.web import Names
from dmsg_trio.apps.web._errors import WebError
from dmsg_trio.apps.web._names import (
    MAX_HOST,
    authority_untrusted,
    is_no_name,
    plain_host_untrusted,
    shown_authority,
)
from tests.cli.running import NOBODY

PIECES = st.sampled_from(
    ["a", "A", "0", "-", "_", ".", ":", "[", "]", "@", "80", "::1", "/", "\\", "%", " ", "\0", "é", ".dmsg", NOBODY]
)  # fmt: skip


@given(st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=40))
@example("[::1]:80")
@example(f"{NOBODY}.dmsg:80")
def test_an_authority_is_read_as_it_is_written_or_not_at_all(text: str) -> None:
    try:
        host, port = authority_untrusted(text, default_port=80)
    except ValueError:
        return
    assert 0 < port < 65536
    assert 0 < len(host) <= MAX_HOST
    assert not set(host) - set("abcdefghijklmnopqrstuvwxyz0123456789-_.:")
    assert authority_untrusted(shown_authority(host, port), default_port=80) == (host, port)


@given(st.lists(PIECES, max_size=6).map("".join), st.integers(0, 65535))
def test_what_ends_as_names_of_dmsg_do_is_an_address_or_an_error(text: str, port: int) -> None:
    try:
        host = plain_host_untrusted(text + ".dmsg")
    except ValueError:
        return
    try:
        address = Names().address_of(host, port)
    except WebError:
        return
    assert address is not None
    assert str(address.pk) == host.removesuffix(".dmsg").replace(".", "")


@pytest.mark.parametrize(
    ("host", "is_address"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("192.168.0.9", True),
        ("localhost", True),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("0x7f000001", False),
        ("2130706433", False),
        (f"{NOBODY}.dmsg", False),
        ("", False),
    ],
)
def test_an_address_is_no_name(host: str, is_address: bool) -> None:
    assert is_no_name(host) == is_address
