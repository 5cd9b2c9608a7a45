"""What is sent with a request: bytes, a file, a form, or a stream of which the end is not known."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import httpx
import trio

from ._codes import ExitCode
from ._pace import Pace
from ._parts import saying

BLOCK: Final = 256 * 1024
# Names and values of a form's fields stand in quotes, where these would end them.
_ESCAPES: Final = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class Body(Protocol):
    """The body of a request, as often as it is asked for unless it says otherwise."""

    @property
    def size(self) -> int | None:
        """How long it is; None sends it in chunks."""
        ...

    @property
    def is_repeatable(self) -> bool:
        """Whether `blocks` may be called again, for a redirect or another try."""
        ...

    def blocks(self) -> AsyncIterator[bytes]:
        """Give all of it, in order."""
        ...


@dataclass(frozen=True, slots=True)
class BytesBody:
    """A few bytes."""

    data: bytes
    is_repeatable: bool = field(default=True, init=False)

    @property
    def size(self) -> int:
        """How long it is."""
        return len(self.data)

    async def blocks(self) -> AsyncIterator[bytes]:
        """Give all of it at once."""
        await trio.lowlevel.checkpoint()
        if self.data:
            yield self.data


@dataclass(frozen=True, slots=True)
class FileBody:
    """A file, read while it is sent."""

    path: Path
    size: int
    is_repeatable: bool = field(default=True, init=False)

    @classmethod
    def of(cls, path: Path) -> FileBody:
        """Look at a file; `TransferError` if it cannot be read."""
        with saying(f"reading {path}", ExitCode.READ_ERROR), path.open("rb") as file:
            return cls(path, os.fstat(file.fileno()).st_size)

    async def blocks(self) -> AsyncIterator[bytes]:
        """Give as much as was announced, also if the file has grown meanwhile."""
        for block in read_blocks(self.path, self.size):
            await trio.lowlevel.checkpoint()
            yield block


@dataclass(frozen=True, slots=True)
class StreamBody:
    """What a program or a person gives, once."""

    read: Callable[[], AsyncIterator[bytes]]
    size: None = field(default=None, init=False)
    is_repeatable: bool = field(default=False, init=False)

    def blocks(self) -> AsyncIterator[bytes]:
        """Give what is read."""
        return self.read()


# ---- forms ----


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a form: its headers, and a value that is bytes or a file."""

    name: str
    value: bytes | Path
    filename: str = ""
    content_type: str = ""

    @property
    def head(self) -> bytes:
        """The headers in front of the value."""
        lines = [f'Content-Disposition: form-data; name="{self.name.translate(_ESCAPES)}"']
        if self.filename:
            lines[0] += f'; filename="{self.filename.translate(_ESCAPES)}"'
        if self.content_type:
            lines.append(f"Content-Type: {self.content_type}")
        return os.fsencode("\r\n".join([*lines, "", ""]))


class FormBody:
    """A form as ``multipart/form-data``; files are read while it is sent."""

    is_repeatable: Final = True

    def __init__(self, fields: Sequence[Field]) -> None:
        self.boundary = f"------------------------{secrets.token_hex(11)}"
        self._fields = fields
        self._sizes = [
            FileBody.of(each.value).size if isinstance(each.value, Path) else len(each.value)
            for each in fields
        ]
        framing = sum(len(self._open(each)) + len(b"\r\n") for each in fields)
        self.size: int | None = framing + sum(self._sizes) + len(self._end)

    def _open(self, each: Field) -> bytes:
        return f"--{self.boundary}\r\n".encode() + each.head

    @property
    def _end(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()

    async def blocks(self) -> AsyncIterator[bytes]:
        """Give field by field."""
        for each, size in zip(self._fields, self._sizes, strict=True):
            yield self._open(each)
            if isinstance(each.value, Path):
                for block in read_blocks(each.value, size):
                    await trio.lowlevel.checkpoint()
                    yield block
            else:
                yield each.value
            yield b"\r\n"
        await trio.lowlevel.checkpoint()
        yield self._end


def read_blocks(path: Path, size: int) -> Iterator[bytes]:
    """Read so many bytes of a file; `TransferError` if there are fewer by now."""
    doing = f"reading {path}"
    with saying(doing, ExitCode.READ_ERROR):
        with path.open("rb", buffering=0) as file:
            rest = size
            while rest:
                block = file.read(min(BLOCK, rest))
                if not block:
                    raise OSError(f"it has {rest} bytes less than a moment ago")
                rest -= len(block)
                yield block


class Upload(httpx.AsyncByteStream):
    """A body on its way: counted, and at its pace."""

    def __init__(self, body: Body | None, pace: Pace, on_sent: Callable[[int], None]) -> None:
        self._body = body
        self._pace = pace
        self._on_sent = on_sent

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give block after block to whoever sends them."""
        if self._body is None:
            return
        async for block in self._body.blocks():
            yield block
            self._on_sent(len(block))
            await self._pace.after(len(block))
