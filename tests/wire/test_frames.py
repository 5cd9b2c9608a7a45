"""Frames: their bytes against another library, their pieces, and what is refused."""

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
)

from dmsg_trio._errors import LocalProtocolError, RemoteProtocolError
from dmsg_trio._wire.frames import (
    FRAME_OVERHEAD,
    MAX_BODY,
    MAX_FRAME_SIZE,
    MAX_OBJECT,
    MAX_OBJECT_BODY,
    MAX_PLAINTEXT,
    MIN_BODY,
    PING_MARKER,
    Buffer,
    FrameOpener,
    FrameReader,
    FrameSealer,
    ObjectOpener,
    ObjectSealer,
    frame,
    frame_object,
)
from dmsg_trio._wire.noise import MAX_NONCE
from dmsg_trio._wire.nonces import WINDOW_SIZE

KEY: Final = bytes(range(32))


def body(counter: int, plaintext: bytes, key: bytes = KEY) -> bytes:
    """Seal with another library, under any counter."""
    nonce = bytes(4) + counter.to_bytes(8, "little")
    sealed = crypto_aead_chacha20poly1305_ietf_encrypt(plaintext, b"", nonce, key)
    return counter.to_bytes(8) + sealed


def wire(*frames: tuple[int, bytes]) -> bytes:
    return b"".join(frame(body(counter, plaintext)) for counter, plaintext in frames)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


places = st.lists(st.integers(0, 2**20), max_size=8)


# ---- the numbers ----


def test_the_numbers_are_those_of_the_protocol() -> None:
    assert (MAX_FRAME_SIZE, MAX_BODY, MAX_PLAINTEXT, FRAME_OVERHEAD) == (4096, 4094, 4070, 26)
    assert (MIN_BODY, MAX_OBJECT_BODY, MAX_OBJECT) == (24, 65535, 65511)


# ---- length | body ----


def test_a_handshake_message_gets_its_length_in_front() -> None:
    assert frame(b"abc") == b"\x00\x03abc"
    assert len(frame(bytes(MAX_BODY))) == MAX_FRAME_SIZE
    with pytest.raises(LocalProtocolError, match="4095 bytes, the limit is 4094"):
        frame(bytes(MAX_BODY + 1))


def test_an_object_may_be_longer() -> None:
    assert frame_object(bytes(MAX_OBJECT_BODY))[:2] == b"\xff\xff"
    assert frame_object(b"") == PING_MARKER
    with pytest.raises(LocalProtocolError, match="65536 bytes, the limit is 65535"):
        frame_object(bytes(MAX_OBJECT_BODY + 1))


@given(st.lists(st.binary(max_size=300) | st.just(bytes(MAX_BODY)), max_size=6), places)
def test_bodies_come_out_whole_however_they_were_cut(bodies: list[bytes], at: list[int]) -> None:
    data = b"".join(map(frame, bodies)) + b"\x00"
    reader = FrameReader()
    assert [one for piece in cut(data, at) for one in reader.receive_data(piece)] == bodies
    assert reader.trailing == b"\x00"


def test_what_follows_the_last_frame_of_a_handshake_is_kept() -> None:
    reader = FrameReader()
    reader.feed(frame(b"message 3") + b"\x00\x01yamux, not a frame")
    assert reader.next_frame() == b"message 3"
    assert reader.trailing == b"\x00\x01yamux, not a frame"


def test_a_reader_says_none_until_a_frame_is_all_there() -> None:
    reader = FrameReader()
    for byte in frame(b"message"):
        assert reader.next_frame() is None
        reader.feed(bytes([byte]))
    assert reader.next_frame() == b"message"
    assert reader.next_frame() is None


def test_a_prefix_above_the_limit_is_refused_before_anything_else_has_come() -> None:
    reader = FrameReader()
    with pytest.raises(RemoteProtocolError, match="4095 bytes, the limit is 4094"):
        reader.receive_data((MAX_BODY + 1).to_bytes(2))
    objects = FrameReader(MAX_OBJECT_BODY)
    assert objects.receive_data(b"\xff\xff" + bytes(MAX_OBJECT_BODY)) == [bytes(MAX_OBJECT_BODY)]


# ---- stream data ----


@given(st.lists(st.integers(0, 3 * MAX_PLAINTEXT + 5), min_size=1, max_size=4))
def test_sealed_frames_are_those_of_another_library(sizes: list[int]) -> None:
    sealer, counter = FrameSealer(KEY), 0
    for size in sizes:
        text = bytes(i % 251 for i in range(size))
        expected = b""
        for start in range(0, size, MAX_PLAINTEXT):
            counter += 1
            expected += wire((counter, text[start : start + MAX_PLAINTEXT]))
        assert sealer.seal(text) == expected


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_anything_that_holds_bytes_can_be_sealed_and_opened(
    kind: Callable[[bytes], Buffer],
) -> None:
    text = bytes(5000)
    sealed = FrameSealer(KEY).seal(kind(text))
    assert FrameOpener(KEY).open_untrusted(kind(bytes(sealed))) == text


