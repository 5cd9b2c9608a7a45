"""What the HTTP of a discovery does beyond what was recorded of the reference."""

import json
import logging
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import httpx
import pytest
import trio
from trio.testing import MockClock

from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio.discovery import ClientInfo, Entry, ServerInfo
from dmsg_trio.discovery._api import BODY_TIMEOUT, MAX_BATCH, MAX_BODY, STATUS_AGE
from dmsg_trio.discovery._limits import MAX_ASKERS, source_of
from dmsg_trio.discovery._rules import SERVER_LIFETIME
from dmsg_trio.discovery._service import CLEANUP_INTERVAL
from dmsg_trio.discovery._store import MemoryStore, StoreError
from dmsg_trio.discovery.serving import (
    DiscoveryService,
    Health,
    Limits,
    Neighbours,
    RateLimiter,
    make_app,
)

CLIENT, SERVER, OTHER = (SecretKey(bytes([n]) * 32) for n in (1, 2, 3))
ENTRY = "/dmsg-discovery/entry/"


@dataclass
class Clock:
    """A wall clock that stands still until it is set."""

    now: int = 1_800_000_000_000_000_000

    def __call__(self) -> int:
        return self.now


CLOCK = Clock()


def client(sk: SecretKey = CLIENT, *servers: PublicKey, sequence: int = 0) -> Entry:
    info = ClientInfo(servers)
    return Entry(pk=sk.pk, sequence=sequence, timestamp=1, client=info).signed(sk)


def server(sk: SecretKey = SERVER) -> Entry:
    info = ServerInfo(address="203.0.113.7:1", available_sessions=1)
    return Entry(pk=sk.pk, timestamp=CLOCK.now, server=info).signed(sk)


class Make(Protocol):
    """Makes a client of a discovery of its own."""

    def __call__(
        self,
        limits: Limits | None = None,
        health: Health | None = None,
        store: MemoryStore | None = None,
        host: str = "192.0.2.1",
        service: DiscoveryService | None = None,
        neighbours: Neighbours | None = None,
    ) -> httpx.AsyncClient: ...


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    clients: list[httpx.AsyncClient] = []

    def make(
        limits: Limits | None = None,
        health: Health | None = None,
        store: MemoryStore | None = None,
        host: str = "192.0.2.1",
        service: DiscoveryService | None = None,
        neighbours: Neighbours | None = None,
    ) -> httpx.AsyncClient:
        service = service or DiscoveryService(store or MemoryStore(CLOCK), wall_clock=CLOCK)
        app = make_app(service, limits=limits, health=health, neighbours=neighbours)
        transport = httpx.ASGITransport(app, client=(host, 1234), raise_app_exceptions=False)
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://discovery"))
        return clients[-1]

    yield make
    for http in clients:
        await http.aclose()


def limits(*, source: int = 1000, key: int = 1000) -> Limits:
    return Limits(
        by_source=RateLimiter(trio.current_time, rate=1, burst=source),
        by_key=RateLimiter(trio.current_time, rate=1, burst=key),
    )


# ---- the lists of 2026 ----


async def test_a_batch_answers_with_the_entries_that_there_are(make: Make) -> None:
    http = make()
    for entry in (client(), server()):
        await http.post(ENTRY, content=entry.to_json())
    asked = [str(CLIENT.pk), "no key", str(OTHER.pk), str(SERVER.pk), str(CLIENT.pk)]
    answer = await http.post("/dmsg-discovery/entries/batch", json=asked)
    assert answer.status_code == 200
    entries = answer.json()
    assert list(entries) == [str(CLIENT.pk), str(SERVER.pk)]
    assert entries[str(CLIENT.pk)] == json.loads(client().to_json())


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"[" * 30_000])
async def test_a_batch_that_is_no_list_of_keys_is_bad_input(make: Make, body: bytes) -> None:
    answer = await make().post("/dmsg-discovery/entries/batch", content=body)
    assert (answer.status_code, answer.json()["message"]) == (400, "error bad input")


async def test_a_batch_has_a_largest_size(make: Make) -> None:
    for count, status in ((MAX_BATCH, 200), (MAX_BATCH + 1, 400)):
        answer = await make().post("/dmsg-discovery/entries/batch", json=["02"] * count)
        assert answer.status_code == status


async def test_who_is_at_which_server(make: Make) -> None:
    http = make()
    await http.post(ENTRY, content=client(CLIENT, SERVER.pk, OTHER.pk, SERVER.pk).to_json())
    await http.post(ENTRY, content=client(OTHER, SERVER.pk).to_json())
    both, one = [str(CLIENT.pk), str(OTHER.pk)], [str(CLIENT.pk)]
    answer = await http.get("/dmsg-discovery/servers/clients")
    assert answer.json() == {str(SERVER.pk): both, str(OTHER.pk): one}
    for pk, expected in ((SERVER.pk, both), (OTHER.pk, one), (CLIENT.pk, [])):
        answer = await http.get(f"/dmsg-discovery/server/{pk}/clients")
        assert (answer.status_code, answer.json()) == (200, expected)
    assert (await http.get("/dmsg-discovery/server/xyz/clients")).status_code == 400


