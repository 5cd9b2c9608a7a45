"""Yamux bytes, as a peer may send them once a session is up."""

from dmsg_trio._wire.yamux import DataReceived, Event, ProtocolViolated, YamuxConnection


def check(data: bytes) -> None:
    """Any bytes are events, the last of which may be `ProtocolViolated`, however they were cut up.

    What is to be sent and what is left in the table of streams is the same too.
    """
    for client in (False, True):
        whole, bytewise = YamuxConnection(client=client), YamuxConnection(client=client)
        whole.open_stream()
        bytewise.open_stream()
        events = told(whole, [data])
        if told(bytewise, [data[at : at + 1] for at in range(len(data))]) != events:
            raise AssertionError(f"byte by byte it is not {events}")
        if any(isinstance(event, ProtocolViolated) for event in events[:-1]):
            raise AssertionError(f"something follows a violation: {events}")
        if b"".join(whole.data_to_send()) != b"".join(bytewise.data_to_send()):
            raise AssertionError("byte by byte it is answered otherwise")
        if whole.streams != bytewise.streams or whole.refused != bytewise.refused:
            raise AssertionError("byte by byte other streams are left")
        if any(stream.receive_window < 0 for stream in whole.streams.values()):
            raise AssertionError(f"more was let in than was granted: {whole.streams}")


def told(yamux: YamuxConnection, pieces: list[bytes]) -> list[Event | tuple[int, bytes]]:
    """All events; data as stream id and bytes, neighbours put together."""
    together: list[Event | tuple[int, bytes]] = []
    for event in [event for piece in pieces for event in yamux.receive_data(piece)]:
        if not isinstance(event, DataReceived):
            together.append(event)
            continue
        data = b"".join(event.chunks)
        if len(data) != event.size:
            raise AssertionError(f"{len(data)} bytes, told as {event.size}")
        last = together[-1] if together else None
        if isinstance(last, tuple) and last[0] == event.stream_id:
            together[-1] = (event.stream_id, last[1] + data)
        else:
            together.append((event.stream_id, data))
    return together


if __name__ == "__main__":
    from fuzz._drive import run

    run(check)