def test_a_sealed_buffer_belongs_to_the_caller() -> None:
    sealed = FrameSealer(KEY).seal(b"text")
    del sealed[:2]  # a forgotten memoryview would forbid this
    assert sealed == body(1, b"text")


@given(st.lists(st.integers(0, 2 * MAX_PLAINTEXT), max_size=5), places)
def test_pieces_do_not_matter(sizes: list[int], at: list[int]) -> None:
    sealer, opener = FrameSealer(KEY), FrameOpener(KEY)
    texts = [bytes([i]) * size for i, size in enumerate(sizes)]
    data = b"".join(sealer.seal(text) for text in texts)
    assert b"".join(map(opener.open_untrusted, cut(data, at))) == b"".join(texts)
    assert opener.partial == 0


@given(st.lists(st.integers(0, 2 * MAX_PLAINTEXT), max_size=5), places)
def test_frames_are_opened_to_memory_of_the_caller_as_they_are_to_fresh(
    sizes: list[int], at: list[int]
) -> None:
    sealer, opener, opened = FrameSealer(KEY), FrameOpener(KEY), b""
    texts = [bytes([i]) * size for i, size in enumerate(sizes)]
    for piece in cut(b"".join(sealer.seal(text) for text in texts), at):
        memory = memoryview(bytearray(opener.room_for(piece)))
        size = opener.open_untrusted_into(memory, piece)
        opened += memory[:size]
    assert opened == b"".join(texts)


def test_bytes_that_come_one_by_one_are_kept_until_the_frame_is_whole() -> None:
    data = wire((1, b"first"), (2, b""), (3, b"third"))
    opener, opened = FrameOpener(KEY), []
    for at, byte in enumerate(data):
        opened.append(opener.open_untrusted(bytes([byte])))
        assert opener.partial < MAX_FRAME_SIZE
        if at == len(wire((1, b"first"))) - 2:
            assert opener.partial == at + 1
    assert [text for text in opened if text] == [b"first", b"third"]


def test_many_small_frames_can_follow_half_a_frame() -> None:
    data = wire(*((number, b"%d " % number) for number in range(1, 400)))
    opener = FrameOpener(KEY)
    opened = opener.open_untrusted(data[:7]) + opener.open_untrusted(data[7:])
    assert opened.split() == [b"%d" % number for number in range(1, 400)]


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=6),
    places,
    st.integers(0, 2**20),
    st.integers(1, 255),
)
def test_a_changed_byte_is_noticed_before_any_plaintext_of_its_frame(
    sizes: list[int], at: list[int], where: int, flip: int
) -> None:
    """However it was cut, what came out is a beginning of what was sent."""
    sealer, opener = FrameSealer(KEY), FrameOpener(KEY)
    text = b"".join(bytes([i]) * size for i, size in enumerate(sizes))
    data = b"".join(sealer.seal(bytes([i]) * size) for i, size in enumerate(sizes))
    if not data:
        return
    changed = bytearray(data)
    changed[where % len(data)] ^= flip
    opened = b""
    try:
        for piece in cut(bytes(changed), at):
            opened += opener.open_untrusted(piece)
    except RemoteProtocolError:
        pass
    else:
        # Only a longer length can go unnoticed for now: the opener waits for the rest of it.
        assert opener.partial > 0
    assert text.startswith(opened)
    assert opened != text


def test_counters_go_up_by_one_so_no_frame_is_left_out_or_repeated() -> None:
    opener = FrameOpener(KEY)
    assert opener.open_untrusted(wire((1, b"a"), (2, b"b"))) == b"ab"
    with pytest.raises(RemoteProtocolError, match="frame 2 after frame 2"):
        opener.open_untrusted(wire((2, b"b")))
    with pytest.raises(RemoteProtocolError, match="frame 3 after frame 1"):
        FrameOpener(KEY).open_untrusted(wire((1, b"a"), (3, b"b")))
    with pytest.raises(RemoteProtocolError, match="frame 3 after frame 0"):
        FrameOpener(KEY).open_untrusted(wire((3, b"a"), (2, b"b")))


@pytest.mark.parametrize("counter", [0, MAX_NONCE])
def test_the_first_and_the_last_counter_are_never_accepted(counter: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"frame {counter} after frame 0"):
        FrameOpener(KEY).open_untrusted(wire((counter, b"text")))


@pytest.mark.parametrize("length", [0, MIN_BODY - 1, MAX_BODY + 1, 0xFFFF])
def test_a_length_that_no_frame_has_is_refused_with_the_header(length: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"a frame of {length} bytes"):
        FrameOpener(KEY).open_untrusted(length.to_bytes(2) + (1).to_bytes(8))


def test_after_a_refused_frame_nothing_is_opened_to_memory_of_the_caller() -> None:
    opener, memory = FrameOpener(KEY), memoryview(bytearray(MAX_FRAME_SIZE))
    with pytest.raises(RemoteProtocolError, match="frame 2 after frame 0"):
        opener.open_untrusted_into(memory, wire((2, b"text")))
    with pytest.raises(LocalProtocolError):
        opener.open_untrusted_into(memory, wire((1, b"text")))


