"""Two programs with one key: the newest counts, and everybody says what is going on."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack

import httpx
import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import SecretKey
from dmsg_trio._errors import DiscoveryError
from dmsg_trio._wire.entries import Entry
from dmsg_trio.discovery import ClientInfo, MemoryDiscovery, Registration
from dmsg_trio.discovery._registration import RIVAL_PAUSE
from dmsg_trio.discovery._several import SeveralDiscoveries
from dmsg_trio.server._replacements import CONTEST_PERIOD, CONTESTED_FROM, MAX_KEYS, Replacements
from dmsg_trio.server.serving import make_app
from dmsg_trio.testing import Network
from tests.entities.mallory import client_of, running


def named_by_programs(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    return [each for each in messages if each.startswith("another process uses our key")]


def named_by_servers(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    return [each for each in messages if "two programs seem to have this key" in each]


# ---- what the programs say ----


async def test_two_programs_at_one_server_both_learn_it_soon(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    key = SecretKey.generate()
    async with Network() as network, network.client(key), network.client(key):
        await trio.sleep(60)
        told = named_by_programs(caplog)
        assert len(told) == 2, "each of them once"
        assert all(str(key.pk) in each for each in told)
        assert all(str(network.servers[0].pk) in each for each in told)


async def test_two_programs_at_different_servers_both_learn_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """No server notices anything here."""
    key = SecretKey.generate()
    async with Network(servers=2) as network:
        one, other = network.servers
        async with client_of(network, one, key), client_of(network, other, key):
            await trio.sleep(605)
            told = named_by_programs(caplog)
            assert len(told) == 2
            assert sum(str(one.pk) in each for each in told) == 1
            assert sum(str(other.pk) in each for each in told) == 1
            assert not named_by_servers(caplog)


async def test_it_is_said_once_in_a_while(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    key = SecretKey.generate()
    async with Network(servers=2) as network:
        one, other = network.servers
        async with client_of(network, one, key), client_of(network, other, key):
            await trio.sleep(10 * RIVAL_PAUSE)
            assert 10 <= len(named_by_programs(caplog)) <= 22


async def test_two_servers_with_one_key_both_learn_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    key = SecretKey.generate()
    async with Network(servers=0) as network:
        async with running(network, "a.test:1", sk=key), running(network, "b.test:1", sk=key):
            await trio.sleep(130)
            told = named_by_programs(caplog)
            assert len(told) == 2
            assert sum("a.test:1" in each for each in told) == 1
            assert sum("b.test:1" in each for each in told) == 1


class _Troubled(MemoryDiscovery):
    """Takes entries, and loses its answers for a while."""

    loses_answers = False

    async def publish(self, entry: Entry) -> None:
        await super().publish(entry)
        if self.loses_answers:
            raise DiscoveryError("no answer")


async def test_who_was_not_told_that_its_entry_arrived_takes_it_for_nobody_else_s(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    network = Network()
    network.discovery = discovery = _Troubled(wall_clock=network.wall_clock)
    async with network, network.client():
        for _ in range(5):
            discovery.loses_answers = True
            await trio.sleep(400)
            discovery.loses_answers = False
            await trio.sleep(400)
        assert not named_by_programs(caplog)


async def test_an_earlier_run_that_left_its_entry_is_nobody_else(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    key = SecretKey.generate()
    async with Network(servers=2) as network:
        entry = Entry(
            pk=key.pk, timestamp=network.wall_clock(), sequence=7, client=ClientInfo((key.pk,))
        )
        await network.discovery.publish(entry.signed(key))
        async with network.client(key):
            await trio.sleep(1000)
        async with network.client(key):
            await trio.sleep(1000)
        assert not named_by_programs(caplog)


async def test_who_leaves_takes_back_its_own_entry_and_not_that_of_the_other(
    autojump_clock: MockClock,
) -> None:
    key = SecretKey.generate()
    async with Network(servers=2) as network:
        one, other = network.servers
        async with client_of(network, one, key):
            async with client_of(network, other, key):
                with trio.fail_after(600):
                    found = await network.discovery.entry(key.pk)
                    while found.delegated_servers != (one.pk,):
                        await trio.sleep(1)
                        found = await network.discovery.entry(key.pk)
            assert await network.discovery.entry(key.pk) == found


async def test_a_client_that_left_long_ago_without_a_word_is_not_kept_in_a_server_s_entry(
    autojump_clock: MockClock,
) -> None:
    async with Network() as network:
        [server] = network.servers
        entry = await network.discovery.entry(server.pk)
        now = network.wall_clock()
        crashed = entry.next_iteration(timestamp=now, client=ClientInfo((server.pk,)))
        await network.discovery.publish(crashed.signed(server._sk))
        await trio.sleep(300)
        found = await network.discovery.entry(server.pk)
        assert found.client is not None
        assert found.server is not None
        await trio.sleep(600)
        found = await network.discovery.entry(server.pk)
        assert found.client is None
        assert found.server is not None


# ---- what the server says ----


async def test_a_server_names_the_key_both_addresses_and_how_often(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    key = SecretKey.generate()
    async with Network() as network, network.client(key), network.client(key):
        [server] = network.servers
        await trio.sleep(CONTEST_PERIOD)
        [told] = named_by_servers(caplog)
        assert str(key.pk) in told
        assert f"{CONTESTED_FROM} sessions took each other's place within 10 minutes" in told
        [contest] = server.replacements.contested()
        assert contest.pk == key.pk
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(make_app(server)), base_url="http://server"
        ) as http:
            health = (await http.get("/health")).json()
        assert health["contested_keys"] == [
            {"public_key": str(key.pk), "replacements": contest.replacements}
        ]
        text = server.metrics.text().decode()
        assert "dmsg_server_contested_keys 1.0" in text
        assert str(key.pk) not in text


async def test_both_addresses_are_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    replacements, pk = Replacements(), SecretKey.generate().pk
    for number in range(CONTESTED_FROM):
        replacements.note(pk, f"192.0.2.1:{number}", f"198.51.100.1:{number}")
    [told] = named_by_servers(caplog)
    assert "from 198.51.100.1:4 that of one from 192.0.2.1:4" in told


async def test_who_comes_back_now_and_then_is_not_suspected(autojump_clock: MockClock) -> None:
    replacements, pk = Replacements(), SecretKey.generate().pk
    for _ in range(100):
        replacements.note(pk, "192.0.2.1:1", "192.0.2.1:2")
        await trio.sleep(CONTEST_PERIOD / (CONTESTED_FROM - 1))
        assert not replacements.contested()
    assert replacements.total == 100


async def test_what_is_remembered_is_bounded_and_passes(autojump_clock: MockClock) -> None:
    replacements = Replacements()
    key = SecretKey.generate().pk
    for _ in range(CONTESTED_FROM):
        replacements.note(key, "a:1", "b:1")
    assert len(replacements.contested()) == 1
    await trio.sleep(CONTEST_PERIOD + 1)
    assert not replacements.contested()
    others = [SecretKey.generate().pk for _ in range(MAX_KEYS + 10)]
    for pk in others:
        replacements.note(pk, "a:1", "b:1")
    assert len(replacements._histories) == MAX_KEYS


async def test_a_registration_without_a_rival_is_silent_at_several_discoveries(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each has a sequence of its own."""
    async with Network() as network, AsyncExitStack() as stack:
        other = MemoryDiscovery(wall_clock=network.wall_clock)
        await stack.enter_async_context(network.client())
        sk = SecretKey.generate()
        nursery = await stack.enter_async_context(trio.open_nursery())
        registration = Registration(
            sk,
            SeveralDiscoveries([network.discovery, other]),
            draft=lambda: Entry(pk=sk.pk, timestamp=0, client=ClientInfo(())),
            interval=60,
            wall_clock=network.wall_clock,
        )
        nursery.start_soon(registration.run)
        await trio.sleep(1000)
        assert not named_by_programs(caplog)
        nursery.cancel_scope.cancel()
