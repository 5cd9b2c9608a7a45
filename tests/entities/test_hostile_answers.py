"""Servers that lie about a client, or say nothing, cost a dial a moment."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dmsg_trio import SecretKey, UnreachableError
from dmsg_trio._errors import ErrorCode
from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.session import Session
from dmsg_trio._wire.objects import SignedObject, StreamRequest, StreamResponse
from dmsg_trio.discovery import ClientInfo, Entry
from dmsg_trio.server._asking import STAGGER
from dmsg_trio.server._whereabouts import SILENT_AGE
from tests.entities.mallory import (
    MALLORY,
    SOON,
    Behaviour,
    never_answer,
    scene,
)
from tests.entities.parties import refusals_of


async def answer_as_destination(session: Session, stream: MuxStream) -> None:
    signed = await session.receive_object_untrusted(stream)
    assert signed is not None
    lie = StreamResponse(signed.hash, accepted=True)
    await session.send_object(stream, SignedObject.sign(MALLORY, lie))


async def answer_another_request(session: Session, stream: MuxStream) -> None:
    signed = await session.receive_object_untrusted(stream)
    assert signed is not None
    asked = signed.request_untrusted()
    assert isinstance(asked, StreamRequest)
    lie = StreamResponse(bytes(32), accepted=True)
    await session.send_object(stream, SignedObject.sign(MALLORY, lie))


async def refuse_as_destination(session: Session, stream: MuxStream) -> None:
    signed = await session.receive_object_untrusted(stream)
    assert signed is not None
    lie = StreamResponse(signed.hash, accepted=False, error_code=ErrorCode.NO_LISTENER)
    await session.send_object(stream, SignedObject.sign(MALLORY, lie))


async def answer_with_the_request(session: Session, stream: MuxStream) -> None:
    signed = await session.receive_object_untrusted(stream)
    assert signed is not None
    await session.send_object(stream, signed)


async def answer_with_noise(session: Session, stream: MuxStream) -> None:
    await stream.send_all(b"\x01\x00" + bytes(256))


async def answer_with_a_ping_marker(session: Session, stream: MuxStream) -> None:
    await stream.send_all(bytes(2))


async def end_at_once(session: Session, stream: MuxStream) -> None:
    await stream.aclose()


async def reset_at_once(session: Session, stream: MuxStream) -> None:
    stream.reset()


async def reset_after_the_request(session: Session, stream: MuxStream) -> None:
    await session.receive_object_untrusted(stream)
    stream.reset()


@pytest.mark.parametrize(
    ("behave", "label"),
    [
        (never_answer, "silent"),
        (answer_as_destination, "bad_response"),
        (answer_another_request, "bad_response"),
        (refuse_as_destination, "bad_response"),
        (answer_with_the_request, "bad_response"),
        (answer_with_noise, "bad_response"),
        (answer_with_a_ping_marker, "bad_response"),
        (end_at_once, "bad_response"),
        (reset_at_once, "reset"),
        (reset_after_the_request, "reset"),
    ],
)
async def test_a_server_that_lies_about_a_client_costs_a_dial_a_moment(
    autojump_clock: MockClock, behave: Behaviour, label: str
) -> None:
    """It is asked first, since the client is said to be there; the other one is asked as well."""
    async with scene(behave) as here:
        await here.b_claims_to_be_at(MALLORY.pk, here.far.pk)
        assert await here.still_serves() <= STAGGER + SOON
        assert refusals_of(here.near) == {label: 1}
        assert await here.leaves_nothing()


async def test_a_server_that_leaves_requests_waiting_is_asked_last_for_a_while(
    autojump_clock: MockClock,
) -> None:
    async with scene(never_answer) as here:
        await here.b_claims_to_be_at(MALLORY.pk, here.far.pk)
        assert await here.still_serves() >= STAGGER
        assert await here.still_serves() < STAGGER
        await trio.sleep(SILENT_AGE)
        assert await here.still_serves() >= STAGGER


async def test_a_server_that_is_the_only_way_and_silent_costs_no_more_than_the_limit(
    autojump_clock: MockClock,
) -> None:
    async with scene(never_answer) as here:
        ghost = SecretKey.generate()
        at = Entry(
            pk=ghost.pk, timestamp=here.network.wall_clock(), client=ClientInfo((MALLORY.pk,))
        )
        await here.network.discovery.publish(at.signed(ghost))
        began = trio.current_time()
        with pytest.raises(UnreachableError):
            await here.a.open_stream(ghost.pk, 80)
        assert trio.current_time() - began < 25
        await here.still_serves()
        assert await here.leaves_nothing()


async def test_a_stream_that_is_reset_right_after_it_was_accepted_leaves_nothing(
    autojump_clock: MockClock,
) -> None:
    """Mallory and a client of hers, together."""
    friend = SecretKey.generate()

    async def accept_and_reset(session: Session, stream: MuxStream) -> None:
        signed = await session.receive_object_untrusted(stream)
        assert signed is not None
        yes = StreamResponse(signed.hash, accepted=True)
        await session.send_object(stream, SignedObject.sign(friend, yes))
        stream.reset()

    async with scene(accept_and_reset) as here:
        at = Entry(
            pk=friend.pk, timestamp=here.network.wall_clock(), client=ClientInfo((MALLORY.pk,))
        )
        await here.network.discovery.publish(at.signed(friend))
        for _ in range(20):
            with pytest.raises(UnreachableError):
                await here.a.open_stream(friend.pk, 80)
        await here.still_serves()
        assert await here.leaves_nothing()
