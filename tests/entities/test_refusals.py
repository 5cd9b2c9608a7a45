"""What cannot be had is refused at once, with a reason that says which hop said no."""

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import RefusedError, UnreachableError
from dmsg_trio._address import Address
from dmsg_trio._errors import ErrorCode, LocalProtocolError
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.opening import open_stream
from dmsg_trio._wire.entries import ClientInfo, Entry
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio._wire.objects import SignedObject, StreamRequest
from dmsg_trio.client import Client
from dmsg_trio.client._inbound import CLOCK_TOLERANCE
from dmsg_trio.client._listener import ACCEPT_QUEUE
from dmsg_trio.testing import Network
from tests.entities.parties import connections, refusals, two_clients
from tests.net.links import is_clean


async def refusal_code(client: Client, pk: str, port: int = 80) -> int:
    began = trio.current_time()
    with pytest.raises(UnreachableError) as caught:
        await client.open_stream(pk, port)
    assert trio.current_time() - began < 0.1
    return caught.value.code


async def test_a_port_that_nobody_listens_on_is_refused_by_the_destination(
    autojump_clock: MockClock,
) -> None:
    async with two_clients() as (network, a, b):
        with pytest.raises(RefusedError, match="nobody listens") as caught:
            await a.open_stream(b.pk, 80)
        assert caught.value.code == ErrorCode.NO_LISTENER
        [attempt] = caught.value.attempts
        [server] = network.servers
        assert (attempt.server, attempt.reason) == (str(server.pk), "")
        assert str(caught.value).endswith(f"(306), through server {server.pk.short}")
        assert refusals(network) == {"refused_by_destination": 1}
        await trio.sleep(1)
        assert is_clean(*connections(network, a, b))


async def test_a_full_accept_queue_refuses_until_there_is_room(autojump_clock: MockClock) -> None:
    async with two_clients() as (_, a, b):
        listener = b.listen(80)
        for _ in range(ACCEPT_QUEUE):
            await a.open_stream(b.pk, 80)
        assert await refusal_code(a, str(b.pk)) == ErrorCode.ACCEPT_QUEUE_FULL
        await listener.accept()
        await a.open_stream(b.pk, 80)


async def test_closing_a_listener_resets_what_nobody_accepted(autojump_clock: MockClock) -> None:
    async with two_clients() as (network, a, b):
        async with b.listen(80):
            stream = await a.open_stream(b.pk, 80)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        assert await refusal_code(a, str(b.pk)) == ErrorCode.NO_LISTENER
        await stream.aclose()
        await trio.sleep(1)
        assert is_clean(*connections(network, a, b))


@pytest.mark.parametrize("offset", [-CLOCK_TOLERANCE - 1, CLOCK_TOLERANCE + 1])
async def test_a_request_of_another_time_is_refused(autojump_clock: MockClock, offset: int) -> None:
    async with two_clients() as (network, a, b):
        b.listen(80)
        [session] = a.sessions.values()
        with pytest.raises(RefusedError) as caught:
            await open_stream(
                session,
                a._sk,
                Address(a.pk, 50000),
                Address(b.pk, 80),
                timestamp=network.wall_clock() + offset * 10**9,
                post_quantum=PostQuantum.OFF,
            )
        assert caught.value.code == ErrorCode.REQUEST_TIMESTAMP


async def test_a_request_that_was_seen_before_is_refused(autojump_clock: MockClock) -> None:
    async with two_clients() as (network, a, b):
        [session] = a.sessions.values()
        request = SignedObject.sign(
            a._sk,
            StreamRequest(network.wall_clock(), Address(a.pk, 50000), Address(b.pk, 80)),
        )
        codes = []
        for _ in range(2):
            mux = session.connection.open_stream()
            await session.send_object(mux, request)
            answer = await session.receive_object_untrusted(mux)
            assert answer is not None
            codes.append(answer.response_untrusted(request, b.pk).error_code)
            mux.close()
        assert codes == [ErrorCode.NO_LISTENER, ErrorCode.REQUEST_TIMESTAMP]


async def test_an_unknown_destination_is_code_100(autojump_clock: MockClock) -> None:
    async with Network() as network, network.client() as a:
        stranger = SecretKey.generate().pk
        assert await refusal_code(a, str(stranger)) == ErrorCode.ENTRY_NOT_FOUND


async def test_a_destination_without_servers_is_code_103(autojump_clock: MockClock) -> None:
    async with Network() as network, network.client() as a:
        lonely = SecretKey.generate()
        entry = Entry(pk=lonely.pk, timestamp=network.wall_clock(), client=ClientInfo(()))
        await network.discovery.publish(entry.signed(lonely))
        assert await refusal_code(a, str(lonely.pk)) == ErrorCode.NO_DELEGATED_SERVERS


async def test_a_server_is_no_destination(autojump_clock: MockClock) -> None:
    async with Network() as network, network.client() as a:
        code = await refusal_code(a, str(network.servers[0].pk))
        assert code == ErrorCode.NOT_A_CLIENT_ENTRY


async def test_a_destination_that_its_server_does_not_know_is_refused_at_once(
    autojump_clock: MockClock,
) -> None:
    async with Network() as network, network.client() as a:
        gone = SecretKey.generate()
        entry = Entry(
            pk=gone.pk,
            timestamp=network.wall_clock(),
            client=ClientInfo((network.servers[0].pk,)),
        )
        await network.discovery.publish(entry.signed(gone))
        assert await refusal_code(a, str(gone.pk)) == ErrorCode.CANNOT_CONNECT_TO_DELEGATED
        assert refusals(network)["no_route"] >= 1


async def test_a_dial_after_the_client_was_left_fails_and_does_not_hang(
    autojump_clock: MockClock,
) -> None:
    async with Network() as network, network.client() as b:
        async with network.client() as a:
            b.listen(80)
        with trio.fail_after(60):
            with pytest.raises((UnreachableError, LocalProtocolError)):
                await a.open_stream(b.pk, 80)


async def test_a_port_can_be_listened_on_once(autojump_clock: MockClock) -> None:
    async with Network() as network, network.client() as a:
        async with a.listen(80):
            with pytest.raises(LocalProtocolError, match="occupied"):
                a.listen(80)
        a.listen(80)
        with pytest.raises(ValueError, match="1 to 65535"):
            a.listen(0)
