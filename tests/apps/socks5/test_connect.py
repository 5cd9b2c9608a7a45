"""CONNECT from a local program through a remote key, and what becomes of it."""

import logging
import socket
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio._address import Address
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.socks5 import Command, Endpoint, ReplyCode
from dmsg_trio.apps.socks5 import (
    SOCKS_PORT,
    AllowList,
    Exemption,
    ExitOptions,
    TargetRules,
    fault_of_server,
    serve_local_socks5,
)
from tests.apps.socks5.parties import (
    LOOPBACK,
    Names,
    ask,
    echo,
    parties,
    sort_at_end,
    target,
)
from tests.ports import free_port
from tests.waiting import PATIENCE, answered, hearing

LOG = "dmsg_trio.socks5"
KEY = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
HERE = IPv4Address("127.0.0.1")


async def exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await stream.receive_some(size - len(data))
        assert piece, f"ended after {len(data)} bytes"
        data += piece
    return data


async def test_bytes_go_both_ways_and_the_reply_names_the_address_used_there() -> None:
    async with parties() as p, target(echo) as there:
        stream, reply = await p.request(there.endpoint)
        assert reply.code == ReplyCode.SUCCEEDED
        assert reply.bound.host == HERE
        async with stream:
            await stream.send_all(b"hello")
            assert await exactly(stream, 5) == b"hello"
            assert there.served[0].socket.getpeername() == ("127.0.0.1", reply.bound.port)


async def test_half_a_connection_may_end_before_the_other() -> None:
    async with parties() as p, target(sort_at_end) as there:
        stream, _ = await p.request(there.endpoint)
        async with stream:
            await stream.send_all(b"cabd" * 50_000)
            await stream.send_eof()
            data = b"".join([bytes(piece) async for piece in stream])
        assert data == b"a" * 50_000 + b"b" * 50_000 + b"c" * 50_000 + b"d" * 50_000


async def test_one_line_tells_of_each_connection() -> None:
    with hearing(LOG) as log:
        async with parties() as p, target(echo) as there:
            stream, _ = await p.request(there.endpoint)
            async with stream:
                await stream.send_all(b"12345")
                await stream.send_eof()
                assert b"".join([bytes(piece) async for piece in stream]) == b"12345"
            said = await log.said(rf"{p.user.pk} to {there.endpoint}: .*")
    assert ": closed, 5 bytes out, 5 in, " in said


async def test_names_are_looked_up_at_the_far_end() -> None:
    names = Names({"shop.example": ["127.0.0.1"]})
    async with parties() as p, target(echo) as there:
        trio.socket.set_custom_hostname_resolver(names)
        stream, reply = await p.request(Endpoint("shop.example", there.endpoint.port))
        await stream.aclose()
        assert reply.code == ReplyCode.SUCCEEDED
        stream, reply = await p.request(Endpoint("nobody.example", 80))
        await stream.aclose()
        assert reply.code == ReplyCode.HOST_UNREACHABLE
        assert names.asked == ["shop.example", "nobody.example"]


async def test_names_of_dmsg_are_never_looked_up_on_either_side() -> None:
    names = Names({})
    async with parties() as p:
        trio.socket.set_custom_hostname_resolver(names)
        for name in (f"{KEY}.dmsg", "short.DMSG.", "dmsg"):
            stream, reply = await p.request(Endpoint(name, 80))
            await stream.aclose()
            assert reply.code == ReplyCode.HOST_UNREACHABLE
            async with await p.raw() as raw:
                assert (await ask(raw, Endpoint(name, 80))).code == ReplyCode.HOST_UNREACHABLE
    assert names.asked == []


async def test_refusals_are_told_as_the_reference_tells_them() -> None:
    async with parties() as p:
        async with await p.raw() as raw:
            reply = await ask(raw, Endpoint(HERE, free_port()))
        assert (reply.code, str(reply.bound)) == (ReplyCode.REFUSED, "0.0.0.0:0")
        for command in (Command.BIND, 0, 9):
            stream, reply = await p.request(Endpoint(HERE, 80), command)
            await stream.aclose()
            assert reply.code == ReplyCode.COMMAND_NOT_SUPPORTED


async def test_the_log_of_the_client_says_who_refused_what_and_why() -> None:
    with hearing(LOG) as log:
        async with parties() as p:
            for host, why in ("10.0.0.1", "not allowed"), ("127.0.0.1", "connection refused"):
                stream, _ = await p.request(Endpoint.of(host, 1))
                await stream.aclose()
                assert f"{host}:1: the exit {p.exit.pk}:{SOCKS_PORT} says: {why}" in log.text


