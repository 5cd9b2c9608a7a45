"""Two ends of a copy in memory, and what lies in a folder as one value."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import trio
from trio.testing import memory_stream_pair

from dmsg_trio._errors import DmsgError
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio.apps.pty.copy import (
    CopyBrokenError,
    CopyOptions,
    Outcome,
    Progress,
    StreamOpener,
    serve_files,
)

PieceHook: TypeAlias = Callable[[], Awaitable[None]]
Stapled: TypeAlias = trio.abc.HalfCloseableStream
EVERYTHING: Final = CopyOptions(recursive=True, preserve=True)


class Copy(Protocol):
    """`put` or `get`."""

    def __call__(
        self,
        stream_opener: StreamOpener,
        sources: Sequence[bytes],
        target: bytes,
        *,
        options: CopyOptions,
        progress: Progress,
    ) -> Awaitable[Outcome]: ...


class Notes(Progress):
    """Remembers what a copy tells."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []
        self.resumed: list[int] = []
        self.moved = 0

    def file_goes_on(self, offset: int) -> None:
        self.resumed.append(offset)

    def bytes_moved(self, count: int) -> None:
        self.moved += count

    def problem(self, path: str, reason: str) -> None:
        self.problems.append((path, reason))


class BreakingStream(trio.abc.HalfCloseableStream):
    """A stream that breaks after so many bytes in both directions."""

    def __init__(self, stream: Stapled, budget: int) -> None:
        self._stream = stream
        self._budget = budget

    async def _spend(self, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError("it broke")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        allowed = memoryview(data)[: max(self._budget, 0)]
        with suppress(trio.ClosedResourceError):
            await self._stream.send_all(allowed)
        await self._spend(len(data))

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.ClosedResourceError as error:  # the other direction broke meanwhile
            raise trio.BrokenResourceError("it broke") from error
        await self._spend(len(data))
        return data

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def copy(
    operation: Copy,
    sources: Sequence[Path | bytes],
    target: Path | bytes,
    *,
    options: CopyOptions = EVERYTHING,
    progress: Progress | None = None,
    home: Path = Path("/"),
    budget: int | None = None,
) -> Outcome:
    """Copy between two ends in this process; with a ``budget``, the connection breaks."""
    near, far = memory_stream_pair()
    has_ended = trio.Event()

    async def serve() -> None:
        with suppress(DmsgError):
            await serve_files(far, home=home)
        has_ended.set()

    async def open_stream(_: str) -> Stapled:
        return near if budget is None else BreakingStream(near, budget)

    async with open_service_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            outcome = await operation(
                open_stream,
                [os.fsencode(source) for source in sources],
                os.fsencode(target),
                options=options,
                progress=progress or Progress(),
            )
        except BaseException as error:
            await trio.aclose_forcefully(near)
            if isinstance(error, CopyBrokenError):
                await has_ended.wait()  # the host has taken what came before the end
            raise
    return outcome


# ---- trees ----

Facts: TypeAlias = tuple[str, int, int, bytes]


def facts(root: Path) -> dict[bytes, Facts]:
    """Say what is at ``root`` and below it: kinds, permissions, times and content."""
    found: dict[bytes, Facts] = {}
    waiting = [(b"", os.fsencode(root))]
    while waiting:
        name, path = waiting.pop()
        seen = os.lstat(path)
        if stat.S_ISLNK(seen.st_mode):
            found[name] = ("link", 0, seen.st_mtime_ns, os.readlink(path))
        elif stat.S_ISDIR(seen.st_mode):
            found[name] = ("folder", stat.S_IMODE(seen.st_mode), seen.st_mtime_ns, b"")
            inside = [os.fsencode(entry) for entry in os.listdir(path)]
            waiting += [(os.path.join(name, each), os.path.join(path, each)) for each in inside]
        else:
            with open(path, "rb") as file:
                content = file.read()
            found[name] = ("file", stat.S_IMODE(seen.st_mode), seen.st_mtime_ns, content)
    return found


def hidden(folder: Path) -> list[Path]:
    """List the parts of files that are in a folder."""
    return sorted(folder.glob(".dmsg-*.part"))


def entries(folder: Path) -> set[str]:
    """Say what is in a folder, hidden or not, by name."""
    return set(os.listdir(folder))
