"""What lies between two parties of a network in memory, and what goes wrong there."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from ._pipe import MemoryStream


@dataclass(slots=True, eq=False)
class Line:
    """All connections between two parties, those that are still to come included."""

    latency: float  # seconds, one way
    is_cut: bool = False
    is_silent: bool = False
    connections: list[MemoryStream] = field(default_factory=list)
    made: int = 0  # connections so far

    async def connect(self) -> None:
        """Take the time that a connection needs; `ConnectionRefusedError` where the line is cut."""
        await trio.sleep(2 * self.latency)
        if self.is_silent:
            await trio.sleep_forever()
        if self.is_cut:
            raise ConnectionRefusedError("this line was cut")

    def add(self, stream: MemoryStream) -> None:
        """Count a connection among those of this line."""
        self.connections = [each for each in self.connections if not each.is_over]
        self.connections.append(stream)
        self.made += 1

    def cut(self) -> None:
        """Break all connections, and let no new one come to be."""
        self.is_cut = True
        self.break_all()

    def silence(self) -> None:
        """Make black holes of all connections, also of those that are tried from now on."""
        self.is_silent = True
        for stream in self.connections:
            stream.stall()

    def slow_down(self, latency: float) -> None:
        """Let everything take ``latency`` seconds each way from now on."""
        self.latency = latency
        for stream in self.connections:
            stream.slow_down(latency)

    def heal(self) -> None:
        """Let connections come to be again; those that were black holes break."""
        if self.is_silent:
            self.break_all()
        self.is_cut = self.is_silent = False

    def break_all(self) -> None:
        """Break the connections that there are now."""
        for stream in self.connections:
            stream.cut()
        self.connections.clear()
