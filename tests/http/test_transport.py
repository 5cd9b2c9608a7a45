"""httpx over dmsg: URLs, connections that are used again, time, and errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

import httpcore
import httpx
import pytest
import trio
import trio.lowlevel
import trio.testing
from trio.testing import MockClock

from dmsg_trio._address import Address
from dmsg_trio._errors import DiscoveryError, RefusedError, UnreachableError
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.client import DmsgStream
from dmsg_trio.http import DmsgTransport, address_of, serve_asgi
from dmsg_trio.http._connection import Connection
from dmsg_trio.testing import Network
from tests.http.parties import ends

PK = SecretKey(b"\x07" * 32).pk
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


# ---- who a URL means ----


@pytest.mark.parametrize(
    ("host", "port", "meant"),
    [
        (str(PK), None, 80),
        (str(PK), 0, 80),
        (str(PK), 81, 81),
        (f"{PK}.dmsg", None, 80),
        (f"{PK}.DMSG".upper(), 81, 81),
        (f"{str(PK)[:33]}.{str(PK)[33:]}.dmsg", 81, 81),
        ("home", None, 8080),
        ("home", 81, 81),
        ("Home.dmsg", None, 8080),
    ],
)
def test_a_host_and_a_port_mean_an_address(host: str, port: int | None, meant: int) -> None:
    assert address_of(host, port, {"home": Address(PK, 8080)}) == Address(PK, meant)
    assert address_of(host, port, {"home": f"{PK}:8080"}) == Address(PK, meant)


@pytest.mark.parametrize("host", ["example.com", f"{PK}0", "", "dmsg", f"{PK}.dmsg.dmsg"])
def test_a_host_that_is_no_key_is_refused_in_words(host: str) -> None:
    with pytest.raises(ValueError, match=f"^{host!r} is neither a public key nor a name"):
        address_of(host)


async def test_every_form_of_url_leads_to_the_server_with_the_host_as_written() -> None:
    async with ends() as both:
        pk = both.server.pk
        hosts = {"home": Address(pk, 80)}
        async with both.http(hosts=hosts) as http:
            for host in (f"dmsg://{pk}", f"dmsg://{pk}:80", f"http://{pk}", f"http://{pk}.dmsg"):
                assert (await http.get(f"{host}/who")).text == str(both.client.pk)
            assert (await http.get("dmsg://home/who")).text == str(both.client.pk)
        assert both.site.hosts == [str(pk), f"{pk}:80", str(pk), f"{pk}.dmsg", "home"]


async def test_what_does_not_lead_over_dmsg_says_so() -> None:
    async with ends() as both, both.http() as http:
        with pytest.raises(httpx.ConnectError, match=r"example\.com.*neither"):
            await http.get("http://example.com/")
        with pytest.raises(httpx.UnsupportedProtocol, match="https:// does not lead over dmsg"):
            await http.get(f"https://{PK}/")


async def test_a_url_without_a_scheme_says_what_is_missing() -> None:
    async with ends() as both:
        transport = DmsgTransport(both.client)
        with pytest.raises(httpx.UnsupportedProtocol, match=r"without a scheme .* use dmsg://PK/"):
            await transport.handle_async_request(httpx.Request("GET", f"{both.server.pk}/"))


async def test_one_client_can_have_dmsg_beside_other_transports() -> None:
    def web(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="the web")

    async with ends() as both:
        mounts = {"dmsg://": DmsgTransport(both.client)}
        async with httpx.AsyncClient(mounts=mounts, transport=httpx.MockTransport(web)) as http:
            assert (await http.get(f"dmsg://{both.server.pk}/who")).text == str(both.client.pk)
            assert (await http.get("http://example.com/")).text == "the web"


async def test_redirects_are_followed_in_all_their_forms() -> None:
    async with ends() as both, both.http() as http:
        pk = both.server.pk
        for to in ("/who", f"dmsg://{pk}/who", f"dmsg://{pk}:80/who", f"http://{pk}.dmsg/who"):
            answer = await http.get("/away", params={"to": to}, follow_redirects=True)
            assert answer.text == str(both.client.pk)


# ---- what is on the wire ----


class Scripted:
    """A server that answers each request with bytes, and keeps what it was asked."""

    def __init__(self, *, answers: int, keep: bool = False) -> None:
        self.requests: list[bytes] = []
        self.streams = 0
        self.close_now = trio.Event()
        self._answers = answers
        self._keep = keep

    async def serve(self, stream: DmsgStream) -> None:
        self.streams += 1
        async with stream:
            for _ in range(self._answers):
                request = b""
                while b"\r\n\r\n" not in request:
                    if not (data := await stream.receive_some()):
                        return
                    request += data
                self.requests.append(request)
                await stream.send_all(OK)
            if self._keep:
                await self.close_now.wait()


async def test_a_request_is_what_the_reference_would_send() -> None:
    scripted = Scripted(answers=1)
    async with (
        Network() as network,
        network.client() as server,
        network.client() as client,
        server.listen(81) as listener,
        open_service_nursery() as nursery,
    ):
        nursery.start_soon(partial(trio.serve_listeners, scripted.serve, [listener]))
        transport = DmsgTransport(client)
        request = httpx.Request(
            "GET",
            f"dmsg://{server.pk}:81/path/a%20b?x=1&y=2",
            headers={"User-Agent": "Go-http-client/1.1"},
        )
        async with transport:
            response = await transport.handle_async_request(request)
            assert await response.aread() == b"ok"
        assert scripted.requests == [
            b"GET /path/a%%20b?x=1&y=2 HTTP/1.1\r\nHost: %b:81\r\n"
            b"User-Agent: Go-http-client/1.1\r\n\r\n" % str(server.pk).encode()
        ]


# ---- connections that are used again ----


async def test_one_stream_carries_many_requests_to_a_server_that_keeps_it() -> None:
    async with ends() as both, both.http() as http:
        for _ in range(3):
            await http.get("/who")
        assert len(set(both.site.ports)) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_server_that_closes_after_each_answer_gets_a_stream_for_each_request(
    method: str,
) -> None:
    scripted = Scripted(answers=1)
    async with (
        Network() as network,
        network.client() as server,
        network.client() as client,
        server.listen(80) as listener,
        open_service_nursery() as nursery,
        httpx.AsyncClient(transport=DmsgTransport(client)) as http,
    ):
        nursery.start_soon(partial(trio.serve_listeners, scripted.serve, [listener]))
        for _ in range(5):
            assert (await http.request(method, f"dmsg://{server.pk}/")).text == "ok"
            await trio.testing.wait_all_tasks_blocked()
        assert scripted.streams == 5


@pytest.mark.parametrize(("method", "headers"), [("GET", {}), ("POST", {"Idempotency-Key": "7"})])
async def test_an_end_that_crosses_with_a_request_costs_an_idempotent_one_nothing(
    method: str, headers: dict[str, str]
) -> None:
    scripted = Scripted(answers=1, keep=True)
    async with (
        Network(latency=0.05) as network,
        network.client() as server,
        network.client() as client,
        server.listen(80) as listener,
        open_service_nursery() as nursery,
        httpx.AsyncClient(transport=DmsgTransport(client)) as http,
    ):
        nursery.start_soon(partial(trio.serve_listeners, scripted.serve, [listener]))
        url = f"dmsg://{server.pk}/"
        assert (await http.get(url)).text == "ok"
        scripted.close_now.set()  # its end is on the way while we ask
        await trio.lowlevel.checkpoint()
        assert (await http.request(method, url, headers=headers)).text == "ok"
        assert scripted.streams == 2


async def test_an_end_that_crosses_with_an_order_is_an_error() -> None:
    scripted = Scripted(answers=1, keep=True)
    async with (
        Network(latency=0.05) as network,
        network.client() as server,
        network.client() as client,
        server.listen(80) as listener,
        open_service_nursery() as nursery,
        httpx.AsyncClient(transport=DmsgTransport(client)) as http,
    ):
        nursery.start_soon(partial(trio.serve_listeners, scripted.serve, [listener]))
        url = f"dmsg://{server.pk}/"
        assert (await http.post(url)).text == "ok"
        scripted.close_now.set()
        await trio.lowlevel.checkpoint()
        unknown = (
            "closed without sending a response.*may or may not have done it; a POST.*not sent again"
        )
        with pytest.raises(httpx.RemoteProtocolError, match=unknown):
            await http.post(url)
        assert scripted.streams == 1


async def test_an_order_is_sent_again_if_its_connection_broke_before_it_was_on_its_way() -> None:
    streams: list[DmsgStream] = []

    async def answer(stream: DmsgStream) -> None:
        streams.append(stream)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await stream.receive_some():
                await stream.send_all(OK)

    async def reset_before_sending(step: str, _info: object) -> None:
        if step == "http11.send_request_headers.started" and len(streams) == 1:
            streams[0].reset()
            await trio.testing.wait_all_tasks_blocked()

    async def body() -> AsyncIterator[bytes]:
        yield b"one"

    async with (
        Network() as network,
        network.client() as server,
        network.client() as client,
        server.listen(80) as listener,
        open_service_nursery() as nursery,
        httpx.AsyncClient(transport=DmsgTransport(client)) as http,
    ):
        nursery.start_soon(partial(trio.serve_listeners, answer, [listener]))
        url = f"dmsg://{server.pk}/"
        assert (await http.get(url)).text == "ok"
        answered = await http.post(url, content=body(), extensions={"trace": reset_before_sending})
        assert answered.text == "ok"
        assert len(streams) == 2


async def test_no_more_connections_than_allowed_and_who_waits_too_long_is_told(
    autojump_clock: MockClock,
) -> None:
    async with ends() as both, both.http(max_connections=1) as http:
        async with http.stream("GET", "/large"):
            with pytest.raises(httpx.PoolTimeout, match=r"no connection was free for 5 s"):
                await http.get("/who")
        assert (await http.get("/who")).status_code == 200


@pytest.mark.parametrize("option", ["max_connections=0", "keepalive_expiry=-1"])
async def test_limits_that_make_no_sense_are_refused(option: str) -> None:
    name, value = option.split("=")
    async with ends() as both:
        with pytest.raises(ValueError, match=f"{name} is .* or more, or None, not {value}"):
            both.http(**{name: int(value)})


async def test_many_requests_at_once_look_at_few_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0

    def look(connection: Connection, origin: httpcore.Origin) -> bool:
        nonlocal looks
        looks += 1
        return leads_there(connection, origin)

    leads_there = Connection.can_handle_request
    monkeypatch.setattr(Connection, "can_handle_request", look)
    async with ends() as both, both.http(max_connections=10) as http:
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(http.get, "/who")
        assert len(both.site.ports) == 200
        assert len(set(both.site.ports)) == 10
    assert looks < 200 * 10


async def test_an_idle_connection_makes_room_for_one_to_somebody_else() -> None:
    async with ends() as both, both.http(max_connections=1) as http:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_asgi, both.site.asgi(), both.server, 81)
            for port in (80, 81, 80):
                assert (await http.get(f"dmsg://{both.server.pk}:{port}/who")).status_code == 200
            nursery.cancel_scope.cancel()
        assert len(set(both.site.ports)) == 3


# ---- bodies ----


async def test_bodies_go_both_ways_as_they_come() -> None:
    data = bytes(range(256)) * 4096

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 10_000):
            yield data[start : start + 10_000]

    async with ends() as both, both.http() as http:
        assert (await http.post("/echo", content=pieces())).content == data
        assert (await http.put("/echo", content=data)).content == data


async def test_an_early_answer_to_a_long_request_arrives() -> None:
    async with ends() as both, both.http() as http:
        for _ in range(2):
            answer = await http.post("/deaf", content=bytes(5_000_000))
            assert (answer.status_code, answer.text) == (413, "too much")


async def test_half_an_answer_is_an_error(autojump_clock: MockClock) -> None:
    async def half(stream: DmsgStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(OK[:-1])

    async with (
        Network() as network,
        network.client() as server,
        network.client() as client,
        server.listen(80) as listener,
        open_service_nursery() as nursery,
        httpx.AsyncClient(transport=DmsgTransport(client)) as http,
    ):
        nursery.start_soon(partial(trio.serve_listeners, half, [listener]))
        with pytest.raises(httpx.RemoteProtocolError, match=r"incomplete|without sending complete"):
            await http.get(f"dmsg://{server.pk}/")


# ---- time and cancellation ----


async def test_an_answer_that_takes_too_long_is_a_read_timeout(autojump_clock: MockClock) -> None:
    async with ends() as both, both.http() as http:
        began = trio.current_time()
        with pytest.raises(httpx.ReadTimeout, match=r"for \d+ s \(the head of its answer\)$"):
            await http.get("/slow", timeout=7)
        assert trio.current_time() - began == pytest.approx(7, abs=0.5)


async def test_a_server_that_takes_nothing_is_a_write_timeout(autojump_clock: MockClock) -> None:
    async def deaf(stream: DmsgStream) -> None:
        await trio.sleep_forever()

    async with (
        Network() as network,
        network.client() as server,
        network.client() as client,
        server.listen(80) as listener,
        open_service_nursery() as nursery,
        httpx.AsyncClient(transport=DmsgTransport(client)) as http,
    ):
        nursery.start_soon(partial(trio.serve_listeners, deaf, [listener]))
        timeout = httpx.Timeout(5, read=3)
        with pytest.raises((httpx.WriteTimeout, httpx.ReadTimeout)) as caught:
            await http.post(f"dmsg://{server.pk}/", content=bytes(50_000_000), timeout=timeout)
        assert caught.type is httpx.WriteTimeout
        assert f"{server.pk}:80 through server" in str(caught.value)


async def test_who_is_not_reached_in_time_is_a_connect_timeout(autojump_clock: MockClock) -> None:
    async with Network() as network, network.client() as server, network.client() as client:
        network.cut_power(server)
        async with httpx.AsyncClient(transport=DmsgTransport(client)) as http:
            began = trio.current_time()
            with pytest.raises(httpx.ConnectTimeout, match=f"no connection to {server.pk}:80"):
                await http.get(f"dmsg://{server.pk}/", timeout=4)
            assert trio.current_time() - began <= 4


async def test_a_cancelled_request_leaves_a_pool_that_works(autojump_clock: MockClock) -> None:
    async with ends() as both, both.http(max_connections=1) as http:
        for path in ("/slow", "/large"):
            with trio.move_on_after(1) as scope:
                await http.get(path)
            assert scope.cancelled_caught
            assert (await http.get("/who")).status_code == 200


# ---- errors ----


async def test_a_refusal_is_a_connect_error_with_its_cause() -> None:
    async with ends() as both, both.http() as http:
        told = r"cannot connect: .*:81 refused: nobody listens .*\(306\), through server \w+$"
        with pytest.raises(httpx.ConnectError, match=told) as it:
            await http.get(f"dmsg://{both.server.pk}:81/")
        assert isinstance(it.value.__cause__, RefusedError)
        assert it.value.request.url.port == 81


async def test_who_is_unknown_is_a_connect_error_with_its_cause() -> None:
    async with ends() as both, both.http() as http:
        with pytest.raises(httpx.ConnectError, match="cannot connect to") as it:
            await http.get(f"dmsg://{PK}/")
        assert isinstance(it.value.__cause__, UnreachableError | DiscoveryError)


async def test_a_connection_that_breaks_is_a_read_error_that_names_the_hop(
    autojump_clock: MockClock,
) -> None:
    async def breaks(stream: DmsgStream) -> None:
        await stream.receive_some()
        await stream.send_all(OK[:-1])
        stream.reset()

    async with (
        Network() as network,
        network.client() as server,
        network.client() as client,
        server.listen(80) as listener,
        open_service_nursery() as nursery,
        httpx.AsyncClient(transport=DmsgTransport(client)) as http,
    ):
        nursery.start_soon(partial(trio.serve_listeners, breaks, [listener]))
        with pytest.raises(httpx.ReadError, match=f"reading from {server.pk}:80 through server"):
            await http.get(f"dmsg://{server.pk}/")
