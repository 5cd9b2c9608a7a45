"""UDP ASSOCIATE from a local program through a remote key."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import cast

import pytest
import trio
import trio.testing

from dmsg_trio._wire.socks5 import (
    NOWHERE,
    Command,
    Datagram,
    Endpoint,
    ReplyCode,
    SocksReader,
    decode_datagram_untrusted,
    encode,
    encode_frame,
)
from dmsg_trio.apps.socks5 import ExitOptions
from dmsg_trio.apps.socks5._conversation import receive_message
from dmsg_trio.apps.socks5._local_datagrams import LocalAssociation
from dmsg_trio.client import DmsgStream
from tests.apps.socks5.parties import LOOPBACK, Names, Parties, ask, parties, udp_echo
from tests.waiting import PATIENCE, hearing


class Program:
    """A program with an association; `exchange` sends a datagram until it is answered."""

    def __init__(self, sock: trio.socket.SocketType, at: Endpoint) -> None:
        self.sock = sock
        self.at = at

    async def send(self, data: bytes) -> None:
        await self.sock.sendto(data, (str(self.at.host), self.at.port))

    async def receive(self) -> Datagram:
        with trio.fail_after(PATIENCE):
            return decode_datagram_untrusted(await self.sock.recv(65535))


@asynccontextmanager
async def program_of(p: Parties, named: Endpoint = NOWHERE) -> AsyncIterator[Program]:
    stream, reply = await p.request(named, Command.UDP_ASSOCIATE)
    assert reply.code == ReplyCode.SUCCEEDED
    assert reply.bound.host == IPv4Address("127.0.0.1")
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        yield Program(sock, reply.bound)
    await stream.aclose()


async def test_datagrams_go_there_and_back() -> None:
    with hearing("dmsg_trio.socks5") as log:
        async with parties() as p, udp_echo() as there:
            async with program_of(p) as program:
                for data in (b"one", b"", bytes(9000)):
                    await program.send(encode(Datagram(there, data)))
                    assert await program.receive() == Datagram(there, data)
            await log.said("to UDP: closed, 9003 bytes out, 9003 in")


async def test_names_are_looked_up_at_the_far_end_and_only_once() -> None:
    names = Names({"clock.example": ["127.0.0.1"]})
    async with parties() as p, udp_echo() as there, program_of(p) as program:
        trio.socket.set_custom_hostname_resolver(names)
        for _ in range(3):
            await program.send(encode(Datagram(Endpoint("clock.example", there.port), b"when?")))
            assert await program.receive() == Datagram(there, b"when?")
    assert names.asked == ["clock.example"]


async def test_what_may_not_go_out_is_left_out_and_the_rest_goes_on() -> None:
    names = Names({"rebound.example": ["10.0.0.1"]})
    async with parties() as p, udp_echo() as there, program_of(p) as program:
        trio.socket.set_custom_hostname_resolver(names)
        whole = encode(Datagram(there, b"again"))
        for data in (
            b"",
            b"\0\0\0",
            b"\0\0\1" + whole[3:],  # a fragment
            b"\0\0\0\5" + whole[4:],  # an address of a strange type
            encode(Datagram(Endpoint("me.dmsg", there.port), b"x")),
            encode(Datagram(Endpoint("rebound.example", there.port), b"x")),
            encode(Datagram(Endpoint("nobody.example", there.port), b"x")),
            encode(Datagram(Endpoint(IPv4Address("10.0.0.1"), there.port), b"x")),
            encode(Datagram(Endpoint(IPv4Address("255.255.255.255"), there.port), b"x")),
            encode(Datagram(Endpoint(there.host, 0), b"x")),
            encode(Datagram(there, bytes(65450))),
            whole,
        ):
            await program.send(data)
        received = await program.receive()
        while received.data != b"again":  # the long one may arrive, where loopback lets it
            received = await program.receive()
        assert received == Datagram(there, b"again")
        assert "me.dmsg" not in names.asked


async def test_nobody_else_can_send_through_an_association() -> None:
    async with parties() as p, udp_echo() as there, program_of(p) as program:
        await program.send(encode(Datagram(there, b"mine")))
        assert (await program.receive()).data == b"mine"
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            await stranger.bind(("127.0.0.1", 0))
            await stranger.sendto(
                encode(Datagram(there, b"theirs")), (str(program.at.host), program.at.port)
            )
            await program.send(encode(Datagram(there, b"mine again")))
            assert (await program.receive()).data == b"mine again"
            with trio.move_on_after(0.1) as limit:
                await stranger.recv(100)
            assert limit.cancelled_caught


async def test_a_program_may_say_from_which_port_it_sends() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        async with parties() as p, udp_echo() as there:
            async with program_of(p, Endpoint(IPv4Address(0), port)) as program:
                await program.send(encode(Datagram(there, b"from another port")))
                held.sendto(
                    encode(Datagram(there, b"from this one")),
                    (str(program.at.host), program.at.port),
                )
                with trio.fail_after(PATIENCE):
                    await trio.lowlevel.wait_readable(held)
                assert decode_datagram_untrusted(held.recv(100)).data == b"from this one"


async def test_who_was_not_sent_to_gets_no_answer_through() -> None:
    async with parties() as p, udp_echo() as there, await p.raw() as raw:
        reply = await ask(raw, NOWHERE, Command.UDP_ASSOCIATE)
        assert reply.code == ReplyCode.SUCCEEDED
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"unasked", ("127.0.0.1", reply.bound.port))
        reader = SocksReader()
        await raw.send_all(encode_frame(Datagram(there, b"asked")))
        with trio.fail_after(PATIENCE):
            frame = await receive_message(raw, reader, reader.next_frame_untrusted)
        assert decode_datagram_untrusted(frame).data == b"asked"


async def test_frames_are_taken_in_any_pieces_and_nonsense_in_them_is_left_out() -> None:
    async with parties() as p, udp_echo() as there, await p.raw() as raw:
        await ask(raw, NOWHERE, Command.UDP_ASSOCIATE)
        for byte in b"\0\0" + b"\0\1x" + encode_frame(Datagram(there, b"asked")):
            await raw.send_all(bytes((byte,)))
        reader = SocksReader()
        with trio.fail_after(PATIENCE):
            frame = await receive_message(raw, reader, reader.next_frame_untrusted)
        assert decode_datagram_untrusted(frame).data == b"asked"


async def test_an_association_ends_with_the_connection_that_asked_for_it() -> None:
    async with parties() as p:
        stream, reply = await p.request(NOWHERE, Command.UDP_ASSOCIATE)
        await stream.aclose()
        with trio.fail_after(PATIENCE):
            while True:
                with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    try:
                        await sock.bind(("127.0.0.1", reply.bound.port))
                    except OSError:
                        await trio.sleep(0.01)
                    else:
                        break


async def test_an_association_ends_with_the_server() -> None:
    async with parties() as p:
        stream, _ = await p.request(NOWHERE, Command.UDP_ASSOCIATE)
        p.exit_scope.cancel()
        with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
            assert await stream.receive_some()


async def test_a_key_has_so_many_associations() -> None:
    async with parties(options=ExitOptions(targets=LOOPBACK.targets, max_associations=2)) as p:
        codes = [(await p.request(NOWHERE, Command.UDP_ASSOCIATE))[1].code for _ in range(3)]
    assert codes == [0, 0, ReplyCode.GENERAL_FAILURE]


async def test_a_flood_of_answers_that_nobody_reads_is_left_out() -> None:
    async with parties() as p, udp_echo() as there, await p.raw() as raw:
        await ask(raw, NOWHERE, Command.UDP_ASSOCIATE)
        frame = encode_frame(Datagram(there, bytes(8000)))
        with trio.fail_after(PATIENCE):
            for _ in range(2000):  # 16 MB, of which next to nothing is ever read
                await raw.send_all(frame)
        _, reply = await p.request(NOWHERE, Command.UDP_ASSOCIATE)
        assert reply.code == ReplyCode.SUCCEEDED


async def test_what_the_system_tells_of_one_datagram_ends_no_others() -> None:
    faults = [ConnectionResetError(errno.ECONNRESET, "nobody there")]

    class Complaining:
        async def recvfrom(self, _size: int) -> tuple[bytes, tuple[str, int]]:
            await trio.lowlevel.checkpoint()
            if faults:
                raise faults.pop()
            return encode(Datagram(Endpoint(IPv4Address("192.0.2.1"), 53), b"on")), ("127.0.0.1", 7)

    near, _program = trio.testing.memory_stream_pair()
    far, server = trio.testing.memory_stream_pair()
    association = LocalAssociation(
        cast("trio.SocketStream", near),
        cast("trio.socket.SocketType", Complaining()),
        "127.0.0.1",
        7,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(association.carry, cast("DmsgStream", far), SocksReader())
        with trio.fail_after(PATIENCE):
            reader = SocksReader()
            frame = await receive_message(server, reader, reader.next_frame_untrusted)
        nursery.cancel_scope.cancel()
    assert decode_datagram_untrusted(frame).data == b"on"
