"""A wire in front of a server which can be cut, or fall silent without a word."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

PIECE: Final = 16 * 1024
RESET: Final = struct.pack("ii", 1, 0)  # no lingering: what lies in the way is lost


class Wire:
    """Carries connections to a server, and counts their bytes."""

    def __init__(self, port: int) -> None:
        self.port = port  # of the server
        self.carried = 0
        self.cuts = 0
        self.connections = 0
        self._is_silent = False
        self._chance: random.Random | None = None
        self._cut_after = (0, 0)
        self._spared = 0
        self._heard_again = trio.Event()

    def cut_every(self, least: int, most: int, *, seed: int, spared: int) -> None:
        """Cut each connection that begins from now on, except the first ones of all, somewhere."""
        self._chance, self._cut_after, self._spared = random.Random(seed), (least, most), spared

    def stop_cutting(self) -> None:
        """Leave alone what begins from now on."""
        self._chance = None

    def fall_silent(self) -> None:
        """Carry nothing, and let nobody know."""
        self._is_silent = True

    def be_heard_again(self) -> None:
        """Carry new connections, and what waited in the old ones."""
        self._is_silent = False
        self._heard_again.set()
        self._heard_again = trio.Event()

    async def serve(self, near: trio.SocketStream) -> None:
        """Carry one connection."""
        self.connections += 1
        room = [2**62]
        if self._chance is not None and self.connections > self._spared:
            room = [self._chance.randint(*self._cut_after)]
        try:
            far = await trio.open_tcp_stream("127.0.0.1", self.port)
        except OSError:
            await near.aclose()
            return
        async with near, far:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._carry, near, far, room, nursery)
                    nursery.start_soon(self._carry, far, near, room, nursery)
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def _carry(
        self,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        room: list[int],
        nursery: trio.Nursery,
    ) -> None:
        while data := await source.receive_some(PIECE):
            while self._is_silent:
                await self._heard_again.wait()
            passed = bytes(data[: room[0]])
            room[0] -= len(passed)
            self.carried += len(passed)
            await sink.send_all(passed)
            if not room[0]:
                self.cuts += 1
                for end in source, sink:
                    end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                nursery.cancel_scope.cancel()
                return
        await sink.send_eof()


@asynccontextmanager
async def open_wire(port: int, to: int) -> AsyncIterator[Wire]:
    """Have a wire from one port to another for the block."""
    wire = Wire(to)
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, wire.serve, port, host="127.0.0.1")
        await nursery.start(serve)
        yield wire
        nursery.cancel_scope.cancel()
