"""Messages of forward/1: what is written is read again, and what cannot be is an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire.forward import (
    MAX_MESSAGE,
    Answer,
    Arrived,
    Connect,
    Failed,
    Listen,
    Opened,
    Request,
    Take,
    body_length_untrusted,
    decode_answer_untrusted,
    decode_request_untrusted,
    encode,
)

texts = st.text(st.characters(codec="utf-8"), max_size=60)
hosts = texts.filter(bool)
ports = st.integers(1, 65535)
requests = (
    st.builds(Connect, host=hosts, port=ports)
    | st.builds(Listen, host=hosts, port=st.just(0) | ports)
    | st.builds(Take, connection=texts)
)
answers = (
    st.builds(Opened, port=st.just(0) | ports)
    | st.builds(Failed, reason=texts)
    | st.builds(Arrived, connection=texts, peer=texts)
)


def body_of(message: bytes) -> bytes:
    assert body_length_untrusted(message[:2]) == len(message) - 2
    return message[2:]


@given(requests)
def test_a_request_is_read_as_it_was_written(request: Request) -> None:
    assert decode_request_untrusted(body_of(encode(request))) == request


@given(answers)
def test_an_answer_is_read_as_it_was_written(answer: Answer) -> None:
    assert decode_answer_untrusted(body_of(encode(answer))) == answer


def test_the_bytes_are_those_of_the_protocol() -> None:
    body = b'{"say":"connect","host":"localhost","port":80}'
    assert encode(Connect("localhost", 80)) == b"\x00\x2e" + body
    assert encode(Opened()) == b"\x00\x19" + b'{"say":"opened","port":0}'


def test_members_that_are_not_known_are_ignored() -> None:
    assert decode_request_untrusted(b'{"say":"take","connection":"a","more":[]}') == Take("a")


@pytest.mark.parametrize("head", [b"\0\0", (MAX_MESSAGE + 1).to_bytes(2), b"\xff\xff"])
def test_a_length_that_no_message_has_is_an_error(head: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=f"from 1 to {MAX_MESSAGE}"):
        body_length_untrusted(head)


def test_a_message_that_the_other_side_would_not_take_is_not_written() -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_MESSAGE} bytes"):
        encode(Failed("x" * MAX_MESSAGE))


WRONG = [
    b"",
    b"{}",
    b"[]",
    b"\xff",
    b'{"say":"fly"}',
    b"[" * MAX_MESSAGE,
    b'{"say":"\xff"}',
]


@pytest.mark.parametrize(
    "body",
    [
        *WRONG,
        encode(Opened())[2:],
        b'{"say":"connect","host":"a","port":0}',
        b'{"say":"connect","host":"a","port":65536}',
        b'{"say":"connect","host":"","port":1}',
        b'{"say":"connect","host":"a"}',
        b'{"say":"listen","host":"a","port":-1}',
        b'{"say":"take","connection":7}',
    ],
)
def test_what_is_no_request_is_an_error(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not a request to forward"):
        decode_request_untrusted(body)


@pytest.mark.parametrize(
    "body",
    [*WRONG, encode(Take("a"))[2:], b'{"say":"opened","port":-1}', b'{"say":"failed"}'],
)
def test_what_is_no_answer_is_an_error(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not an answer to a forward"):
        decode_answer_untrusted(body)


@given(st.binary(max_size=300))
def test_whatever_comes_is_a_message_or_an_error(body: bytes) -> None:
    for decode in decode_request_untrusted, decode_answer_untrusted:
        try:
            message: Request | Answer = decode(body)
        except RemoteProtocolError:
            continue
        assert decode(body_of(encode(message))) == message
