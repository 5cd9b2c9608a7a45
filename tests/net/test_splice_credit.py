"""The credit of two joined streams, where the bytes of several streams arrive in one batch."""

from dmsg_trio._net.mux import MuxConnection
from dmsg_trio._net.splice import Splice
from dmsg_trio._wire.yamux import INITIAL_WINDOW, YamuxConnection
from tests.net.links import DeadEnd

PART = 100 * 1024


async def test_a_grant_counts_what_the_batch_has_yet_to_tell() -> None:
    """What comes later in a batch is on its way already, and must find room on the other side."""
    near, far = MuxConnection(DeadEnd(), client=False), MuxConnection(DeadEnd(), client=True)
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
