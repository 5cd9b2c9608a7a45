"""What a connection has to send goes out in order, at once as far as the kernel takes it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from dmsg_trio._net.outbox import Outbox
from dmsg_trio._wire.yamux import Buffer
from tests.net.links import DeadEnd


class Kernel(DeadEnd):
    """Has room for so many bytes, and takes some of them at a time."""

    def __init__(self, room: int, at_a_time: int) -> None:
        self.room = room
        self.at_a_time = at_a_time
        self.taken = b""

    def send_now(self, chunks: Sequence[Buffer]) -> int:
        data = b"".join(chunks)[: min(self.room, self.at_a_time)]
        self.taken += data
        self.room -= len(data)
        return len(data)

    async def send_some(self, chunks: Sequence[Buffer]) -> int:
        self.room = max(self.room, 1000)
        return self.send_now(chunks)


def test_a_kernel_that_takes_a_part_is_asked_for_the_rest() -> None:
    kernel = Kernel(room=1_000_000, at_a_time=65_483)
    outbox = Outbox(kernel)
    data = bytes(range(256)) * 1024
    outbox.send([data[:12], memoryview(data)[12:]])
    assert (kernel.taken, outbox.size, outbox.sent) == (data, 0, len(data))


@given(
    pieces=st.lists(st.lists(st.binary(max_size=400), max_size=3), max_size=8),
    room=st.integers(0, 2000),
    at_a_time=st.integers(1, 700),
)
async def test_bytes_go_out_in_order_and_those_without_room_wait(
    pieces: list[list[bytes]], room: int, at_a_time: int
) -> None:
    kernel = Kernel(room, at_a_time)
    outbox = Outbox(kernel)
    data = b"".join(map(b"".join, pieces))
    for chunks in pieces:
        own = [bytearray(chunk) for chunk in chunks]
        outbox.send([*own])
        for chunk in own:
            chunk[:] = bytes(len(chunk))  # whoever sent it uses its memory again
    assert kernel.taken == data[:room]
    assert (outbox.sent, outbox.size) == (len(kernel.taken), len(data) - len(kernel.taken))
    while outbox.size:
        await outbox.send_kept()
    assert kernel.taken == data
