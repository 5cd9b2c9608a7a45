"""SOCKS5: what each role says, how it is read in pieces, and what is no SOCKS5 at all."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire.socks5 import (
    MAX_DATAGRAM,
    AddressTypeError,
    Choice,
    Command,
    Datagram,
    Endpoint,
    Greeting,
    Login,
    Message,
    Method,
    Reply,
    ReplyCode,
    Request,
    SocksReader,
    Verdict,
    decode_datagram_untrusted,
    encode,
    encode_frame,
)

KEY = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
LOOPBACK = IPv4Address("127.0.0.1")


def reader_of(data: bytes) -> SocksReader:
    reader = SocksReader()
    reader.receive_data(data)
    return reader


def read_like(message: Message, reader: SocksReader) -> Message | None:
    """Ask for a message of the same kind."""
    match message:
        case Greeting():
            return reader.next_greeting_untrusted()
        case Choice():
            return reader.next_choice_untrusted()
        case Login():
            return reader.next_login_untrusted()
        case Verdict():
            return reader.next_verdict_untrusted()
        case Request():
            return reader.next_request_untrusted()
        case Reply():
            return reader.next_reply_untrusted()
        case Datagram():
            frame = reader.next_frame_untrusted()
            return None if frame is None else decode_datagram_untrusted(frame)


# ---- bytes ----


@pytest.mark.parametrize(
    ("message", "data"),
    [
        # what the reference's server was seen to answer
        (Choice(Method.NO_AUTH), "0500"),
        (Choice(Method.NONE_ACCEPTABLE), "05ff"),
        (Reply(ReplyCode.SUCCEEDED, Endpoint(LOOPBACK, 46396)), "05000001 7f000001 b53c"),
        (Reply(ReplyCode.REFUSED), "05050001 00000000 0000"),
        # what curl sends
        (Greeting((0, 1)), "05020001"),
        (
            Request(Command.CONNECT, Endpoint("example.com", 443)),
            "05010003 0b 6578616d706c652e636f6d 01bb",
        ),
        # the forms of RFC 1928
        (Greeting(), "050100"),
        (
            Request(Command.CONNECT, Endpoint(IPv4Address("192.0.2.1"), 80)),
            "05010001 c0000201 0050",
        ),
        (
            Request(Command.UDP_ASSOCIATE, Endpoint(IPv6Address("2001:db8::1"), 0)),
            "05030004 20010db8000000000000000000000001 0000",
        ),
        (Request(9, Endpoint(LOOPBACK, 1)), "05090001 7f000001 0001"),
        # and of RFC 1929, which has a version of its own
        (Login(b"me", b"s\0me"), "01 02 6d65 04 73006d65"),
        (Login(b"x", b""), "01 01 78 00"),
        (Verdict(), "0100"),
        (Verdict(9), "0109"),
    ],
)
def test_messages_are_these_bytes(message: Message, data: str) -> None:
    assert encode(message).hex() == data.replace(" ", "")
    assert read_like(message, reader_of(bytes.fromhex(data))) == message


def test_a_datagram_has_a_header_and_on_a_stream_a_length_too() -> None:
    datagram = Datagram(Endpoint("one.example", 53), b"what?")
    header = b"\0\0\0\x03\x0bone.example\0\x35"
    assert encode(datagram) == header + b"what?"
    assert decode_datagram_untrusted(header + b"what?") == datagram
    assert encode_frame(datagram) == b"\0\x17" + header + b"what?"


def test_a_key_with_dmsg_behind_it_is_a_name() -> None:
    assert str(Endpoint(f"{KEY}.dmsg", 80)) == f"{KEY}.dmsg:80"


def test_endpoints_are_made_of_text() -> None:
    assert Endpoint.of("127.0.0.1", 80) == Endpoint(LOOPBACK, 80)
    assert str(Endpoint.of("::1", 80)) == "[::1]:80"
    assert Endpoint.of("localhost", 80) == Endpoint("localhost", 80)
    assert str(Endpoint.of("127.0.0.1", 80)) == "127.0.0.1:80"


def test_what_lies_behind_a_message_is_the_rest() -> None:
    reader = reader_of(bytes.fromhex("050100 05010001 7f000001 0050") + b"GET / ")
    assert reader.next_greeting_untrusted() == Greeting()
    assert reader.next_request_untrusted() == Request(Command.CONNECT, Endpoint(LOOPBACK, 80))
    assert reader.rest() == b"GET / "
    assert reader.rest() == b""


# ---- whatever it is, and however it is cut ----

names = st.text("abcxyzABC019-._:", min_size=1, max_size=255)
endpoints = st.builds(
    Endpoint, names | st.ip_addresses(v=4) | st.ip_addresses(v=6), st.integers(0, 65535)
)
numbers = st.integers(0, 255)
messages = st.one_of(
    st.builds(Greeting, st.lists(numbers, max_size=255).map(tuple)),
    st.builds(Choice, numbers),
    st.builds(Login, st.binary(min_size=1, max_size=255), st.binary(max_size=255)),
    st.builds(Verdict, numbers),
    st.builds(Request, numbers, endpoints),
    st.builds(Reply, numbers, endpoints),
    st.builds(Datagram, endpoints, st.binary(max_size=300)),
)


@given(messages, st.binary(max_size=3))
def test_what_is_written_is_read_again_byte_by_byte(message: Message, behind: bytes) -> None:
    data = encode_frame(message) if isinstance(message, Datagram) else encode(message)
    reader = SocksReader()
    for byte in data[:-1]:
        reader.receive_data(bytes((byte,)))
        assert read_like(message, reader) is None
    reader.receive_data(data[-1:] + behind)
    assert read_like(message, reader) == message
    assert reader.rest() == behind


@given(messages, st.binary(max_size=600))
def test_garbage_is_an_error_or_a_message_that_can_be_written(kind: Message, data: bytes) -> None:
    try:
        message = read_like(kind, reader_of(data))
    except RemoteProtocolError:
        return
    if message is not None:
        again = encode_frame(message) if isinstance(message, Datagram) else encode(message)
        assert read_like(kind, reader_of(again)) == message


# ---- what is no SOCKS5 ----


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n", b"\x04\x01", b"\x16\x03\x01", b"\0"])
def test_another_protocol_is_known_by_its_first_byte(first: bytes) -> None:
    for kind in (Greeting(), Choice(), Request(1, Endpoint(LOOPBACK, 1)), Reply(0)):
        with pytest.raises(RemoteProtocolError, match=f"version {first[0]}, not 5"):
            read_like(kind, reader_of(first + b"\1\1\1"))


def test_a_login_has_a_version_of_its_own_and_a_name() -> None:
    with pytest.raises(RemoteProtocolError, match="version 5, not 1"):
        reader_of(b"\5\1").next_verdict_untrusted()
    with pytest.raises(RemoteProtocolError, match="1 to 255 bytes, not 0"):
        reader_of(b"\1\0\1x").next_login_untrusted()


def test_a_password_is_not_shown() -> None:
    assert "hunter2" not in repr(Login(b"me", b"hunter2"))


def test_an_unknown_type_of_address_is_an_error_of_its_own() -> None:
    with pytest.raises(AddressTypeError, match="type 2"):
        reader_of(b"\5\1\0\2").next_request_untrusted()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b"", "1 to 255 bytes, not 0"),
        (b"a\0.example", "0x00"),
        (b"a b", "0x20"),
        (b"evil\r\nHost: x", "0x0a"),
        (b"user@host", "0x40"),
        (b"a/b", "0x2f"),
        ("ä.example".encode(), "0xa4"),
        (b"fe80::1%eth0", "0x25"),
    ],
)
def test_what_no_host_is_called_is_refused(name: bytes, why: str) -> None:
    data = b"\5\1\0\3" + bytes((len(name),)) + name + b"\0\x50"
    with pytest.raises(RemoteProtocolError, match=why):
        reader_of(data).next_request_untrusted()
    with pytest.raises(ValueError, match=why):
        Endpoint(name.decode(), 80)


def test_what_cannot_be_said_is_not() -> None:
    for user in b"", bytes(256):
        with pytest.raises(ValueError, match=f"not {len(user)}"):
            Login(user, b"")
    with pytest.raises(ValueError, match="at most 255 bytes, not 256"):
        Login(b"me", bytes(256))
    with pytest.raises(ValueError, match="not 256"):
        Endpoint("a" * 256, 80)
    with pytest.raises(ValueError, match="not 65536"):
        Endpoint(LOOPBACK, 65536)
    with pytest.raises(ValueError, match=f"not {MAX_DATAGRAM + 1}"):
        encode_frame(Datagram(Endpoint(LOOPBACK, 1), bytes(MAX_DATAGRAM - 9)))
    assert len(encode_frame(Datagram(Endpoint(LOOPBACK, 1), bytes(MAX_DATAGRAM - 10)))) == 65537


def test_fragments_and_pieces_are_no_datagrams() -> None:
    with pytest.raises(RemoteProtocolError, match="fragment 1"):
        decode_datagram_untrusted(b"\0\0\1\1\x7f\0\0\1\0\1x")
    for cut in (b"", b"\0\0", b"\0\0\0\1\x7f\0\0\1\0"):
        with pytest.raises(RemoteProtocolError, match=f"{len(cut)} bytes are no datagram"):
            decode_datagram_untrusted(cut)
