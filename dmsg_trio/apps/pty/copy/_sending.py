"""The sending end of a stream: one task reads the disk, one sends, one hears what the other says."""

from __future__ import annotations

from contextlib import closing, suppress
from functools import partial

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._wire.file_copy import Failed, Finished, Have

from ._channel import CopyChannel
from ._errors import CopyBrokenError
from ._progress import Watch
from ._sender import Batch, Sender


async def send_everything(channel: CopyChannel, sender: Sender, watch: Watch) -> None:
    """Send what ``sender`` reads until the receiver has it all."""
    with closing(sender):
        flow = _Flow(channel, sender, watch)
        async with open_service_nursery() as nursery:
            batches, read = trio.open_memory_channel[Batch](1)
            nursery.start_soon(flow.read, batches)
            nursery.start_soon(flow.send, read)
            await flow.hear()


class _Flow:
    def __init__(self, channel: CopyChannel, sender: Sender, watch: Watch) -> None:
        self._channel = channel
        self._sender = sender
        self._watch = watch
        self._heard = trio.lowlevel.ParkingLot()
        self._is_answered = False

    async def read(self, batches: trio.MemorySendChannel[Batch]) -> None:
        """Read the next batch while the one before is under way."""
        async with batches:
            next_batch = partial(trio.to_thread.run_sync, self._sender.next_batch)
            while batch := await next_batch():
                self._is_answered = False
                await batches.send(batch)
                while batch.asks and not (self._is_answered or self._sender.is_unwanted):
                    await self._heard.park()

    async def send(self, batches: trio.MemoryReceiveChannel[Batch]) -> None:
        """Send what was read until the stream breaks, which `hear` tells, or why it was broken."""
        with suppress(CopyBrokenError):
            async for batch in batches:
                if batch.wire:
                    await self._channel.send(batch.wire)
                self._watch.see(batch.events)
                if batch.content_size:
                    await self._channel.send(batch.content)
                    self._watch.moved(batch.content_size)

    async def hear(self) -> None:
        """Take in what the receiver says until it has finished."""
        while True:
            try:
                match await self._channel.hear():
                    case Have() as have:
                        self._sender.receiver_has_untrusted(have)
                        self._is_answered = True
                    case Failed(item, path, reason):
                        self._sender.receiver_failed_untrusted(item)
                        self._watch.failed(path, reason)
                    case Finished():
                        return
                    case other:
                        raise RemoteProtocolError(f"{type(other).__name__} from a receiver")
            except ValueError as error:
                raise RemoteProtocolError(str(error)) from error
            self._heard.unpark_all()
