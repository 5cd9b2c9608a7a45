"""The clients of a discovery: over HTTP, in memory, among given entries; and how one publishes."""

import gzip
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import httpx
import pytest
import trio
from trio.testing import MockClock

from dmsg_trio._errors import ConfigError, DiscoveryError, ErrorCode, UnreachableError
from dmsg_trio._keys import SecretKey
from dmsg_trio.discovery import (
    ClientInfo,
    Discovery,
    Entry,
    HttpDiscovery,
    MemoryDiscovery,
    SequenceError,
    ServerInfo,
    StaticDiscovery,
    publish_next,
)
from dmsg_trio.discovery._http import MAX_BATCH, MAX_SERVERS, REQUEST_TIMEOUT
from dmsg_trio.discovery._reading import trusted_by
from dmsg_trio.discovery._rules import Policy
from dmsg_trio.discovery._store import MemoryStore
from dmsg_trio.discovery.serving import DiscoveryService, make_app

CLIENT, SERVER, OTHER = (SecretKey(bytes([n]) * 32) for n in (1, 2, 3))


@dataclass
class Clock:
    """A wall clock that stands still until it is set."""

    now: int = 1_800_000_000_000_000_000

    def __call__(self) -> int:
        return self.now


CLOCK = Clock()


def client(sequence: int = 0, sk: SecretKey = CLIENT) -> Entry:
    info = ClientInfo((SERVER.pk,))
    return Entry(pk=sk.pk, sequence=sequence, timestamp=CLOCK.now, client=info).signed(sk)


def server(sk: SecretKey = SERVER, *, free: int = 1) -> Entry:
    info = ServerInfo(address="127.0.0.1:1", available_sessions=free)
    return Entry(pk=sk.pk, timestamp=CLOCK.now, server=info).signed(sk)


# ---- what every discovery does ----


@pytest.fixture(params=["http", "memory"])
async def discovery(request: pytest.FixtureRequest) -> AsyncIterator[Discovery]:
    if request.param == "memory":
        yield MemoryDiscovery(wall_clock=CLOCK)
        return
    store = MemoryStore(CLOCK)
    app = make_app(DiscoveryService(store, Policy(test_mode=True), wall_clock=CLOCK))
    transport = httpx.ASGITransport(app)
    async with HttpDiscovery("http://discovery", transport=transport) as over_http:
        yield over_http


async def test_what_is_published_is_found(discovery: Discovery) -> None:
    await discovery.publish(client())
    await discovery.publish(server())
    assert await discovery.entry(CLIENT.pk) == client()
    found = await discovery.entry(SERVER.pk)
    assert found == server().with_server_type("official")
    assert found.is_verified
    assert await discovery.available_servers() == await discovery.all_servers() == [found]


async def test_an_unknown_key_is_unreachable(discovery: Discovery) -> None:
    with pytest.raises(UnreachableError) as caught:
        await discovery.entry(CLIENT.pk)
    assert caught.value.code == ErrorCode.ENTRY_NOT_FOUND
    assert "entry of public key is not found" in str(caught.value)


async def test_no_servers_are_an_empty_list(discovery: Discovery) -> None:
    assert await discovery.available_servers() == []
    assert await discovery.all_servers() == []
    await discovery.publish(server(free=0))
    assert await discovery.available_servers() == []
    assert len(await discovery.all_servers()) == 1


async def test_an_entry_that_is_not_newer_is_a_sequence_error(discovery: Discovery) -> None:
    await discovery.publish(client(3))
    for entry in (client(3), replace(client(4), timestamp=CLOCK.now - 1).signed(CLIENT)):
        with pytest.raises(SequenceError):
            await discovery.publish(entry)


async def test_a_refusal_is_told_in_the_discoverys_words(discovery: Discovery) -> None:
    with pytest.raises(DiscoveryError, match=r"401.*invalid signature"):
        await discovery.publish(replace(client(), sequence=9))
    with pytest.raises(DiscoveryError, match=r"422.*no signature"):
        await discovery.publish(replace(client(), signature=None))


