"""What SOCKS clients, SOCKS servers and the programs behind them may send."""

from collections.abc import Callable

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire.socks5 import (
    MAX_GREETING,
    MAX_REQUEST,
    Choice,
    Greeting,
    Login,
    Message,
    Reply,
    Request,
    SocksReader,
    Verdict,
    decode_datagram_untrusted,
    encode,
)

BROKEN = "broken"
MESSAGES = (Greeting, Choice, Login, Verdict, Request, Reply)
Ask = Callable[[SocksReader], Message | bytes | None]
CLIENT: tuple[Ask, ...] = (
    SocksReader.next_greeting_untrusted,
    SocksReader.next_request_untrusted,
)
LOGIN: tuple[Ask, ...] = (SocksReader.next_login_untrusted,)
VERDICT: tuple[Ask, ...] = (SocksReader.next_verdict_untrusted,)
SERVER: tuple[Ask, ...] = (
    SocksReader.next_choice_untrusted,
    SocksReader.next_reply_untrusted,
)


def read(data: bytes, size: int, asks: tuple[Ask, ...]) -> list[object]:
    """Read message after message from pieces of a size, and then what is left."""
    reader, said = SocksReader(), list[object]()
    for start in range(0, len(data), size):
        reader.receive_data(data[start : start + size])
        while len(said) < len(asks):
            try:
                message = asks[len(said)](reader)
            except RemoteProtocolError:
                return [*said, BROKEN]
            if message is None:
                break
            said.append(message)
    return [*said, reader.rest()]


def frames(data: bytes, size: int) -> list[bytes]:
    reader, found = SocksReader(), list[bytes]()
    for start in range(0, len(data), size):
        reader.receive_data(data[start : start + size])
        while (frame := reader.next_frame_untrusted()) is not None:
            found.append(frame)
    return found


def check(data: bytes) -> None:
    """Any bytes are messages and a rest or `RemoteProtocolError`, however they were cut up.

    A message that was read can be written again, and is the same when it is read then; one that is
    too long for any message never has to be waited for.
    """
    for asks in (CLIENT, SERVER, LOGIN, VERDICT):
        said = read(data, len(data) or 1, asks)
        if read(data, 1, asks) != said:
            raise AssertionError(f"byte by byte it is not {said}")
        messages = [each for each in said if isinstance(each, MESSAGES)]
        again = b"".join(map(encode, messages))
        if read(again, 1, asks)[: len(messages)] != messages:
            raise AssertionError(f"written again it is not {messages}")
        if (
            len(data) >= MAX_GREETING + MAX_REQUEST
            and len(messages) < len(asks)
            and said[-1] != BROKEN
        ):
            raise AssertionError(f"{len(data)} bytes, and more are waited for")
    if (found := frames(data, len(data) or 1)) != frames(data, 1):
        raise AssertionError(f"byte by byte they are not {found}")
    for each in (data, *found):
        try:
            datagram = decode_datagram_untrusted(each)
        except RemoteProtocolError:
            continue
        if decode_datagram_untrusted(encode(datagram)) != datagram:
            raise AssertionError(f"written again it is not {datagram}")


if __name__ == "__main__":
    from fuzz._drive import run

    run(check)