def test_after_a_refused_frame_nothing_is_opened_any_more() -> None:
    """Or the caller that ignores an error would take a gap for a whole."""
    good, forged = wire((1, b"good")), frame(body(2, b"evil", key=bytes(32)))
    opener = FrameOpener(KEY)
    with pytest.raises(RemoteProtocolError, match="frame 2 does not decrypt"):
        opener.open_untrusted(good + forged)
    with pytest.raises(LocalProtocolError, match="refused before"):
        opener.open_untrusted(wire((3, b"good again")))


def test_a_sealer_is_used_up_before_its_counter_ends() -> None:
    sealer = FrameSealer(KEY)
    sealer._counter = MAX_NONCE - 3
    with pytest.raises(LocalProtocolError, match="used up"):
        sealer.seal(bytes(2 * MAX_PLAINTEXT + 1))
    sealer.seal(bytes(2 * MAX_PLAINTEXT))
    with pytest.raises(LocalProtocolError, match="used up"):
        sealer.seal(b"!")


# ---- session objects ----


@given(st.lists(st.binary(max_size=200) | st.just(bytes(MAX_OBJECT)), max_size=5))
def test_sealed_objects_are_those_of_another_library(objects: list[bytes]) -> None:
    sealer, opener = ObjectSealer(KEY), ObjectOpener(KEY)
    for counter, plain in enumerate(objects, 1):
        sealed = sealer.seal(plain)
        assert sealed == body(counter, plain)
        nonce = bytes(4) + counter.to_bytes(8, "little")
        assert crypto_aead_chacha20poly1305_ietf_decrypt(sealed[8:], b"", nonce, KEY) == plain
        assert opener.open_untrusted(sealed) == plain


@given(st.permutations(range(1, 30)))
def test_objects_may_overtake_each_other_but_come_once(order: list[int]) -> None:
    opener = ObjectOpener(KEY)
    for counter in order:
        assert opener.open_untrusted(body(counter, b"%d" % counter)) == b"%d" % counter
    for counter in order:
        with pytest.raises(RemoteProtocolError, match=f"object {counter} was seen before"):
            opener.open_untrusted(body(counter, b"%d" % counter))


def test_an_object_that_is_too_old_is_refused() -> None:
    opener = ObjectOpener(KEY)
    opener.open_untrusted(body(WINDOW_SIZE + 1, b"new"))
    assert opener.open_untrusted(body(2, b"old")) == b"old"
    with pytest.raises(RemoteProtocolError, match="too old"):
        opener.open_untrusted(body(1, b"older"))


@given(st.integers(0, MAX_NONCE), st.binary(max_size=40))
def test_a_forged_counter_never_moves_the_window(counter: int, plain: bytes) -> None:
    opener = ObjectOpener(KEY)
    opener.open_untrusted(body(5, b"known"))
    before = repr(opener), opener._window._seen
    with pytest.raises(RemoteProtocolError):
        opener.open_untrusted(body(counter, plain, key=bytes(32)))
    assert (repr(opener), opener._window._seen) == before
    assert opener.open_untrusted(body(4, b"late")) == b"late"


@pytest.mark.parametrize("counter", [0, MAX_NONCE])
def test_no_object_has_the_first_or_the_last_counter(counter: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"object {counter} "):
        ObjectOpener(KEY).open_untrusted(body(counter, b"text"))


@pytest.mark.parametrize("size", [0, MIN_BODY - 1, MAX_OBJECT_BODY + 1])
def test_a_body_of_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"object of {size} bytes"):
        ObjectOpener(KEY).open_untrusted(bytes(size))


def test_an_object_has_to_fit_its_frame() -> None:
    assert len(ObjectSealer(KEY).seal(bytes(MAX_OBJECT))) == MAX_OBJECT_BODY
    with pytest.raises(LocalProtocolError, match="65512 bytes"):
        ObjectSealer(KEY).seal(bytes(MAX_OBJECT + 1))


def test_an_object_sealer_is_used_up_before_its_counter_ends() -> None:
    sealer = ObjectSealer(KEY)
    sealer._counter = MAX_NONCE - 2
    sealer.seal(b"the last one")
    with pytest.raises(LocalProtocolError, match="used up"):
        sealer.seal(b"one too many")


def test_no_repr_shows_a_key_and_each_tells_how_far_it_has_come() -> None:
    sealer, opener = FrameSealer(KEY), FrameOpener(KEY)
    objects, back = ObjectSealer(KEY), ObjectOpener(KEY)
    opener.open_untrusted(sealer.seal(b"text") + b"\x00")
    back.open_untrusted(objects.seal(b"object"))
    assert repr(sealer) == "<FrameSealer after 1 frames>"
    assert repr(opener) == "<FrameOpener after frame 1, 1 bytes of the next>"
    assert repr(objects) == "<ObjectSealer after 1 objects>"
    assert repr(back) == "<ObjectOpener with <NonceWindow of 1024 up to 1>>"