async def test_a_client_that_ends_lets_no_half_look_whole() -> None:
    async def half(stream: trio.SocketStream) -> None:
        await stream.send_all(b"ha")
        await trio.sleep_forever()

    async with target(half) as place, parties() as p, open_service_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        serving = trio.CancelScope()

        async def serve() -> None:
            with serving:
                await serve_local_socks5(p.user, p.exit.pk, SOCKS_PORT, listeners)

        nursery.start_soon(serve)
        async with await trio.open_tcp_stream(*listeners[0].socket.getsockname()) as stream:
            assert (await ask(stream, place.endpoint)).code == 0
            assert await stream.receive_some() == b"ha"
            serving.cancel()
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()


async def test_a_connection_that_takes_too_long_is_given_up() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.socket() as one, socket.socket() as another:
            for each in (one, another):
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", port))
            options = ExitOptions(targets=LOOPBACK.targets, connect_timeout=0.2)
            async with parties(options=options) as p:
                stream, reply = await p.request(Endpoint(HERE, port))
                await stream.aclose()
    assert reply.code == ReplyCode.HOST_UNREACHABLE


# ---- how it ends ----


async def test_a_server_that_is_gone_breaks_the_connection_and_the_next_is_told_so() -> None:
    async with parties() as p, target(echo) as there:
        stream, _ = await p.request(there.endpoint)
        await stream.send_all(b"hello")
        await exactly(stream, 5)
        p.exit_scope.cancel()
        with pytest.raises(trio.BrokenResourceError):
            assert await stream.receive_some()
        with hearing(LOG) as log:
            stream, reply = await p.request(there.endpoint)
            await stream.aclose()
            assert reply.code == ReplyCode.HOST_UNREACHABLE
            await log.said(f"nobody serves SOCKS5 on port 1081 of {p.exit.pk}")


