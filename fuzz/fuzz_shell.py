"""Frames of shell/1, as a client or a host may send them."""

from dmsg_trio._wire.shell import Event, ShellReader, Violated, encode


def check(data: bytes) -> None:
    """Any bytes are events, the last of which may be `Violated`, however they were cut up.

    Every event can be written again, and is the same when it is read then.
    """
    for client in (False, True):
        events = read(data, len(data) or 1, client=client)
        if read(data, 1, client=client) != events:
            raise AssertionError(f"byte by byte it is not {events}")
        if any(isinstance(event, Violated) for event in events[:-1]):
            raise AssertionError(f"something follows a violation: {events}")
        whole = [event for event in events if not isinstance(event, Violated)]
        again = b"".join(map(encode, whole))
        if read(again, len(again) or 1, client=client) != whole:
            raise AssertionError(f"written again it is not {whole}")


def read(data: bytes, size: int, *, client: bool) -> list[Event | Violated]:
    reader = ShellReader(client=client)
    return [
        event
        for start in range(0, len(data), size)
        for event in reader.receive_data(data[start : start + size])
    ]


if __name__ == "__main__":
    from fuzz._drive import run

    run(check)
