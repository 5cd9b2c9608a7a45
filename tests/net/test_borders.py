"""A bug ends the task that has it, with a line in the log, and no other."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import memory_stream_pair

from dmsg_trio._net.borders import Border, serve_each

logger = logging.getLogger("dmsg_trio.test")

Stream = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


class Listener(trio.abc.Listener[Stream]):
    def __init__(self, *streams: Stream) -> None:
        self._streams = list(streams)

    async def accept(self) -> Stream:
        await trio.lowlevel.checkpoint()
        if not self._streams:
            await trio.sleep_forever()
        return self._streams.pop(0)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.faulty
async def test_what_is_a_bug_is_logged_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    with Border(logger, "the stream of %s", "02ab"):
        raise ZeroDivisionError
    (record,) = caplog.records
    assert record.getMessage() == "the stream of 02ab ended by a fault of ours"
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError


async def test_what_ends_a_program_is_no_bug() -> None:
    with pytest.raises(KeyboardInterrupt):
        with Border(logger, "it"):
            raise KeyboardInterrupt
    with trio.CancelScope() as scope:
        scope.cancel()
        with Border(logger, "it"):
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught


@pytest.mark.faulty
async def test_a_bug_in_one_connection_ends_that_one(
    caplog: pytest.LogCaptureFixture, nursery: trio.Nursery
) -> None:
    pairs = [memory_stream_pair() for _ in range(2)]

    async def serve(stream: Stream) -> None:
        await stream.send_all(100 // len(await stream.receive_some()) * b"x")

    listener = Listener(*(far for _, far in pairs))
    nursery.start_soon(serve_each, serve, [listener], logger)
    faulty, sound = (near for near, _ in pairs)
    await faulty.send_eof()
    assert await faulty.receive_some() == b""
    await sound.send_all(bytes(50))
    assert await sound.receive_some() == b"xx"
    assert [each.getMessage() for each in caplog.records] == [
        "a connection ended by a fault of ours"
    ]
