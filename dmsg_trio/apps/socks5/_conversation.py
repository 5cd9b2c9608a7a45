"""How messages of SOCKS5 are waited for on a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._net.carrying import Carried, carry_both_ways, reset_when_closed
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.socks5 import SocksReader

T = TypeVar("T")

SOCKS_PORT: Final = 1081  # of dmsg, and of loopback
NEGOTIATION_TIME: Final = 10  # seconds until the request is there; what comes then takes its time


async def receive_message(
    stream: trio.abc.ReceiveStream, reader: SocksReader, ask: Callable[[], T | None]
) -> T:
    """Wait for a message; `RemoteProtocolError` if what comes is none, or ends before."""
    while (message := ask()) is None:
        data = await stream.receive_some()
        if not data:
            raise RemoteProtocolError("socks: the connection ended within a message")
        reader.receive_data(data)
    return message


async def carry_while_busy(
    near: trio.abc.HalfCloseableStream,
    far: trio.abc.HalfCloseableStream,
    carried: Carried,
    idle: float,
) -> bool:
    """Carry both ways; tell whether it was given up because nothing came for so many seconds."""
    with trio.CancelScope() as scope:
        async with open_service_nursery() as nursery:
            nursery.start_soon(cancel_when_idle, carried, idle, scope)
            await carry_both_ways(near, far, carried=carried)
    if scope.cancelled_caught:
        reset_when_closed(near)
        reset_when_closed(far)
    return scope.cancelled_caught


async def cancel_when_idle(carried: Carried, idle: float, scope: trio.CancelScope) -> None:
    """Cancel a scope when nothing was carried for ``idle`` seconds, or up to twice as many."""
    before = None
    while before != (now := (carried.to_near, carried.to_far)):
        before = now
        await trio.sleep(idle)
    scope.cancel()