async def test_what_is_withdrawn_is_gone(discovery: Discovery) -> None:
    await discovery.publish(client(1))
    with pytest.raises(SequenceError):
        await discovery.withdraw(client(0))
    await discovery.withdraw(client(1))
    with pytest.raises(UnreachableError):
        await discovery.entry(CLIENT.pk)
    with pytest.raises(DiscoveryError, match="invalid signature"):
        await discovery.withdraw(replace(client(), sequence=9))


async def test_a_discovery_in_memory_can_be_as_strict_as_a_public_one() -> None:
    with pytest.raises(DiscoveryError, match="localhost"):
        await MemoryDiscovery(test_mode=False, wall_clock=CLOCK).publish(server())


# ---- publishing ----


async def test_publishing_goes_on_from_what_an_earlier_run_left(discovery: Discovery) -> None:
    await discovery.publish(client(7))
    fresh = Entry(pk=CLIENT.pk, timestamp=0, client=ClientInfo((OTHER.pk,)))
    mine = await publish_next(discovery, CLIENT, fresh, wall_clock=CLOCK)
    assert (mine.sequence, mine.timestamp) == (8, CLOCK.now)
    assert await discovery.entry(CLIENT.pk) == mine
    draft = mine.next_iteration(timestamp=0)
    assert (await publish_next(discovery, CLIENT, draft, wall_clock=CLOCK)).sequence == 9


async def test_publishing_works_with_a_clock_that_was_set_back(discovery: Discovery) -> None:
    await discovery.publish(client(7))
    draft = client(7).next_iteration(timestamp=0)
    mine = await publish_next(discovery, CLIENT, draft, wall_clock=lambda: CLOCK.now - 10**9)
    assert mine.timestamp == CLOCK.now


async def test_publishing_gives_up_on_a_discovery_that_never_agrees() -> None:
    class Stubborn(StaticDiscovery):
        """Always knows something newer, and at times nothing at all."""

        tries = 0

        async def publish(self, entry: Entry) -> None:
            self.tries += 1
            raise SequenceError("no")

    for known in ([client(5)], []):
        stubborn = Stubborn(known)
        with pytest.raises(SequenceError):
            await publish_next(stubborn, CLIENT, client(), wall_clock=CLOCK)
        assert stubborn.tries == 3


# ---- given entries ----


async def test_given_entries_are_all_there_is() -> None:
    static = StaticDiscovery([server(), client()])
    assert await static.entry(CLIENT.pk) == client()
    assert await static.available_servers() == await static.all_servers() == [server()]
    with pytest.raises(UnreachableError, match="not among the 2 entries") as caught:
        await static.entry(OTHER.pk)
    assert caught.value.code == ErrorCode.ENTRY_NOT_FOUND
    await static.withdraw(client())
    await static.withdraw(client())
    with pytest.raises(UnreachableError):
        await static.entry(CLIENT.pk)
    await static.publish(client(5))
    assert await static.entry(CLIENT.pk) == client(5)


async def test_clients_can_be_given_as_being_at_every_server() -> None:
    static = StaticDiscovery.with_clients([server(), server(OTHER)], [CLIENT.pk])
    assert (await static.entry(CLIENT.pk)).delegated_servers == (SERVER.pk, OTHER.pk)
    assert len(await static.all_servers()) == 2


# ---- a discovery that lies, or fails ----

Answer = Callable[[httpx.Request], httpx.Response]
Ask = Callable[[Answer], HttpDiscovery]


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    """Make an `HttpDiscovery` whose requests a function answers."""
    async with AsyncExitStack() as stack:

        def ask(answer: Answer) -> HttpDiscovery:
            transport = httpx.MockTransport(answer)
            discovery = HttpDiscovery("http://liar/", transport=transport)
            stack.push_async_callback(discovery.aclose)
            return discovery

        yield ask


