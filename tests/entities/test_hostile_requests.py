"""Servers that lie about where a request comes from, or send it on, are refused by name."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import SecretKey
from dmsg_trio._address import Address
from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.session import Session
from dmsg_trio._wire.objects import SignedObject, StreamRequest
from dmsg_trio.server._asking import STAGGER
from tests.entities.mallory import (
    MALLORY,
    dialed,
    refused,
    register,
    request,
    scene,
)
from tests.entities.parties import refusals_of

# ---- sources ----


async def test_a_source_that_did_not_sign_is_refused_on_a_link(autojump_clock: MockClock) -> None:
    async with scene() as here:
        forged = request(here.network, here.b._sk, here.a.pk, signed_by=MALLORY)
        await refused(here.mallory, forged)
        assert refusals_of(here.near) == {"bad_request": 1}
        await here.still_serves()
        assert await here.leaves_nothing()


async def test_a_foreign_source_is_refused_from_who_is_no_peer(autojump_clock: MockClock) -> None:
    """Though it is signed well, and even if the key is that of a server."""
    async with scene() as here:
        other = SecretKey.generate()
        await register(here.network, other, "other.test:1")
        async with dialed(here.network, here.near, other) as session:
            await refused(session, request(here.network, here.b._sk, here.a.pk))
            assert refusals_of(here.near) == {"bad_request": 1}
        await here.still_serves()
        assert await here.leaves_nothing()


async def test_the_address_of_a_server_is_not_told_for_a_client_s(
    autojump_clock: MockClock,
) -> None:
    async with scene() as here:
        ours = Address(here.near.pk, 1)
        asks = StreamRequest(here.network.wall_clock(), Address(here.b.pk, 1), ours, ip_info=True)
        signed = SignedObject.sign(here.b._sk, asks)
        stream = here.mallory.connection.open_stream()
        await here.mallory.send_object(stream, signed)
        answer = await here.mallory.receive_object_untrusted(stream)
        assert answer is not None
        assert not answer.response_untrusted(signed, here.near.pk).accepted


# ---- one hop ----


async def test_what_came_over_a_link_never_goes_over_another(autojump_clock: MockClock) -> None:
    async with scene() as here:
        signed = request(here.network, SecretKey.generate(), here.b.pk)
        await refused(here.mallory, signed)
        assert refusals_of(here.near) == {"no_route": 1}
        assert not refusals_of(here.far)
        await here.still_serves()
        assert await here.leaves_nothing()


async def test_a_request_that_is_sent_back_goes_no_further(autojump_clock: MockClock) -> None:
    async def send_back(session: Session, stream: MuxStream) -> None:
        signed = await session.receive_object_untrusted(stream)
        assert signed is not None
        with pytest.raises(trio.BrokenResourceError):
            back = session.connection.open_stream()
            await session.send_object(back, signed)
            await back.receive_some()
        stream.reset()

    async with scene(send_back) as here:
        await here.b_claims_to_be_at(MALLORY.pk, here.far.pk)
        assert await here.still_serves() < STAGGER
        assert refusals_of(here.near) == {"reset": 1, "no_route": 1}
        assert not refusals_of(here.far)
        assert await here.leaves_nothing()
