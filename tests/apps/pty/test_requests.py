"""How connections begin: requests, yes, no, and why."""

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from dmsg_trio._keys import PublicKey
from dmsg_trio._wire.pty import PTY_URI
from dmsg_trio.apps.pty._requests import (
    MAX_IGNORED,
    READ_WITHIN,
    REASON_WITHIN,
    REQUEST_WITHIN,
    PtyRefusedError,
    PtyRequestError,
    PtyUnansweredError,
    Request,
    accept,
    accept_as_asked,
    receive_request_untrusted,
    refuse,
    request,
)
from dmsg_trio.testing._pipe import MemoryStream, memory_connection

PK = PublicKey.parse("02f835723d78968f82edbaf09ad16ed98080a11824980f32c7cbb322e5d9ce3d6f")


async def refusal_of(far: MemoryStream, near: MemoryStream, *answers: bytes) -> str:
    """Ask a host that answers with bytes and ends; give its reason."""
    for answer in answers:
        await far.send_all(answer)
    await far.send_eof()
    with pytest.raises(PtyRefusedError) as refused:
        await request(near, PTY_URI)
    return refused.value.reason


# ---- who asks ----


async def test_a_request_is_its_length_and_its_uri_and_the_answer_is_one_byte() -> None:
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request, near, "dmsgpty/pty")
        assert await far.receive_some() == b"\x0bdmsgpty/pty"
        await far.send_all(b"\x00what follows")
    assert await near.receive_some() == b"what follows"


async def test_a_refusal_has_a_reason_if_the_host_gives_one() -> None:
    near, far = memory_connection()
    assert await refusal_of(far, near, b"\x01", b"\x07not ", b"you", b"more") == "not you"


async def test_a_refusal_of_the_reference_has_no_reason() -> None:
    near, far = memory_connection()
    assert await refusal_of(far, near, b"\x01") == ""
    assert "without saying why" in str(PtyRefusedError())


async def test_a_reason_that_is_cut_short_is_told_as_far_as_it_goes() -> None:
    near, far = memory_connection()
    assert await refusal_of(far, near, b"\x01\x07not") == "not"


async def test_a_reason_cannot_command_the_terminal_it_is_shown_on() -> None:
    near, far = memory_connection()
    assert await refusal_of(far, near, b"\x01\x08\x1b[2J\nno\xff") == "\ufffd[2J\ufffdno\ufffd"


async def test_a_reason_that_does_not_come_is_not_waited_for(autojump_clock: MockClock) -> None:
    near, far = memory_connection()
    await far.send_all(b"\x01\x07")
    began = trio.current_time()
    with pytest.raises(PtyRefusedError):
        await request(near, PTY_URI)
    assert trio.current_time() - began == REASON_WITHIN


async def test_a_refusal_is_seen_while_the_request_is_still_being_written(
    autojump_clock: MockClock,
) -> None:
    slow, _ = memory_connection(rate=0.001)  # bytes a second
    quick, far = memory_connection()
    await slow.send_all(b"one ahead")
    await far.send_all(b"\x01\x02no")
    with trio.fail_after(5), pytest.raises(PtyRefusedError, match=r"^no$"):
        await request(trio.StapledStream(slow, quick), PTY_URI)


async def test_a_refusal_is_seen_although_the_request_could_not_be_written() -> None:
    near, far = memory_stream_pair()
    await far.send_all(b"\x01\x02no")
    assert far.receive_stream is not None
    far.receive_stream.close()
    with pytest.raises(PtyRefusedError, match=r"^no$"):
        await request(near, PTY_URI)


@pytest.mark.parametrize("cut", [True, False])
async def test_a_host_that_does_not_answer_is_told_from_one_that_refuses(cut: bool) -> None:
    near, far = memory_connection()
    far.cut() if cut else await far.aclose()
    with pytest.raises(PtyUnansweredError, match="without an answer"):
        await request(near, PTY_URI)


async def test_a_request_that_is_too_long_is_not_sent() -> None:
    near, _ = memory_stream_pair()
    with pytest.raises(ValueError, match="at most 255 bytes, not 256"):
        await request(near, "x" * 256)


# ---- who is asked ----


async def test_a_request_may_arrive_in_pieces_and_nothing_behind_it_is_taken() -> None:
    near, far = memory_stream_pair()
    asked: list[Request] = []
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            asked.append(await receive_request_untrusted(far))

        nursery.start_soon(receive)
        for piece in (b"\x0b", b"dmsg", b"pty/ptymore"):
            await near.send_all(piece)
            await wait_all_tasks_blocked()
    assert asked == [Request("dmsgpty/pty")]
    assert await far.receive_some() == b"more"


async def test_a_client_that_asks_for_nothing_is_not_waited_for(autojump_clock: MockClock) -> None:
    near, far = memory_connection()
    await near.send_all(b"\x0bdmsg")
    with pytest.raises(PtyRequestError, match=f"no request within {REQUEST_WITHIN} s"):
        await receive_request_untrusted(far)
    assert trio.current_time() == pytest.approx(REQUEST_WITHIN, abs=1)


async def test_half_a_request_is_none() -> None:
    near, far = memory_connection()
    await near.send_all(b"\x0bdmsg")
    await near.send_eof()
    with pytest.raises(PtyRequestError, match="ended 7 bytes too early"):
        await receive_request_untrusted(far)


