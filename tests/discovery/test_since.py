"""Since when an entry says what it says: what a discovery knows, and tells of all entries at once."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from dmsg_trio._keys import PublicKey, SecretKey
from dmsg_trio.discovery import ClientInfo, Entry, ServerInfo
from dmsg_trio.discovery import _status as status
from dmsg_trio.discovery._rules import CLIENT_LIFETIME, SECOND, SERVER_LIFETIME
from dmsg_trio.discovery._status import MAX_SECONDS, ClientSince, DiscoveryStatus
from dmsg_trio.discovery._store import open_store
from dmsg_trio.discovery.serving import DiscoveryService, Policy

ONE, A, B, C = (SecretKey(bytes([n]) * 32) for n in (1, 2, 3, 4))
MONITOR = SecretKey(bytes([5]) * 32)
START = 1_800_000_000


@dataclass
class Clock:
    """A wall clock that stands still until it is set, in seconds since the start."""

    now: int = 0

    def __call__(self) -> int:
        return (START + self.now) * SECOND


@dataclass
class Story:
    """A discovery, and somebody who publishes there."""

    service: DiscoveryService
    clock: Clock
    sequence: int = 0

    def entry(self, *at: SecretKey, server: bool = False, client: bool = True) -> Entry:
        self.sequence += 1
        return Entry(
            pk=ONE.pk,
            sequence=self.sequence,
            timestamp=self.clock(),
            client=ClientInfo(tuple(sk.pk for sk in at)) if client else None,
            server=ServerInfo(address="203.0.113.7:1") if server else None,
        ).signed(ONE)

    async def publish(self, now: int, *at: SecretKey, server: bool = False) -> None:
        self.clock.now = now
        await self.service.publish(self.entry(*at, server=server).to_json())

    async def publish_server(self, now: int) -> None:
        self.clock.now = now
        await self.service.publish(self.entry(server=True, client=False).to_json())

    async def since(self, *at: SecretKey) -> list[int | None]:
        """Since when there is a client, and it is at these servers and no others."""
        told = (await self.service.status()).clients
        if str(ONE.pk) not in told:
            return []
        client = told[str(ONE.pk)]
        assert sorted(client.servers) == sorted(str(sk.pk) for sk in at)
        return [client.since - START, *(client.servers[str(sk.pk)] - START for sk in at)]

    async def server_since(self) -> int | None:
        since = (await self.service.status()).servers.get(str(ONE.pk))
        return None if since is None else since - START


@pytest.fixture(params=["memory", "sqlite"])
async def story(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Story]:
    url = "memory:" if request.param == "memory" else f"sqlite:{tmp_path / 'entries'}"
    clock = Clock()
    async with open_store(url, clock) as store:
        policy = Policy(test_mode=True, monitors=frozenset([MONITOR.pk]))
        yield Story(DiscoveryService(store, policy, wall_clock=clock), clock)


async def test_publishing_the_same_again_changes_nothing(story: Story) -> None:
    await story.publish(0, A, B)
    for minute in range(1, 10):
        await story.publish(60 * minute, A, B)
    assert await story.since(A, B) == [0, 0, 0]


async def test_each_server_has_its_own_time(story: Story) -> None:
    await story.publish(0, A)
    await story.publish(10, B, A)
    await story.publish(20, C, B)
    assert await story.since(C, B) == [0, 20, 10]


async def test_a_server_that_is_left_and_comes_back_begins_anew(story: Story) -> None:
    await story.publish(0, A, B)
    await story.publish(10, B)
    await story.publish(20, A, B)
    assert await story.since(A, B) == [0, 20, 0]


async def test_a_client_at_no_server_stands_all_the_same(story: Story) -> None:
    await story.publish(0)
    await story.publish(10, A)
    await story.publish(20)
    assert await story.since() == [0]


async def test_a_server_named_twice_is_one(story: Story) -> None:
    await story.publish(0, A, A)
    await story.publish(10, A, A)
    assert await story.since(A) == [0, 0]


async def test_what_is_withdrawn_begins_anew(story: Story) -> None:
    await story.publish(0, A)
    story.clock.now = 10
    await story.service.withdraw(story.entry(A).to_json())
    assert await story.since() == []
    await story.publish(20, A)
    assert await story.since(A) == [20, 20]


async def test_what_a_monitor_removes_begins_anew(story: Story) -> None:
    await story.publish(0, A)
    await story.service.deregister([str(ONE.pk)])
    await story.publish(20, A)
    assert await story.since(A) == [20, 20]


async def test_what_has_expired_begins_anew_whether_or_not_it_was_cleaned_away(
    story: Story,
) -> None:
    await story.publish(0, A)
    later = CLIENT_LIFETIME // SECOND
    story.clock.now = later - 1
    assert await story.since(A) == [0, 0]
    await story.publish(2 * later, A)
    assert await story.since(A) == [2 * later, 2 * later]


async def test_a_server_stands_since_its_first_entry(story: Story) -> None:
    lifetime = SERVER_LIFETIME // SECOND
    for now in (0, 60, 120):
        await story.publish_server(now)
    assert await story.server_since() == 0
    story.clock.now = 120 + lifetime
    assert await story.server_since() is None
    await story.publish_server(500)
    assert await story.server_since() == 500


async def test_of_a_key_that_is_both_each_part_has_its_own_time(story: Story) -> None:
    await story.publish_server(0)
    await story.publish(10, A, server=True)
    assert (await story.server_since(), await story.since(A)) == (0, [10, 10])
    await story.publish(20, A)
    assert (await story.server_since(), await story.since(A)) == (None, [10, 10])
    await story.publish(30, A, server=True)
    assert (await story.server_since(), await story.since(A)) == (30, [10, 10])


async def test_what_the_owner_signed_stays_as_it_was(story: Story) -> None:
    await story.publish(0, A)
    entry = story.entry(A)
    await story.service.publish(entry.to_json())
    assert (await story.service.entry(ONE.pk)).to_json() == entry.to_json()


async def test_the_owners_clock_does_not_count(story: Story) -> None:
    far = Entry(pk=ONE.pk, timestamp=2**63 - 1, client=ClientInfo((A.pk,))).signed(ONE)
    story.clock.now = 5
    await story.service.publish(far.to_json())
    assert await story.since(A) == [5, 5]


# ---- told at once ----


async def test_an_answer_has_room_for_so_much_and_servers_come_first(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(sk: SecretKey, *at: PublicKey, server: bool = False) -> bytes:
        info = ServerInfo(address="203.0.113.7:1") if server else None
        client = None if server else ClientInfo(at)
        now = story.clock()
        return Entry(pk=sk.pk, timestamp=now, client=client, server=info).signed(sk).to_json()

    for body in (of(ONE, A.pk, B.pk), of(C), of(A, server=True)):
        await story.service.publish(body)
    for room, clients, left_out in ((5, 2, 0), (4, 1, 1), (3, 0, 2)):
        monkeypatch.setattr(status, "MAX_TOLD", room)
        told = await story.service.status()
        assert list(told.servers) == [str(A.pk)]
        assert (len(told.clients), told.left_out) == (clients, left_out)


def test_the_largest_answer_is_one_that_is_read() -> None:
    from dmsg_trio.discovery._http import MAX_LIST_SIZE

    keys = [f"02{number:064x}" for number in range(status.MAX_TOLD // 2)]
    clients = {pk: ClientSince(MAX_SECONDS, {pk: MAX_SECONDS}) for pk in keys}
    text = msgspec.json.encode(DiscoveryStatus(MAX_SECONDS, {}, clients))
    assert len(text) < MAX_LIST_SIZE
