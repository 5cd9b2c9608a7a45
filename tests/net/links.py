"""What tests of the network layer are made of: carriers, connections and streams in pairs."""

from __future__ import annotations

import itertools
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import trio
from trio.testing import lockstep_stream_pair, wait_all_tasks_blocked

from dmsg_trio._address import Address
from dmsg_trio._keys import SecretKey
from dmsg_trio._net.carriers import Carrier, SocketCarrier, StreamCarrier, carrier_of
from dmsg_trio._net.handshake import initiate, respond
from dmsg_trio._net.mux import MuxConnection
from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.opening import accept_stream, open_stream
from dmsg_trio._net.session import Session
from dmsg_trio._net.stream import DmsgStream
from dmsg_trio._net.windows import SESSION_BUDGET
from dmsg_trio._wire.hybrid import PostQuantum
from dmsg_trio._wire.objects import StreamRequest
from dmsg_trio._wire.yamux import Buffer
from dmsg_trio.testing import memory_connection

CarrierPair: TypeAlias = tuple[Carrier, Carrier]
MakeCarriers: TypeAlias = Callable[[], Awaitable[CarrierPair]]

CLIENT: Final = SecretKey.generate()
SERVER: Final = SecretKey.generate()


# ---- carriers ----


class DeadEnd(Carrier):
    """Takes whatever is sent, and brings nothing."""

    async def receive(self) -> memoryview:
        return memoryview(b"")

    def send_now(self, chunks: Sequence[Buffer]) -> int:
        return sum(map(len, chunks))

    async def send_some(self, chunks: Sequence[Buffer]) -> int:
        return self.send_now(chunks)

    async def send_eof(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    @property
    def peer(self) -> str:
        return "nowhere:0"


async def memory_carriers(*, latency: float = 0, rate: float = math.inf) -> CarrierPair:
    near, far = memory_connection(latency=latency, rate=rate)
    return StreamCarrier(near, peer="far:1"), StreamCarrier(far, peer="near:1")


async def lockstep_carriers() -> CarrierPair:
    near, far = lockstep_stream_pair()
    return StreamCarrier(near, peer="far:1"), StreamCarrier(far, peer="near:1")


async def socket_carriers() -> CarrierPair:
    near, far = socket.socketpair()
    return SocketCarrier(near, peer="far:1"), SocketCarrier(far, peer="near:1")


async def tcp_carriers() -> CarrierPair:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        near = await trio.open_tcp_stream("127.0.0.1", port)
        return carrier_of(near), carrier_of(await listener.accept())


# ---- connections and sessions ----


async def open_mux_pair(
    nursery: trio.Nursery, carriers: CarrierPair
) -> tuple[MuxConnection, MuxConnection]:
    near = MuxConnection(carriers[0], client=True)
    far = MuxConnection(carriers[1], client=False)
    nursery.start_soon(near.run)
    nursery.start_soon(far.run)
    return near, far


async def open_mux_streams(
    nursery: trio.Nursery, carriers: CarrierPair
) -> tuple[MuxStream, MuxStream]:
    """A stream, as its opener and its acceptor have it, on a connection of its own."""
    near, far = await open_mux_pair(nursery, carriers)
    return await open_on(near, far)


async def open_on(near: MuxConnection, far: MuxConnection) -> tuple[MuxStream, MuxStream]:
    """Open one more stream."""
    opened = near.open_stream()
    near.flush()
    return opened, await accept(far)


async def accept(connection: MuxConnection) -> MuxStream:
    """Wait for a stream; there is one."""
    stream = await connection.accept()
    assert stream is not None
    return stream


async def open_session_pair(
    nursery: trio.Nursery, carriers: CarrierPair, post_quantum: PostQuantum = PostQuantum.OFF
) -> tuple[Session, Session]:
    sessions: list[Session] = []

    async def accept() -> None:
        sessions.append(Session(await respond(carriers[1], SERVER, post_quantum)))

    async with trio.open_nursery() as shaking:
        shaking.start_soon(accept)
        near = Session(await initiate(carriers[0], CLIENT, SERVER.pk, post_quantum))
    for session in (near, sessions[0]):
        nursery.start_soon(session.run)
    return near, sessions[0]


_clock: Final = itertools.count(1)


async def open_dmsg_streams(
    nursery: trio.Nursery, carriers: CarrierPair
) -> tuple[DmsgStream, DmsgStream]:
    """A stream between two parties that have a session with each other and no relay between."""
    near, far = await open_session_pair(nursery, carriers)
    accepted: list[DmsgStream] = []

    async def serve() -> None:
        mux = await accept(far.connection)
        signed = await far.receive_object_untrusted(mux)
        assert signed is not None
        request = signed.request_untrusted()
        assert isinstance(request, StreamRequest)
        accepted.append(await accept_stream(far, SERVER, mux, signed, request, PostQuantum.OFF))

    async with trio.open_nursery() as opening:
        opening.start_soon(serve)
        opened = await open_stream(
            near,
            CLIENT,
            Address(CLIENT.pk, 50000),
            Address(SERVER.pk, 80),
            timestamp=next(_clock),
            post_quantum=PostQuantum.OFF,
        )
    return opened, accepted[0]


# ---- what to do with them ----


async def clog(stream: trio.abc.SendStream) -> None:
    """Send until not one more byte goes."""

    async def send(size: int) -> None:
        while True:
            await stream.send_all(bytes(size))

    for size in (4000, 1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, size)
            await wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()


async def receive_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Take what comes until the end."""
    return b"".join([bytes(piece) async for piece in stream])


def leftovers(*connections: MuxConnection) -> dict[str, int]:
    """What is left on connections: all zero when no stream lives and nothing is under way."""
    return {
        "yamux streams": sum(len(each.yamux.streams) for each in connections),
        "sinks": sum(each.stream_count for each in connections),
        "unsent": sum(each.outbox.size for each in connections),
        "unread": sum(each.unread for each in connections),
        "credit lent": sum(each.credit_lent for each in connections),
        "window budget": sum(SESSION_BUDGET - each.window_budget.left for each in connections),
    }


def is_clean(*connections: MuxConnection) -> bool:
    return not any(leftovers(*connections).values())


# ---- cancelling ----


class _CancelAfterStep(trio.abc.Instrument):
    """Cancels a scope when a task has begun to wait for the ``step``-th time."""

    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self._scope = scope
        self._task = trio.lowlevel.current_task()
        self._steps_left = step

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task and self._steps_left:
            self._steps_left -= 1
            if not self._steps_left:
                self._scope.cancel()


async def finishes_before_step(step: int, operation: Callable[[], Awaitable[object]]) -> bool:
    """Run ``operation``, cancelled as it waits for the ``step``-th time; tell whether it waits less."""
    with trio.CancelScope() as scope:
        instrument = _CancelAfterStep(scope, step)
        trio.lowlevel.add_instrument(instrument)
        try:
            await operation()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return not scope.cancel_called


MakeOperation: TypeAlias = Callable[[], Awaitable[Callable[[], Awaitable[object]]]]


async def cancel_at_each_step(
    prepare: MakeOperation, check: Callable[[int], Awaitable[None]]
) -> int:
    """Cancel an operation at its first wait, then at its second…; ``check`` after each.

    Returns how often it waits.
    """
    for step in itertools.count(1):
        if await finishes_before_step(step, await prepare()):
            return step - 1
        await check(step)
    raise AssertionError


def count_tasks() -> int:
    """How many tasks there are in this run, Trio's own included."""

    def below(task: trio.lowlevel.Task) -> int:
        return 1 + sum(below(child) for each in task.child_nurseries for child in each.child_tasks)

    root = trio.lowlevel.current_root_task()
    assert root is not None
    return below(root)


@asynccontextmanager
async def no_task_left() -> AsyncIterator[None]:
    """See to it that the block leaves as many tasks as it found."""
    before = count_tasks()
    yield
    await wait_all_tasks_blocked()
    assert count_tasks() == before