async def test_a_reset_is_passed_on() -> None:
    async def break_off(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    async with parties() as p, target(break_off) as there:
        stream, _ = await p.request(there.endpoint)
        await stream.send_all(b"hello")
        with pytest.raises(trio.BrokenResourceError):
            assert await stream.receive_some()


async def test_a_connection_may_be_silent_for_long(mock_clock: MockClock) -> None:
    async with parties() as p, target(echo) as there:
        stream, _ = await p.request(there.endpoint)
        async with stream:
            for _ in range(20):
                mock_clock.jump(6)
                await stream.send_all(b"hello")
                assert await exactly(stream, 5) == b"hello"


async def test_a_silent_connection_is_ended_if_that_is_wanted(mock_clock: MockClock) -> None:
    options = ExitOptions(targets=LOOPBACK.targets, idle_timeout=60)
    with hearing(LOG) as log:
        async with parties(options=options) as p, target(echo) as there:
            stream, _ = await p.request(there.endpoint)
            for _ in range(30):
                mock_clock.jump(6)
                await stream.send_all(b"hello")
                assert await exactly(stream, 5) == b"hello"
            mock_clock.rate = 200
            with pytest.raises(trio.BrokenResourceError):
                assert await stream.receive_some()
            await log.said("idle, 150 bytes out, 150 in")


# ---- who may ----


async def test_who_is_not_on_the_list_is_told_so() -> None:
    with hearing(LOG) as log:
        async with parties(allow=lambda _: [SecretKey.generate().pk]) as p, target(echo) as there:
            stream, reply = await p.request(there.endpoint)
            await stream.aclose()
            assert reply.code == ReplyCode.NOT_ALLOWED
            await log.said(f"{p.user.pk} is not on the allow list")
            assert not there.served


async def test_who_is_on_the_list_may() -> None:
    async with parties(allow=lambda user: [user.pk]) as p, target(echo) as there:
        stream, reply = await p.request(there.endpoint)
        await stream.aclose()
        assert reply.code == ReplyCode.SUCCEEDED


async def test_a_key_that_leaves_the_list_loses_its_connections(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# nobody\n")
    path.chmod(0o600)
    allow = AllowList(path)
    async with parties(allow=allow) as p, target(echo) as there:
        path.write_text(f"{p.user.pk}  # me\n")
        allow.reload()
        stream, _ = await p.request(there.endpoint)
        await stream.send_all(b"hello")
        await exactly(stream, 5)
        path.write_text("not a key\n")
        with hearing("dmsg_trio.access") as log:
            allow.reload()
            await log.said(r"line 1: .*; the 1 keys read before still count")
        await stream.send_all(b"hello")
        await exactly(stream, 5)
        path.write_text("")
        allow.reload()
        with pytest.raises(trio.BrokenResourceError):
            assert await stream.receive_some()


async def test_a_key_and_all_of_them_have_so_many_connections() -> None:
    for options in (
        ExitOptions(targets=LOOPBACK.targets, max_per_key=2),
        ExitOptions(targets=LOOPBACK.targets, max_connections=2),
    ):
        async with parties(options=options) as p, target(echo) as there:
            streams = [await p.request(there.endpoint) for _ in range(3)]
            codes = [reply.code for _, reply in streams]
            assert codes == [0, 0, ReplyCode.GENERAL_FAILURE]
            await streams[0][0].aclose()
            await streams[2][0].aclose()

            # The server hears of the end a little later.
            async def has_room() -> bool:
                return (await p.request(there.endpoint))[1].code == 0

            assert await answered(has_room, within=PATIENCE)


async def test_a_client_can_ask_beforehand_what_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dmsg_trio.socks5")
    async with parties() as p:
        remote = Address(p.exit.pk, SOCKS_PORT)
        assert await fault_of_server(p.user, remote) == ""
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert caplog.messages == []  # to be asked is no fault
        nobody = Address(SecretKey.generate().pk, SOCKS_PORT)
        fault = await fault_of_server(p.user, nobody)
        assert fault == f"{nobody.pk}: no client of this key is registered at the discovery"
        p.exit_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert (await fault_of_server(p.user, remote)).startswith(
            "nobody serves SOCKS5 on port 1081"
        )
    async with parties(allow=lambda _: []) as p:
        remote = Address(p.exit.pk, SOCKS_PORT)
        fault = await fault_of_server(p.user, remote)
        assert fault == f"{remote} does not let {p.user.pk} go out there"


# ---- where to ----


async def test_private_targets_are_refused_by_any_name() -> None:
    names = Names({"rebound.example": ["10.0.0.1", "::ffff:127.0.0.1"], "localhost": ["127.0.0.1"]})
    async with parties(options=ExitOptions()) as p, target(echo) as there:
        trio.socket.set_custom_hostname_resolver(names)
        for host in (
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "rebound.example",
            "localhost",
        ):
            stream, reply = await p.request(Endpoint.of(host, there.endpoint.port))
            await stream.aclose()
            assert reply.code == ReplyCode.NOT_ALLOWED, host
        assert not there.served


async def test_the_private_addresses_of_a_name_are_left_out() -> None:
    """A name with a private address and an allowed one leads to the allowed one alone."""
    names = Names({"mixed.example": ["10.0.0.1", "127.0.0.1", "192.168.0.1"]})
    async with parties() as p, target(echo) as there:
        trio.socket.set_custom_hostname_resolver(names)
        stream, reply = await p.request(Endpoint("mixed.example", there.endpoint.port))
        await stream.aclose()
        assert reply.code == ReplyCode.SUCCEEDED


async def test_one_target_of_a_private_network_can_be_allowed() -> None:
    async with target(echo) as there, target(echo) as other:
        rules = TargetRules(exempt=(Exemption.parse(str(there.endpoint)),))
        async with parties(options=ExitOptions(targets=rules)) as p:
            for endpoint, code in (there.endpoint, 0), (other.endpoint, ReplyCode.NOT_ALLOWED):
                stream, reply = await p.request(endpoint)
                await stream.aclose()
                assert reply.code == code


async def test_everything_private_can_be_allowed() -> None:
    options = ExitOptions(targets=TargetRules(private=True))
    async with parties(options=options) as p, target(echo) as there:
        stream, reply = await p.request(there.endpoint)
        await stream.aclose()
        assert reply.code == ReplyCode.SUCCEEDED


async def test_another_address_is_tried_where_one_refuses() -> None:
    names = Names({"two.example": ["127.0.0.2", "127.0.0.1"]})
    async with parties() as p, target(echo) as there:
        trio.socket.set_custom_hostname_resolver(names)
        stream, reply = await p.request(Endpoint("two.example", there.endpoint.port))
        await stream.aclose()
        assert reply.code == ReplyCode.SUCCEEDED