async def test_yes_is_a_zero() -> None:
    near, far = memory_stream_pair()
    await accept(far)
    assert await near.receive_some() == b"\x00"


async def test_a_yes_with_marks_is_one_to_who_asked_for_them_only() -> None:
    for uri, is_yes in (("x?end=marked", True), ("x?end=other", False), ("x", False)):
        near, far = memory_connection()
        await far.send_all(b"\x02")
        await far.send_eof()
        if is_yes:
            assert await request(near, uri) is True
        else:
            with pytest.raises(PtyRefusedError):
                await request(near, uri)


async def test_streams_that_can_be_reset_get_no_marks() -> None:
    near, far = memory_connection()
    asked = Request.parse_untrusted(b"dmsgpty/x?end=marked")
    assert asked.wants_marks
    assert await accept_as_asked(far, asked) is far
    assert await near.receive_some(1) == b"\x00"


async def test_no_can_be_read_although_the_client_is_still_writing(
    autojump_clock: MockClock,
) -> None:
    near, far = memory_connection(latency=0.1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse, far, "your key is not on the list")
        with pytest.raises(PtyRefusedError, match=r"^your key is not on the list$"):
            await request(near, PTY_URI)
        await near.aclose()


async def test_a_long_reason_is_cut_between_two_characters() -> None:
    near, far = memory_connection()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse, far, "x" + "ä" * 200)
        with pytest.raises(PtyRefusedError) as refused:
            await request(near, PTY_URI)
        await near.aclose()
    assert refused.value.reason == "x" + "ä" * 127


async def test_who_was_refused_and_stays_is_not_waited_for_long(autojump_clock: MockClock) -> None:
    _, far = memory_connection()
    began = trio.current_time()
    await refuse(far, "no")
    assert trio.current_time() - began == READ_WITHIN


async def test_who_was_refused_and_goes_on_talking_is_not_listened_to_for_long() -> None:
    near, far = memory_connection()
    await near.send_all(bytes(3 * MAX_IGNORED))
    with trio.fail_after(READ_WITHIN / 2):
        await refuse(far, "no")


async def test_who_was_refused_and_is_gone_already_is_no_error() -> None:
    near, far = memory_connection()
    near.cut()
    await refuse(far, "no")


# ---- what is asked for ----

GOOD = {
    # as the reference's host takes them
    b"dmsgpty/pty": Request("dmsgpty/pty"),
    b"/dmsgpty/pty": Request("dmsgpty/pty"),
    b"dmsgpty/pty?x=1": Request("dmsgpty/pty", {"x": "1"}),
    b"dmsgpty/pty#a": Request("dmsgpty/pty"),
    b"dmsgpty/pty#": Request("dmsgpty/pty"),
    b"dmsgpty/pty?%zz": Request("dmsgpty/pty"),
    b"dmsgpty/pty?a b": Request("dmsgpty/pty", {"a b": ""}),
    b"p?a=1&a=2&b=%41+%2B&c;d=3&=4": Request("p", {"a": "1", "b": "A +", "": "4"}),
}
OTHER_PATHS = [
    # none of them is dmsgpty/pty to the reference's host
    *(b"", b"/", b"?", b"//dmsgpty/pty", b"dmsgpty/p%74y", b"dmsgpty/pty/", b"x://h/dmsgpty/pty"),
    *(b"DMSGPTY/pty", b" dmsgpty/pty", b"dmsgpty/pty ", b"dmsgpty/pty\xff"),
]


@pytest.mark.parametrize("line", GOOD)
def test_requests_are_understood_as_the_reference_does(line: bytes) -> None:
    assert Request.parse_untrusted(line) == GOOD[line]


@pytest.mark.parametrize("line", OTHER_PATHS)
def test_paths_are_compared_as_they_are_written(line: bytes) -> None:
    assert Request.parse_untrusted(line).path != "dmsgpty/pty"


@pytest.mark.parametrize("line", [b"dmsgpty/pty?a\x01b", b"dmsgpty/pty\x7f", b"dmsgpty/pty#%zz"])
def test_what_is_no_url_is_no_request(line: bytes) -> None:
    with pytest.raises(PtyRequestError, match="not a request"):
        Request.parse_untrusted(line)


def test_another_host_is_asked_for_by_its_key_and_port() -> None:
    asked = Request.parse_untrusted(f"dmsgpty/proxy?pk={PK}&port=22".encode())
    address = asked.address()
    assert (asked.path, address.pk, address.port) == ("dmsgpty/proxy", PK, 22)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("", "a port is a number from 1 to 65535, not ''"),
        (f"pk={PK}", "a port is"),
        (f"pk={PK}&port=0", "not '0'"),
        (f"pk={PK}&port=65536", "not '65536'"),
        (f"pk={PK}&port=-1", "not '-1'"),
        (f"pk={PK}&port=%D9%A2%D9%A2", "a port is"),
        (f"pk={PK}&port=" + "9" * 99, "a port is"),
        ("port=22", "66 hex digits, not 0"),
        ("pk=02&port=22", "66 hex digits, not 2"),
        (f"pk={'0' * 66}&port=22", "not a point on secp256k1"),
    ],
)
def test_another_host_that_cannot_be_is_not_asked_for(query: str, problem: str) -> None:
    with pytest.raises(PtyRequestError, match=problem):
        Request.parse_untrusted(f"dmsgpty/proxy?{query}".encode()).address()