# ---- our own: since when ----

STATUS = "/dmsg-discovery/status"


async def test_the_status_tells_since_when_entries_stand_by_the_discoverys_clock(
    make: Make,
) -> None:
    http = make()
    for entry in (client(CLIENT, SERVER.pk), server()):
        await http.post(ENTRY, content=entry.to_json())
    answer = await http.get(STATUS)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    now = CLOCK.now // 10**9
    assert answer.json() == {
        "now": now,
        "servers": {str(SERVER.pk): now},
        "clients": {str(CLIENT.pk): {"since": now, "servers": {str(SERVER.pk): now}}},
        "left_out": 0,
        "health": [],
    }
    assert (await http.post(STATUS)).status_code == 405


async def test_the_status_is_worked_out_once_a_second_at_the_most(
    make: Make, autojump_clock: MockClock
) -> None:
    http = make()
    assert (await http.get(STATUS)).json()["servers"] == {}
    await http.post(ENTRY, content=server().to_json())
    assert (await http.get(STATUS)).json()["servers"] == {}
    await trio.sleep(STATUS_AGE)
    assert len((await http.get(STATUS)).json()["servers"]) == 1


async def test_servers_beside_the_discovery_are_told_where_they_tell_of_themselves(
    make: Make,
) -> None:
    neighbours = Neighbours()
    http = make(neighbours=neighbours)
    neighbours.health = ("http://127.0.0.1:8082",)
    assert (await http.get(STATUS)).json()["health"] == ["http://127.0.0.1:8082"]


# ---- entries ----


async def test_an_entry_comes_back_byte_for_byte(make: Make) -> None:
    http = make()
    plain = client().signing_bytes()[:-1] + b',"new":{"field":1e0}}'
    signature = str(CLIENT.sign(plain)).encode()
    sent = plain[:-1] + b',"signature":"' + signature + b'"}'
    assert (await http.post(ENTRY, content=sent)).status_code == 200
    assert (await http.get(f"{ENTRY}{CLIENT.pk}")).content == sent


async def test_an_entry_is_gone_after_its_lifetime(make: Make) -> None:
    clock = Clock()
    http = make(service=DiscoveryService(MemoryStore(clock), wall_clock=clock))
    entry = replace(server(), timestamp=clock.now).signed(SERVER)
    await http.post(ENTRY, content=entry.to_json())
    clock.now += SERVER_LIFETIME - 1
    assert (await http.get(f"{ENTRY}{SERVER.pk}")).status_code == 200
    clock.now += 1
    assert (await http.get(f"{ENTRY}{SERVER.pk}")).status_code == 404
    assert (await http.get("/dmsg-discovery/all_servers")).status_code == 404


async def test_an_old_entry_does_not_withdraw_a_newer_one(make: Make) -> None:
    http = make()
    for sequence in (0, 1):
        await http.post(ENTRY, content=client(sequence=sequence).to_json())
    answer = await http.request("DELETE", ENTRY[:-1], content=client(sequence=0).to_json())
    assert answer.status_code == 422
    assert (await http.get(f"{ENTRY}{CLIENT.pk}")).status_code == 200


async def test_expired_entries_are_cleaned_away(autojump_clock: MockClock) -> None:
    clock = Clock()
    store = MemoryStore(clock)
    service = DiscoveryService(store, wall_clock=clock)
    await service.publish(replace(server(), timestamp=clock.now).signed(SERVER).to_json())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.keep_clean)
        clock.now += SERVER_LIFETIME
        await trio.sleep(CLEANUP_INTERVAL + 1)
        assert await store.remove_expired() == 0  # it was forgotten before
        nursery.cancel_scope.cancel()


