"""The receiving end of a stream: one task takes what comes in, another has it written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Final

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.file_copy import Event, Failed, Finished, FromReceiver, encode

from ._channel import CopyChannel
from ._errors import CopyBrokenError
from ._progress import Watch
from ._receiver import Receiver

MAX_WAITING: Final = 2 * 1024 * 1024  # bytes that may wait for the disk


async def receive_everything(channel: CopyChannel, receiver: Receiver, watch: Watch) -> None:
    """Let ``receiver`` write what comes until the sender is done."""
    with closing(receiver):
        inbox = _Inbox()
        async with open_service_nursery() as nursery:
            nursery.start_soon(inbox.fill, channel)
            events, replies = await _write(receiver, channel.take_heard)
            while not await _tell(channel, watch, events, replies):
                data = await inbox.take()
                understand = partial(channel.understand_untrusted, data)
                events, replies = await _write(receiver, understand)


async def _write(
    receiver: Receiver, read: Callable[[], list[Event]]
) -> tuple[list[Event], list[FromReceiver]]:
    def in_thread() -> tuple[list[Event], list[FromReceiver]]:
        events = read()
        try:
            return events, receiver.take_untrusted(events)
        except ValueError as error:
            raise RemoteProtocolError(str(error)) from error

    return await trio.to_thread.run_sync(in_thread)


async def _tell(
    channel: CopyChannel, watch: Watch, events: list[Event], replies: list[FromReceiver]
) -> bool:
    """Tell both sides what came of it, and whether that was all."""
    watch.see(events)
    for reply in replies:
        if isinstance(reply, Failed):
            watch.failed(reply.path, reply.reason)
    if replies:
        await channel.send(b"".join(map(encode, replies)))
    return any(isinstance(reply, Finished) for reply in replies)


class _Inbox:
    """What came in and waits for the disk; what is too much for it waits in the stream."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._size = 0
        self._change = trio.lowlevel.ParkingLot()
        self._end: CopyBrokenError | None = None

    async def fill(self, channel: CopyChannel) -> None:
        """Take from the stream until it ends, which is told behind all that came before."""
        while self._end is None:
            while self._size >= MAX_WAITING:
                await self._change.park()
            try:
                data = await channel.receive()
            except CopyBrokenError as error:
                self._end = error
            else:
                self._waiting.append(data)
                self._size += len(data)
            self._change.unpark_all()

    async def take(self) -> list[bytes]:
        """Wait until something is there, and take all of it."""
        while not self._waiting:
            if self._end is not None:
                raise self._end
            await self._change.park()
        data, self._waiting, self._size = self._waiting, [], 0
        self._change.unpark_all()
        return data
