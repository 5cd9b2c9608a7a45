"""Chunks and their mark, as a host or its client may send them over a local socket."""

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire.marked import MarkedReader


def check(data: bytes) -> None:
    """Any bytes are content or a `RemoteProtocolError`, however they were cut up."""
    if read(data, len(data) or 1) != read(data, 1):
        raise AssertionError("byte by byte it is something else")


def read(data: bytes, size: int) -> tuple[bytes, bool] | str:
    reader, found = MarkedReader(), b""
    try:
        for start in range(0, len(data), size):
            found += reader.receive_data_untrusted(data[start : start + size])
    except RemoteProtocolError as error:
        return str(error).partition(" bytes")[2]
    return found, reader.has_ended


if __name__ == "__main__":
    from fuzz._drive import run

    run(check)