async def test_a_store_that_cannot_forget_is_asked_again_later(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck(MemoryStore):
        """Fails the first time."""

        asked = 0

        async def remove_expired(self) -> int:
            self.asked += 1
            if self.asked == 1:
                raise StoreError("no disk")
            return await super().remove_expired()

    store = Stuck(CLOCK)
    with trio.move_on_after(2.5 * CLEANUP_INTERVAL):
        await DiscoveryService(store, wall_clock=CLOCK).keep_clean()
    assert store.asked == 2
    assert "no disk" in caplog.text


# ---- health ----


async def test_health_tells_version_and_start_and_dmsg_once_it_is_there(make: Make) -> None:
    plain = (await make().get("/health")).json()
    assert list(plain) == ["build_info", "started_at"]
    assert list(plain["build_info"]) == ["version", "commit", "date"]
    assert plain["started_at"].endswith("Z")
    health = Health(datetime(2026, 1, 2, tzinfo=UTC))
    http = make(health=health)
    health.dmsg_address, health.dmsg_servers = "02ab:80", ("03cd",)
    answer = (await http.get("/health")).json()
    assert answer["started_at"] == "2026-01-02T00:00:00Z"
    assert (answer["dmsg_address"], answer["dmsg_servers"]) == ("02ab:80", ["03cd"])


# ---- limits ----


async def test_a_source_that_asks_too_often_is_told_when_to_come_back(
    make: Make, autojump_clock: MockClock
) -> None:
    shared = limits(source=2)
    http = make(shared)
    answers = [await http.get("/health") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["retry-after"] == "1"
    assert answers[2].json()["code"] == 429
    assert (await make(shared, host="192.0.2.2").get("/health")).status_code == 200
    await trio.sleep(1)
    assert (await http.get("/health")).status_code == 200


async def test_the_source_is_limited_before_a_signature_is_looked_at(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = make(limits(source=1))
    await http.post(ENTRY, content=client().to_json())
    monkeypatch.setattr(PublicKey, "verify", lambda *_: pytest.fail("verified a signature"))
    assert (await http.post(ENTRY, content=client(sequence=1).to_json())).status_code == 429


async def test_a_key_is_limited_by_its_own_posts_alone(make: Make) -> None:
    http = make(limits(key=2))
    forged = replace(client(sequence=9), signature=OTHER.sign(b""))
    for _ in range(3):
        assert (await http.post(ENTRY, content=forged.to_json())).status_code == 401
    sequences = range(3)
    answers = [await http.post(ENTRY, content=client(sequence=n).to_json()) for n in sequences]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert (await http.post(ENTRY, content=client(OTHER).to_json())).status_code == 200


def test_a_limiter_forgets_who_was_quiet_for_longest() -> None:
    now = 0.0
    limiter = RateLimiter(lambda: now, rate=1, burst=1, max_askers=2)
    assert [limiter.ask("a"), limiter.ask("a")] == [0, 1]
    limiter.ask("b")
    limiter.ask("c")
    assert limiter.ask("a") == 0
    assert MAX_ASKERS == 65536


def test_a_limiter_fills_up_to_its_burst_and_no_further() -> None:
    now = 0.0
    limiter = RateLimiter(lambda: now, rate=100, burst=200)
    assert sum(limiter.ask("a") == 0 for _ in range(300)) == 200
    now = 0.5
    assert sum(limiter.ask("a") == 0 for _ in range(300)) == 50
    now = 1000.0
    assert sum(limiter.ask("a") == 0 for _ in range(300)) == 200
    slow = RateLimiter(lambda: now, rate=0.1, burst=1)
    assert [slow.ask("a"), slow.ask("a")] == [0, 10]


def test_a_subscriber_with_many_addresses_is_one_source() -> None:
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:2") != source_of("2001:db8:1::1")
    assert source_of("192.0.2.1") != source_of("192.0.2.2")
    assert source_of("::ffff:192.0.2.1") != source_of("::ffff:192.0.2.2")
    assert source_of(str(CLIENT.pk)) == str(CLIENT.pk)


# ---- bodies ----


async def status_of_a_post(pieces: list[bytes]) -> int:
    """Post pieces as a server would hand them over, to an app that may not want them all."""
    sent: list[MutableMapping[str, object]] = []
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> MutableMapping[str, object]:
        return messages.pop(0)

    async def send(message: MutableMapping[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": ENTRY,
        "query_string": b"",
        "headers": [],
        "client": ("192.0.2.1", 1),
    }
    app = make_app(DiscoveryService(MemoryStore(CLOCK), wall_clock=CLOCK))
    await app(scope, receive, send)
    status = sent[0]["status"]
    assert isinstance(status, int)
    return status


async def test_a_body_has_a_largest_size() -> None:
    full = [b" " * 1024] * (MAX_BODY // 1024)
    assert await status_of_a_post(full) == 500  # read to the end, and no entry
    assert await status_of_a_post([*full, b" "]) == 413
    assert await status_of_a_post([b" " * (MAX_BODY + 1)]) == 413


async def test_a_body_that_does_not_come_is_not_waited_for(
    make: Make, autojump_clock: MockClock
) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await trio.sleep_forever()

    answer = await make().post(ENTRY, content=slow())
    assert answer.status_code == 408
    assert trio.current_time() >= BODY_TIMEOUT


# ---- failures ----


async def test_a_full_discovery_says_so(make: Make) -> None:
    http = make(store=MemoryStore(CLOCK, max_entries=1))
    assert (await http.post(ENTRY, content=client().to_json())).status_code == 200
    answer = await http.post(ENTRY, content=client(OTHER).to_json())
    assert answer.status_code == 503
    assert (await http.post(ENTRY, content=client(sequence=1).to_json())).status_code == 200


class FailingStore(MemoryStore):
    """A store whose disk is gone."""

    async def get(self, pk: PublicKey) -> Entry | None:
        raise StoreError("no disk")

    async def servers(self) -> list[Entry]:
        raise ZeroDivisionError("a bug")


async def test_a_failing_store_is_something_unexpected(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await make(store=FailingStore(CLOCK)).get(f"{ENTRY}{CLIENT.pk}")
    assert answer.json() == {"message": "something unexpected happened", "code": 500}
    assert [(r.levelno, "no disk" in r.getMessage()) for r in caplog.records] == [
        (logging.ERROR, True)
    ]


async def test_a_bug_is_something_unexpected(make: Make) -> None:
    answer = await make(store=FailingStore(CLOCK)).get("/dmsg-discovery/all_servers")
    assert answer.json() == {"message": "something unexpected happened", "code": 500}
