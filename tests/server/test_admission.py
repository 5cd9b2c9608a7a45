"""What strangers may take of a server is bounded, for each of them and for all together."""

from contextlib import ExitStack

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio.server._admission import (
    MAX_HANDSHAKES,
    MAX_HANDSHAKES_PER_SOURCE,
    OPENS_AT_ONCE,
    OPENS_PER_SECOND,
    Handshakes,
    OpenRate,
    TooManyHandshakesError,
    source_of,
)


@pytest.mark.parametrize(
    ("peer", "same"),
    [
        ("192.0.2.7:5000", "192.0.2.7:6000"),
        ("192.0.2.7:5000", "[::ffff:192.0.2.7]:6000"),
        ("[2001:db8:1:2::1]:5000", "[2001:db8:1:2:ffff::9]:80"),
        ("[fe80::1%eth0]:1", "[fe80::2%eth1]:1"),
        ("memory:0", "memory:0"),
    ],
)
def test_these_are_one_source(peer: str, same: str) -> None:
    assert source_of(peer) == source_of(same)


@pytest.mark.parametrize(
    ("peer", "other"),
    [
        ("192.0.2.7:5000", "192.0.2.8:5000"),
        ("[2001:db8:1:2::1]:5000", "[2001:db8:1:3::1]:5000"),
        ("memory:0", "other:0"),
    ],
)
def test_these_are_two(peer: str, other: str) -> None:
    assert source_of(peer) != source_of(other)


def test_one_source_cannot_take_all_handshakes() -> None:
    handshakes = Handshakes()
    with ExitStack() as held:
        for port in range(MAX_HANDSHAKES_PER_SOURCE):
            held.enter_context(handshakes.one(f"192.0.2.7:{port}"))
        with pytest.raises(TooManyHandshakesError, match=r"64 .* source of 192\.0\.2\.7:99"):
            held.enter_context(handshakes.one("192.0.2.7:99"))
        held.enter_context(handshakes.one("192.0.2.8:99"))
    with handshakes.one("192.0.2.7:99"):
        pass


def test_many_sources_cannot_either() -> None:
    handshakes = Handshakes()
    with ExitStack() as held:
        for number in range(MAX_HANDSHAKES):
            held.enter_context(handshakes.one(f"10.0.{number // 250}.{number % 250}:1"))
        with pytest.raises(TooManyHandshakesError, match=f"^{MAX_HANDSHAKES} handshakes"):
            held.enter_context(handshakes.one("192.0.2.7:1"))


async def test_a_burst_of_opens_is_fine_and_a_flood_is_not(autojump_clock: MockClock) -> None:
    opens = OpenRate()
    assert all(opens.take() for _ in range(OPENS_AT_ONCE))
    assert not opens.take()
    await trio.sleep(0.1)
    assert sum(opens.take() for _ in range(OPENS_AT_ONCE)) == OPENS_PER_SECOND // 10
    await trio.sleep(3600)
    assert sum(opens.take() for _ in range(2 * OPENS_AT_ONCE)) == OPENS_AT_ONCE
