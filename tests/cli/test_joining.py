"""Getting onto the network: how long it is tried, and when it is said that it takes long."""

from __future__ import annotations

from functools import partial

import httpx
import pytest
import trio
from trio.testing import MockClock

from dmsg_trio._errors import DiscoveryError, DmsgError
from dmsg_trio._keys import SecretKey
from dmsg_trio._wire.entries import Entry, ServerInfo
from dmsg_trio.cli import _joining
from dmsg_trio.cli._joining import FIRST_WORD, answer_of, joined, wait_until_reachable
from dmsg_trio.client import open_client
from dmsg_trio.discovery import HttpDiscovery

URL = "http://discovery.example"
SERVER = SecretKey(b"\x01" * 32)


def discovery_that_answers(monkeypatch: pytest.MonkeyPatch, *, at: float) -> None:
    """Let the discovery be away until then, and name a server that is nowhere from then on."""
    entry = Entry(
        pk=SERVER.pk, timestamp=1, server=ServerInfo(address="127.0.0.1:1", available_sessions=5)
    ).signed(SERVER)

    def answer(_request: httpx.Request) -> httpx.Response:
        if trio.current_time() < at:
            raise httpx.ConnectError("nobody is there")
        return httpx.Response(200, stream=httpx.ByteStream(b"[" + entry.to_json() + b"]"))

    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(_joining, "HttpDiscovery", partial(HttpDiscovery, transport=transport))


async def test_both_steps_together_take_no_longer_than_they_may(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    discovery_that_answers(monkeypatch, at=trio.current_time() + 8)
    began = trio.current_time()
    with pytest.raises(DmsgError, match="named no server that answers within 10 s"):
        async with joined(SecretKey(b"\x02" * 32), URL, 10):
            pass
    assert 10 <= trio.current_time() - began < 11


async def test_a_discovery_that_does_not_answer_is_said_soon_and_once(
    autojump_clock: MockClock,
) -> None:
    said: list[float] = []
    began = trio.current_time()
    with pytest.raises(DmsgError, match=r"no network within 10 s: .*: no answer"):
        await answer_of(trio.sleep_forever, URL, 10, lambda _: said.append(trio.current_time()))
    assert [at - began for at in said] == [pytest.approx(FIRST_WORD)]
    assert trio.current_time() - began == pytest.approx(10)


async def test_a_discovery_that_comes_back_is_asked_again(autojump_clock: MockClock) -> None:
    back = trio.current_time() + 4

    async def ask() -> str:
        if trio.current_time() < back:
            raise DiscoveryError("away")
        return "here"

    assert await answer_of(ask, URL, 10, lambda _: None) == "here"
    assert trio.current_time() - back < 1


async def test_a_service_says_within_three_seconds_what_keeps_it(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    nursery: trio.Nursery,
) -> None:
    async def nothing(_request: httpx.Request) -> httpx.Response:
        await trio.sleep_forever()
        raise AssertionError

    transport = httpx.MockTransport(nothing)
    monkeypatch.setattr(_joining, "HttpDiscovery", partial(HttpDiscovery, transport=transport))
    async with (
        HttpDiscovery(URL, transport=transport) as discovery,
        open_client(SecretKey(b"\x02" * 32), discovery=discovery, wait=False) as client,
    ):
        nursery.start_soon(wait_until_reachable, client, URL)
        await trio.sleep(3.1)
        assert capsys.readouterr().err == f"no network yet: {URL}: no answer; trying on\n"
