"""Frames of files/1, as either side may send them."""

from dmsg_trio._wire.file_copy import (
    MAX_DEPTH,
    CopyReader,
    Data,
    Event,
    Order,
    Violated,
    data_header,
    encode,
)


def check(data: bytes) -> None:
    """Any bytes are events, the last of which may be `Violated`, however they were cut up.

    What was read can be said again, and a sender's order is kept or refused with `ValueError`.
    """
    whole = told(CopyReader(), [data])
    if told(CopyReader(), [data[at : at + 1] for at in range(len(data))]) != whole:
        raise AssertionError(f"byte by byte it is not {whole}")
    if any(isinstance(event, Violated) for event in whole[:-1]):
        raise AssertionError(f"something follows a violation: {whole}")
    events = [event for event in whole if not isinstance(event, Violated)]
    again = told(CopyReader(), [said(event) for event in events])
    if again != events:
        raise AssertionError(f"{events} said again is {again}")
    order = Order()
    try:
        for event in events:
            order.check(event)
            if not 0 <= order.depth <= MAX_DEPTH:
                raise AssertionError(f"{order.depth} folders deep")
    except ValueError:
        pass


def told(reader: CopyReader, pieces: list[bytes]) -> list[Event | Violated]:
    """All events, neighbouring pieces of content put together."""
    together: list[Event | Violated] = []
    for event in [event for piece in pieces for event in reader.receive_data(piece)]:
        last = together[-1] if together else None
        if isinstance(event, Data) and isinstance(last, Data):
            together[-1] = Data(last.data + event.data)
        else:
            together.append(event)
    return together


def said(event: Event) -> bytes:
    if isinstance(event, Data):
        return data_header(len(event.data)) + event.data
    return encode(event)


if __name__ == "__main__":
    from fuzz._drive import run

    run(check)
