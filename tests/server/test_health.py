"""What a server tells about itself: its health, and what it has counted."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock, wait_all_tasks_blocked

from dmsg_trio._errors import HandshakeError, HandshakeFault
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.carriers import Carrier
from dmsg_trio._net.handshake import HANDSHAKE_TIMEOUT, initiate
from dmsg_trio._net.mux import ACCEPT_BACKLOG, FAREWELL
from dmsg_trio._net.stream import DmsgStream
from dmsg_trio._wire.entries import Entry, ServerInfo
from dmsg_trio._wire.frames import frame
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio.client import Client
from dmsg_trio.server import Server
from dmsg_trio.server._health import is_private, make_app, private_address
from dmsg_trio.server._metrics import HANDSHAKE_FAILURES, Refusal, ServerMetrics
from dmsg_trio.server._routes import Routes
from dmsg_trio.testing import Network
from dmsg_trio.testing._network import EPOCH

SIZE = 100_000


def numbers(server: Server) -> dict[str, float]:
    """What Prometheus would read, by name; the label behind a slash."""
    return {
        "/".join([sample.name.removeprefix("dmsg_server_"), *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(server.metrics.text().decode())
        for sample in family.samples
    }


@asynccontextmanager
async def asking(
    server: Server, *, health: bool = True, metrics: bool = True
) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(server, health=health, metrics=metrics)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://server"
    ) as http:
        yield http


@asynccontextmanager
async def joined(a: Client, b: Client) -> AsyncIterator[tuple[DmsgStream, DmsgStream]]:
    async with b.listen(80) as listener:
        async with await a.open_stream(b.pk, 80) as near, await listener.accept() as far:
            yield near, far


# ---- over HTTP ----


async def test_health_has_the_members_of_the_reference_and_more(autojump_clock: MockClock) -> None:
    async with Network() as network, network.client() as a, network.client() as b:
        (server,) = network.servers
        async with joined(a, b), asking(server) as http:
            answer = await http.get("/health")
        assert answer.headers["Content-Type"] == "application/json"
        health = answer.json()
        assert sorted(health.pop("build_info")) == ["commit", "date", "version"]
        assert health == {
            "started_at": "2027-01-15T08:00:00Z",
            "public_key": str(server.pk),
            "public_address": "server-0.test:8081",
            "sessions": 2,
            "streams": 1,
            "links": [],
            "servers_known": 0,
            "servers_missing": [],
            "contested_keys": [],
            "draining": False,
        }


async def test_each_link_is_told_of_and_who_is_missing(autojump_clock: MockClock) -> None:
    gone = SecretKey.generate()
    async with Network(servers=2, latency=0.01) as network:
        server, other = network.servers
        await trio.sleep(70)
        info = ServerInfo(address="gone.test:1")
        entry = Entry(pk=gone.pk, timestamp=network.wall_clock(), server=info)
        await network.discovery.publish(entry.signed(gone))
        await trio.sleep(70)
        (before,) = server.peers
        before.session.connection.close("for a test")
        await trio.sleep(30)
        async with asking(server) as http:
            health = (await http.get("/health")).json()
        found = numbers(server)
        other.drain()
        await trio.sleep(0.1)
        async with asking(server) as http:
            draining = (await http.get("/health")).json()["links"]
    (link,) = health["links"]
    assert (link["public_key"], link["state"]) == (str(other.pk), "open")
    assert link["dialed_here"] == (server.pk < other.pk)
    assert 20 <= link["age_seconds"] <= 30
    assert link["round_trip_ms"] == pytest.approx(20, abs=1)
    assert (link["streams"], link["reconnects"]) == (0, 1)
    assert min(link["received_bytes"], link["sent_bytes"]) > 50
    assert health["servers_missing"] == [str(gone.pk)]
    assert [each["state"] for each in draining] in ([], ["draining"])
    assert found[f"peer_up/{other.pk}"] == 1
    assert found[f"peer_up/{gone.pk}"] == 0
    assert found[f"peer_reconnects_total/{other.pk}"] == 1
    assert found[f"peer_sent_bytes/{other.pk}"] == link["sent_bytes"]


async def test_metrics_are_in_the_format_of_prometheus(autojump_clock: MockClock) -> None:
    async with Network() as network:
        async with asking(network.servers[0]) as http:
            answer = await http.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"\ndmsg_server_sessions 0.0\n" in answer.content
    assert b"\nprocess_open_fds " in answer.content


@pytest.mark.parametrize(("health", "metrics"), [(True, False), (False, True)])
async def test_each_of_both_can_be_alone(
    autojump_clock: MockClock, health: bool, metrics: bool
) -> None:
    async with Network() as network:
        async with asking(network.servers[0], health=health, metrics=metrics) as http:
            statuses = [(await http.get(path)).status_code for path in ("/health", "/metrics")]
    assert statuses == [200 if health else 404, 200 if metrics else 404]


@pytest.mark.parametrize(
    ("address", "private"),
    [(":8082", "127.0.0.1:8082"), ("0.0.0.0:1", "0.0.0.0:1"), ("[::]:1", "[::]:1")],
)
def test_an_address_without_a_host_is_this_machine_alone(address: str, private: str) -> None:
    assert private_address(address) == private


def test_only_loopback_is_private() -> None:
    assert all(map(is_private, ["127.0.0.1", "127.1.2.3", "::1", "localhost"]))
    assert not any(map(is_private, ["0.0.0.0", "::", "", "10.0.0.1", "server.test"]))


# ---- what is counted ----


async def test_sessions_streams_and_bytes_are_counted_under_our_names_and_the_reference_s(
    autojump_clock: MockClock,
) -> None:
    async with Network() as network:
        (server,) = network.servers
        async with network.client() as a, network.client() as b:
            async with joined(a, b) as (near, far):
                received = bytearray()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(near.send_all, bytes(SIZE))
                    while len(received) < SIZE:
                        received += await far.receive_some()
                during = numbers(server)
            await server._relay.no_streams()
        await trio.sleep(1)
        after = numbers(server)

    for name in ("sessions", "clients_count", "vm_active_sessions_count"):
        assert (during[name], after[name]) == (2, 0), name
    for name in ("sessions_accepted_total", "vm_session_success_total"):
        assert (during[name], after[name]) == (2, 2), name
    for name in ("streams", "vm_active_streams_count"):
        assert (during[name], after[name]) == (1, 0), name
    for name in ("streams_relayed_total", "vm_stream_success_total"):
        assert (during[name], after[name]) == (1, 1), name
    for name in ("relayed_bytes_total", "received_bytes_total", "sent_bytes_total"):
        assert SIZE < during[name] <= after[name] < 1.2 * SIZE, name
    assert (during["queued_bytes"], during["session_queue_bytes_count"]) == (0, 2)


async def test_the_start_and_the_time_since_are_known(autojump_clock: MockClock) -> None:
    async with Network() as network:
        (server,) = network.servers
        await trio.sleep(3600)
        assert numbers(server)["start_time_seconds"] == EPOCH / 1e9
        assert numbers(server)["uptime_seconds"] == pytest.approx(3600, abs=10)


async def test_a_stream_to_nobody_is_a_refusal_with_its_reason(autojump_clock: MockClock) -> None:
    async with Network() as network, network.client() as a, network.client() as b:
        (server,) = network.servers
        with pytest.raises(Exception, match="nobody listens"):
            await a.open_stream(b.pk, 81)
        assert numbers(server)["streams_refused_total/refused_by_destination"] == 1
        assert numbers(server)["vm_stream_fail_total"] == 1


async def test_streams_that_are_reset_unread_are_counted(autojump_clock: MockClock) -> None:
    async with Network() as network:
        (server,) = network.servers
        async with network.client() as a:
            connection = a.sessions[server.pk].connection
            await trio.sleep(5)  # the client's own first stream is over
            streams = [connection.open_stream() for _ in range(ACCEPT_BACKLOG + 7)]
            connection.flush()
            await wait_all_tasks_blocked()
            assert numbers(server)["streams_refused_unread_total"] == 7
            for stream in streams:
                stream.reset()
        await trio.sleep(1)
        assert numbers(server)["sessions"] == 0
        assert numbers(server)["streams_refused_unread_total"] == 7


def test_the_page_for_operators_names_every_number_and_every_reason() -> None:
    page = (Path(__file__).parents[2] / "docs" / "server.md").read_text()
    for family in ServerMetrics(Routes()).collect():
        name = family.name.removeprefix("dmsg_server_")
        assert f"`{name}{'_total' if family.type == 'counter' else ''}" in page
    for reason in (*HANDSHAKE_FAILURES, *Refusal):
        assert f"`{reason}`" in page


# ---- why handshakes fail ----


async def say_nothing(carrier: Carrier, server: Server) -> None:
    await trio.sleep(HANDSHAKE_TIMEOUT + 1)


async def go_away(carrier: Carrier, server: Server) -> None:
    await carrier.aclose()


async def expect_another_server(carrier: Carrier, server: Server) -> None:
    await shake(carrier, server, SecretKey.generate())


async def send_too_little(carrier: Carrier, server: Server) -> None:
    await carrier.send_all(frame(b"x"))


async def send_too_much(carrier: Carrier, server: Server) -> None:
    await carrier.send_all(b"GET /health HTTP/1.1\r\n\r\n")


async def offer_nothing(carrier: Carrier, server: Server) -> None:
    await shake(carrier, server)


async def shake(carrier: Carrier, server: Server, expected: SecretKey | None = None) -> None:
    pk = expected.pk if expected else server.pk
    with pytest.raises(HandshakeError):
        await initiate(carrier, SecretKey.generate(), pk, PostQuantum.OFF)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (say_nothing, HandshakeFault.TIMEOUT),
        (go_away, HandshakeFault.CLOSED),
        (expect_another_server, HandshakeFault.CRYPTO),
        (send_too_little, HandshakeFault.PROTOCOL),
        (send_too_much, HandshakeFault.PROTOCOL),
        (offer_nothing, HandshakeFault.POST_QUANTUM),
    ],
)
async def test_a_failed_handshake_is_counted_by_its_reason(
    autojump_clock: MockClock,
    act: Callable[[Carrier, Server], Awaitable[None]],
    reason: HandshakeFault,
) -> None:
    async with Network(servers=0) as network:
        server = await network.start_server(post_quantum=PostQuantum.REQUIRE)
        carrier = await network.net.connect(server.options.public_address)
        await act(carrier, server)
        await wait_all_tasks_blocked()
        found = numbers(server)
        counts = {each: found[f"handshakes_failed_total/{each}"] for each in HANDSHAKE_FAILURES}
        await carrier.aclose()
    assert counts == {each: float(each is reason) for each in HANDSHAKE_FAILURES}
    assert found["vm_session_fail_total"] == 1


# ---- draining ----


async def test_draining_ends_when_the_last_bytes_are_with_a_slow_reader(
    autojump_clock: MockClock,
) -> None:
    async with Network() as network:
        (server,) = network.servers
        async with network.client() as a, network.client(rate=SIZE / 8) as b:
            async with joined(a, b) as (near, far):
                await far.send_eof()
                await near.send_all(bytes(SIZE))
                await near.send_eof()
                await server._relay.no_streams()  # but much of it is still in the queue
                assert numbers(server)["queued_bytes"] / (SIZE / 8) > FAREWELL
                server.drain()
                async with asking(server) as http:
                    assert (await http.get("/health")).json()["draining"] is True
                received = bytearray()
                while data := await far.receive_some():
                    received += data
    assert len(received) == SIZE