def said(content: bytes = b"", status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """Answer every request with this."""

    async def stream() -> AsyncIterator[bytes]:
        yield content

    return lambda _: httpx.Response(status, content=stream(), headers=headers)


async def test_the_entry_of_another_key_is_refused(ask: Ask) -> None:
    liar = ask(said(client(sk=OTHER).to_json()))
    with pytest.raises(DiscoveryError, match=f"answered with the entry of {OTHER.pk}"):
        await liar.entry(CLIENT.pk)


async def test_a_client_that_did_not_sign_is_refused(ask: Ask) -> None:
    forged = replace(client(), client=ClientInfo((OTHER.pk,)))
    liar = ask(said(forged.to_json()))
    with pytest.raises(DiscoveryError, match="signature is not the owner's"):
        await liar.entry(CLIENT.pk)


async def test_a_server_that_did_not_sign_is_a_hint(ask: Ask) -> None:
    forged = replace(server(), sequence=9)
    liar = ask(said(forged.to_json()))
    found = await liar.entry(SERVER.pk)
    assert found == forged
    assert not found.is_verified


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[]", b'{"version":1}'])
async def test_nonsense_is_an_error_that_names_the_url(ask: Ask, content: bytes) -> None:
    liar = ask(said(content))
    with pytest.raises(DiscoveryError, match=f"^http://liar/dmsg-discovery/entry/{CLIENT.pk}: "):
        await liar.entry(CLIENT.pk)


async def test_a_bad_entry_does_not_spoil_a_list_of_servers(ask: Ask) -> None:
    bad = [b"{}", b"5", client().to_json(), replace(client(), sequence=9).to_json()]
    both = replace(server(OTHER), client=ClientInfo(), sequence=9)
    content = b"[%s]" % b",".join([*bad, server().to_json(), both.to_json()])
    liar = ask(said(content))
    assert await liar.available_servers() == [server()]


async def test_a_list_that_is_none_is_an_error(ask: Ask) -> None:
    for content in (b"{}", b"", b"[" * 30_000):
        liar = ask(said(content))
        with pytest.raises(DiscoveryError, match="not a list of entries"):
            await liar.all_servers()


async def test_of_a_long_list_so_many_are_taken(ask: Ask) -> None:
    content = b"[%s]" % b",".join([server().to_json()] * (MAX_SERVERS + 1))
    liar = ask(said(content))
    assert len(await liar.all_servers()) == MAX_SERVERS


async def test_a_huge_answer_is_not_read_to_its_end(ask: Ask) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            await trio.lowlevel.checkpoint()
            sent += 1
            yield b" " * 65536

    liar = ask(lambda _: httpx.Response(200, content=endless()))
    with pytest.raises(DiscoveryError, match="more than 65536 bytes"):
        await liar.entry(CLIENT.pk)
    assert sent == 2


async def test_a_packed_answer_is_refused(ask: Ask) -> None:
    def packed(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-encoding"] == "identity"
        return httpx.Response(
            200, content=gzip.compress(b" " * 10**6), headers={"Content-Encoding": "gzip"}
        )

    with pytest.raises(DiscoveryError, match="encoded"):
        await ask(packed).all_servers()


async def test_too_many_requests_say_when_to_come_back(ask: Ask) -> None:
    busy = ask(said(status=429, headers={"Retry-After": "7"}))
    with pytest.raises(DiscoveryError, match="come back after 7 s"):
        await busy.publish(client())
    busy = ask(said(status=429))
    with pytest.raises(DiscoveryError, match="come back later"):
        await busy.withdraw(client())


async def test_a_page_that_is_not_there_is_no_unknown_key(ask: Ask) -> None:
    wrong = ask(said(b"404 page not found\n", 404))
    with pytest.raises(DiscoveryError, match="answered 404: 404 page not found"):
        await wrong.entry(CLIENT.pk)
    with pytest.raises(DiscoveryError, match="answered 404"):
        await wrong.available_servers()


async def test_words_of_a_stranger_cannot_move_a_cursor_and_are_cut_short(ask: Ask) -> None:
    rude = ask(said(json.dumps({"message": "\x1b[2J" + "x" * 10_000}).encode(), 500))
    with pytest.raises(DiscoveryError) as caught:
        await rude.publish(client())
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400


async def test_a_discovery_that_does_not_answer_is_given_up(
    ask: Ask, autojump_clock: MockClock
) -> None:
    async def silent() -> AsyncIterator[bytes]:
        await trio.sleep(10 * REQUEST_TIMEOUT)
        yield b"[]"

    liar = ask(lambda _: httpx.Response(200, content=silent()))
    with pytest.raises(DiscoveryError, match=f"no answer within {REQUEST_TIMEOUT} s"):
        await liar.available_servers()
    assert trio.current_time() == pytest.approx(REQUEST_TIMEOUT)


async def test_a_connection_that_fails_is_told_with_its_reason(ask: Ask) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route to host", request=request)

    with pytest.raises(DiscoveryError, match=r"^http://liar/.*: no route to host$"):
        await ask(fail).publish(client())


@pytest.mark.parametrize("url", ["", "liar:80", "ftp://liar", "dmsg://02ab"])
def test_a_url_that_is_not_http_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(ConfigError, match="http:// or https://"):
        HttpDiscovery(url)


@pytest.mark.parametrize("place", ["a..b", ".:80", "x" * 70, "[::1", ":80", "a:b"])
def test_a_url_where_nothing_can_be_is_a_wrong_setting(place: str) -> None:
    with pytest.raises(ConfigError, match=f"names a host.*{re.escape(place)}"):
        HttpDiscovery(f"http://{place}")


async def test_a_discovery_says_where_it_is() -> None:
    async with HttpDiscovery("http://127.0.0.1:9090/") as discovery:
        assert repr(discovery) == "<HttpDiscovery at http://127.0.0.1:9090>"


# ---- many entries at once ----


async def test_many_entries_are_asked_for_in_batches() -> None:
    store = MemoryStore(CLOCK)
    app = make_app(DiscoveryService(store, Policy(test_mode=True), wall_clock=CLOCK))
    async with HttpDiscovery("http://d", transport=httpx.ASGITransport(app)) as discovery:
        await discovery.publish(client())
        await discovery.publish(client(sk=OTHER))
        strangers = [SERVER.pk] * (MAX_BATCH + 5)
        found = await discovery.entries([CLIENT.pk, *strangers, OTHER.pk])
        assert found == {CLIENT.pk: client(), OTHER.pk: client(sk=OTHER)}
        assert await discovery.entries([]) == {}


@pytest.mark.parametrize("status", [404, 405])
async def test_a_discovery_that_has_no_batches_says_so(ask: Ask, status: int) -> None:
    assert await ask(said(b"no such page", status)).entries([CLIENT.pk]) is None


async def test_of_many_entries_only_what_their_owners_signed_is_taken(ask: Ask) -> None:
    forged = replace(client(sk=OTHER), signature=client().signature, received=None)
    answer = b'{"a":%s,"b":%s,"c":7}' % (client().to_json(), forged.to_json())
    found = await ask(said(answer)).entries([CLIENT.pk, OTHER.pk])
    assert found == {CLIENT.pk: client()}


# ---- since when ----


async def test_the_status_is_read_as_it_was_told() -> None:
    app = make_app(DiscoveryService(MemoryStore(CLOCK), Policy(test_mode=True), wall_clock=CLOCK))
    async with HttpDiscovery("http://d", transport=httpx.ASGITransport(app)) as discovery:
        await discovery.publish(client())
        status = await discovery.status()
    assert status is not None
    now = CLOCK.now // 10**9
    assert (status.now, status.servers, list(status.clients)) == (now, {}, [str(CLIENT.pk)])
    assert status.clients[str(CLIENT.pk)].servers == {str(SERVER.pk): now}


@pytest.mark.parametrize("status", [404, 405])
async def test_a_discovery_of_another_kind_tells_no_status(ask: Ask, status: int) -> None:
    assert await ask(said(b"404 page not found\n", status)).status() is None


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{}",
        b'{"now":1,"servers":{"a":-1},"clients":{}}',
        b'{"now":99999999999999999999,"servers":{},"clients":{}}',
        b'{"now":1,"servers":{},"clients":{"a":{"since":1}}}',
        b'{"now":1,"servers":{},"clients":{},"health":[1]}',
    ],
)
async def test_a_status_that_is_none_is_an_error(ask: Ask, content: bytes) -> None:
    with pytest.raises(DiscoveryError, match=r"^http://liar/dmsg-discovery/status: "):
        await ask(said(content)).status()


def test_the_authorities_of_the_web_are_read_only_for_who_asks_them() -> None:
    assert trusted_by("http://a", "https://b") is True
    nobody = trusted_by("http://a", "http://b")
    assert isinstance(nobody, ssl.SSLContext)
    assert nobody.verify_mode == ssl.CERT_REQUIRED
    assert nobody.check_hostname
    assert nobody.get_ca_certs() == []
