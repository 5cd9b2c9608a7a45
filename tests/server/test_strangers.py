"""What strangers cost the discovery is bounded, however many there are."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import DiscoveryError, PublicKey, SecretKey
from dmsg_trio.server._strangers import (
    MAX_UNDER_WAY,
    MAX_UNKNOWN,
    QUESTIONS_AT_ONCE,
    QUESTIONS_PER_SECOND,
    UNKNOWN_AGE,
    WELCOME_TIME,
    Strangers,
)

ANSWER_TIME = 0.05  # seconds


class Discovery:
    """Answers after a while that nobody is a server, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[PublicKey] = []
        self.under_way = self.most_under_way = 0
        self.hangs = self.is_away = False

    async def look_up(self, pk: PublicKey) -> bool:
        self.asked.append(pk)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await trio.sleep(float("inf") if self.hangs else ANSWER_TIME)
        self.under_way -= 1
        if self.is_away:
            raise DiscoveryError("it is away")
        return False


def keys(count: int) -> list[PublicKey]:
    return [SecretKey.generate().pk for _ in range(count)]


async def all_come(strangers: Strangers, pks: list[PublicKey]) -> float:
    """Let all come at once; say how long the last of them waits."""
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for pk in pks:
            nursery.start_soon(strangers.wait_known, pk)
    return trio.current_time() - began


@pytest.fixture
def discovery() -> Discovery:
    return Discovery()


@pytest.fixture
def strangers(discovery: Discovery, nursery: trio.Nursery, autojump_clock: MockClock) -> Strangers:
    strangers = Strangers(discovery.look_up)
    nursery.start_soon(strangers.run)
    return strangers


async def test_as_many_as_a_large_network_has_are_asked_about_in_time(
    autojump_clock: MockClock, discovery: Discovery, strangers: Strangers
) -> None:
    assert await all_come(strangers, keys(QUESTIONS_AT_ONCE)) <= WELCOME_TIME
    assert len(discovery.asked) == QUESTIONS_AT_ONCE
    assert discovery.most_under_way == MAX_UNDER_WAY


async def test_a_flood_of_strangers_is_not_one_of_questions(
    autojump_clock: MockClock, discovery: Discovery, strangers: Strangers
) -> None:
    minutes = 2
    for _ in range(60 * minutes):
        await all_come(strangers, keys(10 * QUESTIONS_PER_SECOND))
        await trio.sleep(1)
    allowed = QUESTIONS_AT_ONCE + 60 * minutes * QUESTIONS_PER_SECOND
    assert allowed <= len(discovery.asked) <= 1.2 * allowed, "answers took some of the time"


async def test_what_one_key_asks_for_is_asked_once_and_again_after_a_while(
    autojump_clock: MockClock, discovery: Discovery, strangers: Strangers
) -> None:
    [pk] = keys(1)
    await all_come(strangers, [pk] * 100)
    await all_come(strangers, [pk] * 100)
    assert discovery.asked == [pk]
    await trio.sleep(UNKNOWN_AGE)
    await all_come(strangers, [pk] * 100)
    assert discovery.asked == [pk] * 2


async def test_no_answer_is_not_taken_for_a_no(
    autojump_clock: MockClock, discovery: Discovery, strangers: Strangers
) -> None:
    [pk] = keys(1)
    discovery.is_away = True
    await all_come(strangers, [pk])
    await all_come(strangers, [pk])
    assert discovery.asked == [pk] * 2


async def test_nobody_waits_for_long_though_the_discovery_hangs(
    autojump_clock: MockClock, discovery: Discovery, strangers: Strangers
) -> None:
    discovery.hangs = True
    assert await all_come(strangers, keys(QUESTIONS_AT_ONCE + 50)) == WELCOME_TIME
    assert len(discovery.asked) == MAX_UNDER_WAY
    assert await all_come(strangers, keys(50)) == 0, "there is no room to wait"


async def test_what_is_remembered_of_strangers_is_bounded(
    autojump_clock: MockClock, strangers: Strangers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmsg_trio.server._strangers.QUESTIONS_PER_SECOND", 10**6)
    for _ in range(5):
        await all_come(strangers, keys(MAX_UNKNOWN // 4))
    assert len(strangers._unknown) == MAX_UNKNOWN
