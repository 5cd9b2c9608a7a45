"""The credit of two joined streams, where the bytes of several streams arrive in one batch."""

from collections.abc import Sequence

from dmsg_trio._net.carriers import Carrier
from dmsg_trio._net.mux import MuxConnection
from dmsg_trio._net.splice import Splice
from dmsg_trio._wire.yamux import INITIAL_WINDOW, Buffer, YamuxConnection

PART = 100 * 1024


class Nowhere(Carrier):
    """Takes whatever is sent."""

    async def receive(self) -> memoryview:
        return memoryview(b"")

    def send_now(self, chunks: Sequence[Buffer]) -> int:
        return sum(map(len, chunks))

    async def send_some(self, chunks: Sequence[Buffer]) -> int:
        return self.send_now(chunks)

    async def send_eof(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    @property
    def peer(self) -> str:
        return "nowhere:0"


async def test_a_grant_counts_what_the_batch_has_yet_to_tell() -> None:
    """What comes later in a batch is on its way already, and must find room on the other side."""
    near, far = MuxConnection(Nowhere(), client=False), MuxConnection(Nowhere(), client=True)
    sender = YamuxConnection(client=True)
    streams = [sender.open_stream(), sender.open_stream()]
    near._take_untrusted(memoryview(b"".join(sender.data_to_send())))
    splices = []
    for _ in streams:
        stream = await near.accept()
        assert stream is not None
        splices.append(Splice(stream, far.open_stream()))

    for state in (streams[0], streams[1], streams[0], streams[1]):
        sender.send_data(state, [bytes(PART)], PART)
    near._take_untrusted(memoryview(b"".join(sender.data_to_send())))

    for splice in splices:
        may_come = splice.forward.state.receive_window
        assert may_come == splice.back.state.send_window == INITIAL_WINDOW - 2 * PART
