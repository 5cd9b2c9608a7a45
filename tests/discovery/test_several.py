"""Several discoveries as one."""

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import ConfigError, DiscoveryError, SecretKey, UnreachableError
from dmsg_trio._keys import PublicKey
from dmsg_trio.discovery import (
    ClientInfo,
    Entry,
    MemoryDiscovery,
    Registration,
    SeveralDiscoveries,
    open_discovery,
)
from dmsg_trio.discovery._several import GRACE

SK = SecretKey(bytes([9]) * 32)


class Away(MemoryDiscovery):
    """A discovery that is down."""

    async def entry(self, pk: PublicKey) -> Entry:
        raise DiscoveryError("away")

    async def all_servers(self) -> list[Entry]:
        raise DiscoveryError("away")

    async def publish(self, entry: Entry) -> None:
        raise DiscoveryError("away")


class Stuck(MemoryDiscovery):
    """A discovery that never answers."""

    async def entry(self, pk: PublicKey) -> Entry:
        await trio.sleep_forever()
        raise AssertionError


def entry_of(sk: SecretKey, sequence: int = 0) -> Entry:
    entry = Entry(pk=sk.pk, timestamp=1, sequence=sequence, client=ClientInfo((SK.pk,)))
    return entry.signed(sk)


async def test_what_any_member_knows_is_known() -> None:
    one, other = MemoryDiscovery(), MemoryDiscovery()
    await other.publish(entry_of(SK))
    assert (await SeveralDiscoveries([one, other]).entry(SK.pk)).pk == SK.pk


async def test_the_newest_entry_counts() -> None:
    one, other = MemoryDiscovery(), MemoryDiscovery()
    await one.publish(entry_of(SK, 1))
    await other.publish(entry_of(SK, 2))
    assert (await SeveralDiscoveries([one, other]).entry(SK.pk)).sequence == 2


async def test_one_that_is_away_is_no_loss() -> None:
    both = SeveralDiscoveries([Away(), MemoryDiscovery()])
    await both.publish(entry_of(SK))
    assert (await both.entry(SK.pk)).pk == SK.pk
    assert await both.all_servers() == []


async def test_one_that_is_stuck_costs_a_moment(autojump_clock: MockClock) -> None:
    both = SeveralDiscoveries([Stuck(), MemoryDiscovery()])
    await both.members[1].publish(entry_of(SK))
    before = trio.current_time()
    await both.entry(SK.pk)
    assert trio.current_time() - before == pytest.approx(GRACE)


async def test_all_away_is_an_error_and_unknown_to_all_is_unknown() -> None:
    with pytest.raises(DiscoveryError, match="away"):
        await SeveralDiscoveries([Away(), Away()]).entry(SK.pk)
    with pytest.raises(UnreachableError):
        await SeveralDiscoveries([Away(), MemoryDiscovery()]).entry(SK.pk)


async def test_each_member_gets_the_entry_with_a_sequence_of_its_own(
    autojump_clock: MockClock,
) -> None:
    one, other = MemoryDiscovery(), MemoryDiscovery()
    await other.publish(entry_of(SK, 41))
    registration = Registration(
        SK,
        SeveralDiscoveries([Away(), one, other]),
        draft=lambda: Entry(pk=SK.pk, timestamp=0, client=ClientInfo(())),
        interval=60,
        wall_clock=lambda: 2,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registration.run)
        await registration.done.wait()
        await trio.sleep(1)
        assert [(await each.entry(SK.pk)).sequence for each in (one, other)] == [0, 42]
        nursery.cancel_scope.cancel()


async def test_urls_and_discoveries_are_opened_as_one() -> None:
    async with open_discovery("http://127.0.0.1:1, http://127.0.0.1:2") as found:
        assert isinstance(found, SeveralDiscoveries)
    one = MemoryDiscovery()
    async with open_discovery(one) as found:
        assert found is one
    with pytest.raises(ConfigError, match="no discovery"):
        async with open_discovery(" , "):
            pass
