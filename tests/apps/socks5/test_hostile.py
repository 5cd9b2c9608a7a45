"""What hostile peers and programs try, on either side."""

from __future__ import annotations

import socket

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio._net.telling import LINES
from dmsg_trio._wire.socks5 import Command, Endpoint, Greeting, ReplyCode, Request, encode
from dmsg_trio.apps.socks5._conversation import NEGOTIATION_TIME
from dmsg_trio.apps.socks5._server import TURNED_AWAY
from tests.apps.socks5.parties import Parties, ask, echo, parties, target
from tests.waiting import PATIENCE, answered, hearing

GARBAGE = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"\4\1\0\x50\1\2\3\4\0",
    b"\5\0",
    b"\5\1\2",  # a password, or nothing
    b"\5\1\0\4\1\0\1",
    b"\5\1\0\5\1\0\2" + bytes(40),  # an address of a strange type
    b"\5\1\0\5\1\0\3\0\0\x50",  # no name
    b"\5\1\0\5\1\0\3\5a\r\nb:\0\x50",
    b"\5" + b"\xff" * 300,
    b"",
)


async def works(p: Parties, endpoint: Endpoint) -> bool:
    stream, reply = await p.request(endpoint)
    async with stream:
        await stream.send_all(b"still here")
        return reply.code == 0 and bool(await stream.receive_some())


async def until_end(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    with trio.fail_after(PATIENCE):
        try:
            async for piece in stream:
                data += piece
        except trio.BrokenResourceError:
            pass
    return data


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_ends_its_own_connection_alone(garbage: bytes) -> None:
    async with parties() as p, target(echo) as there:
        async with await p.raw() as raw:
            await raw.send_all(garbage)
            await raw.send_eof()
            answer = await until_end(raw)
        assert len(answer) <= 12
        async with await p.connect() as local:
            await local.send_all(garbage)
            await local.send_eof()
            await until_end(local)
        assert await works(p, there.endpoint)


async def test_a_program_is_told_what_this_is() -> None:
    with hearing("dmsg_trio.socks5") as log:
        async with parties() as p:
            async with await p.connect() as local:
                await local.send_all(b"GET http://example.com/ HTTP/1.1\r\n\r\n")
                assert (await until_end(local)).startswith(b"HTTP/1.0 501 ")
            await log.said("a program speaks HTTP")
            async with await p.connect() as local:
                await local.send_all(b"\4\1\0\x50\1\2\3\4\0")
                assert await until_end(local) == b""
            await log.said("a program speaks SOCKS4")
            async with await p.connect() as local:
                await local.send_all(b"\5\1\2")
                assert await until_end(local) == b"\5\xff"


async def test_who_never_gets_to_the_point_is_cut_off(mock_clock: MockClock) -> None:
    async with parties() as p:
        async with await p.raw() as raw, await p.connect() as local:
            for stream in (raw, local):
                await stream.send_all(b"\5\1\0")
                assert await stream.receive_some() == b"\5\0"
                await stream.send_all(b"\5\1\0\3\xff")
            mock_clock.jump(NEGOTIATION_TIME - 1)
            await raw.send_all(b"a")
            mock_clock.jump(1.5)
            assert await until_end(raw) == b""
            assert await until_end(local) == b""


async def test_a_far_end_that_is_no_server_of_socks_is_said_to_be_none() -> None:
    async def serve_nonsense(stream: trio.abc.HalfCloseableStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(answers.pop(0))

    answers = [b"HTTP/1.1 400 Bad Request\r\n", b"\5\2", b"\5\xff", b"\5\0\5\0\0\2", b"\5\0\5", b""]
    async with parties() as p, trio.open_nursery() as nursery:
        p.exit_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(trio.serve_listeners, serve_nonsense, [p.exit.listen(1081)])
        while answers:
            _, reply = await p.request(Endpoint("a.example", 80))
            assert reply.code == ReplyCode.GENERAL_FAILURE
        nursery.cancel_scope.cancel()


async def test_floods_of_refusals_do_not_fill_the_log() -> None:
    with hearing("dmsg_trio.socks5") as log:
        async with parties(allow=lambda _: []) as p:
            for _ in range(3 * LINES):
                async with await p.raw() as raw:
                    assert (await ask(raw, Endpoint("a.example", 80))).code == 2
    assert log.text.count("not on the allow list") == LINES


async def test_many_who_are_turned_away_at_once_and_say_nothing_are_reset(
    mock_clock: MockClock,
) -> None:
    assert mock_clock.rate == 0  # so those who are told stay until they have heard it
    async with parties(allow=lambda _: []) as p:
        streams = [await p.raw() for _ in range(100)]
        answers = [await until_end(stream) for stream in streams]
        assert answers.count(b"") == len(streams) - TURNED_AWAY
        for stream in streams:
            stream.reset()


async def test_programs_that_are_gone_before_they_are_answered_leave_nothing_behind() -> None:
    async with parties() as p, target(echo) as there:
        for command in (Command.CONNECT, Command.UDP_ASSOCIATE) * 20:
            local = await p.connect()
            await local.send_all(encode(Greeting()) + encode(Request(command, there.endpoint)))
            local.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await local.aclose()
        for command in (Command.CONNECT, Command.UDP_ASSOCIATE) * 20:
            raw = await p.raw()
            await raw.send_all(encode(Greeting()) + encode(Request(command, there.endpoint)))
            raw.reset()
        assert await works(p, there.endpoint)

        async def all_are_gone() -> bool:
            await trio.lowlevel.checkpoint()
            return all(each.socket.fileno() == -1 for each in there.served)

        for stream in p.streams:
            stream.socket.close()
        assert await answered(all_are_gone, within=PATIENCE)
