"""Handshakes, frames and session objects, as a hostile relay may change them.

The input is a short program for that relay: its first byte says what is attacked, then each edit
is ``operation | place (2 bytes) | value``. Bare random bytes would never get past the first tag.
"""

from collections.abc import Callable
from functools import cache

from dmsg_trio._errors import HandshakeError, RemoteProtocolError
from dmsg_trio._keys import SecretKey
from dmsg_trio._wire.frames import (
    MAX_FRAME_SIZE,
    FrameOpener,
    FrameReader,
    FrameSealer,
    ObjectOpener,
    ObjectSealer,
)
from dmsg_trio._wire.hybrid import Handshake

KEY = bytes(32)
OTHER_KEY = bytes([1]) * 32
TEXTS = [b"", b"a", b"hello", bytes(300), b"the end"]


def check(data: bytes) -> None:
    """Whatever bytes come, cut up in whatever way: what was sent, or the error that says why not.

    A stream yields a beginning of what was sent; a session yields each object at most once; a
    handshake finishes only with the messages that were written; and it is never another exception
    than `RemoteProtocolError` or `HandshakeError`.
    """
    attacks = [read_frames, open_stream, open_objects, shake_hands]
    if data:
        attacks[data[0] % len(attacks)](data[1:])


def expect(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not holds:
        raise AssertionError(what)


# ---- what the relay can do ----


def edited(items: list[bytes], program: bytes) -> list[bytes]:
    """Let the relay change, cut, lengthen, drop, repeat and exchange what it carries."""
    items = list(items)
    for at in range(0, len(program) - 3, 4):
        if not items:
            break
        operation, place, value = program[at], program[at + 1 : at + 3], program[at + 3]
        index = place[0] % len(items)
        item, offset = items[index], min(place[1], len(items[index]))
        match operation % 6:
            case 0 if offset < len(item):
                items[index] = item[:offset] + bytes([value]) + item[offset + 1 :]
            case 1:
                items[index] = item[:offset]
            case 2:
                items[index] = item[:offset] + bytes([value]) * 4 + item[offset:]
            case 3:
                del items[index]
            case 4:
                items.insert(value % (len(items) + 1), item)
            case 5:
                other = value % len(items)
                items[index], items[other] = items[other], item
    return items


# ---- what is attacked ----


def read_frames(data: bytes) -> None:
    """Read plain bytes as handshake frames, whole and one by one."""
    whole = outcome(FrameReader().receive_data, [data])
    single = outcome(FrameReader().receive_data, [data[i : i + 1] for i in range(len(data))])
    # One by one, good frames come out before the bad prefix is there.
    expect(whole == single or (whole[1] and single[1]), f"{whole} and {single}")


def outcome(
    receive: Callable[[bytes], list[bytes]], pieces: list[bytes]
) -> tuple[list[bytes], bool]:
    bodies: list[bytes] = []
    try:
        for piece in pieces:
            bodies += receive(piece)
    except RemoteProtocolError:
        return bodies, True
    return bodies, False


def open_stream(data: bytes) -> None:
    """Open what is left of honest frames, in pieces of the size that the first byte says."""
    if not data:
        return
    sealer = FrameSealer(KEY)
    frames = [bytes(sealer.seal(text)) for text in TEXTS]
    carried = b"".join(edited(frames, data[1:]))
    size, opener, opened = data[0] + 1, FrameOpener(KEY), b""
    try:
        for at in range(0, len(carried), size):
            opened += opener.open_untrusted(carried[at : at + size])
            expect(opener.partial < MAX_FRAME_SIZE, f"{opener.partial} bytes are kept")
    except RemoteProtocolError:
        pass
    # A frame that was left out or moved is noticed: what comes out is what was sent first.
    expect(b"".join(TEXTS).startswith(opened), f"{opened!r} was never sent")
    expect(opened == b"".join(TEXTS) or carried != b"".join(frames), "something honest is missing")


def open_objects(data: bytes) -> None:
    """Open what is left of honest objects and of those of another key."""
    sealer, stranger = ObjectSealer(KEY), ObjectSealer(OTHER_KEY)
    bodies = [sealer.seal(text) for text in TEXTS] + [stranger.seal(text) for text in TEXTS]
    honest = set(bodies[: len(TEXTS)])
    opener, seen = ObjectOpener(KEY), set[bytes]()
    for body in edited(bodies, data):
        try:
            opener.open_untrusted(body)
        except RemoteProtocolError:
            expect(body not in honest - seen, f"{body.hex()} is new and was refused")
        else:
            expect(body in honest - seen, f"{body.hex()} is forged or was there before")
            seen.add(body)


def shake_hands(data: bytes) -> None:
    """Carry the messages of a session's or a stream's handshake, and change one of them."""
    if len(data) < 2:
        return
    pattern, target = "XK" if data[0] % 2 else "KK", data[1] % 3
    near, far = handshakes(pattern)
    number = 0
    while not near.finished:
        message = near.write_message()
        carried = message
        if number == target:
            carried = b"".join(edited([message], data[2:]))
        try:
            far.read_message_untrusted(carried)
        except HandshakeError:
            expect(carried != message, f"{pattern} message {number + 1} is honest")
            return
        expect(carried == message, f"{pattern} message {number + 1} was changed")
        near, far, number = far, near, number + 1
    expect(near.handshake_hash == far.handshake_hash, "the hashes differ")
    expect(near.split().send == far.split().receive, "the keys differ")
    expect(near.is_post_quantum and far.is_post_quantum, "an offer was lost")


def handshakes(pattern: str) -> tuple[Handshake, Handshake]:
    initiator, responder, *ephemerals = secret_keys()
    return (
        Handshake(
            pattern,
            initiator=True,
            static=initiator,
            remote_static=responder.pk,
            ephemeral=ephemerals[0],
            kem_seed=bytes(64),
        ),
        Handshake(
            pattern,
            initiator=False,
            static=responder,
            remote_static=initiator.pk if pattern == "KK" else None,
            ephemeral=ephemerals[1],
        ),
    )


@cache
def secret_keys() -> list[SecretKey]:
    return [SecretKey(bytes([number]) * 32) for number in (1, 2, 3, 4)]


if __name__ == "__main__":
    from fuzz._drive import run

    run(check)
