"""Copying to a host and from it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire.file_copy import FILES_URI, Get, Put, Ready

from ._channel import CopyChannel
from ._errors import CopyError
from ._policy import Policy
from ._progress import Outcome, Progress, Watch
from ._receiver import Receiver
from ._receiving import receive_everything
from ._sender import Sender, name_of
from ._sending import send_everything
from ._target import Target

StreamOpener: TypeAlias = Callable[[str], Awaitable[trio.abc.HalfCloseableStream]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """How to copy: folders too, with times and permissions, over what is there, going on."""

    recursive: bool = False
    preserve: bool = False
    overwrite: bool = True
    resume: bool = True


async def put(
    stream_opener: StreamOpener,
    sources: Sequence[bytes],
    target: bytes,
    *,
    options: CopyOptions,
    progress: Progress,
) -> Outcome:
    """Copy local ``sources`` to ``target`` on the host; what did not work, `Outcome` counts."""
    with _told_as_copy_error():
        request = Put(
            target=target,
            several=len(sources) > 1,
            preserve=options.preserve,
            overwrite=options.overwrite,
            resume=options.resume,
        )
    watch = Watch(progress)
    async with await _asked(stream_opener, request) as channel:
        sender = Sender(
            [(os.path.join(os.getcwdb(), each), name_of(each)) for each in sources],
            recursive=options.recursive,
            resume=options.resume,
            checkpoint=trio.from_thread.check_cancelled,
        )
        await send_everything(channel, sender, watch)
    return watch.outcome()


async def get(
    stream_opener: StreamOpener,
    sources: Sequence[bytes],
    target: bytes,
    *,
    options: CopyOptions,
    progress: Progress,
) -> Outcome:
    """Copy ``sources`` of the host to the local ``target``."""
    with _told_as_copy_error():
        request = Get(sources=tuple(sources), recursive=options.recursive, resume=options.resume)
    policy = Policy(
        preserve=options.preserve,
        overwrite=options.overwrite,
        resume=options.resume,
        recursive=options.recursive,
    )
    watch = Watch(progress)
    names = [name_of(source) for source in sources]
    open_target = partial(Target, target or b".", several=len(sources) > 1, expected=names)
    try:
        place = await trio.to_thread.run_sync(open_target)
    except OSError as error:
        raise CopyError(f"{os.fsdecode(target)}: {error.strerror}") from error
    receiver = Receiver(place, policy, trio.from_thread.check_cancelled)
    try:
        async with await _asked(stream_opener, request) as channel:
            await receive_everything(channel, receiver, watch)
            await channel.end()
    finally:
        receiver.close()
    return watch.outcome()


@contextmanager
def _told_as_copy_error() -> Iterator[None]:
    """What cannot be asked for was the user's wish."""
    try:
        yield
    except ValueError as error:
        raise CopyError(str(error)) from error


async def _asked(stream_opener: StreamOpener, request: Put | Get) -> CopyChannel:
    """Open a stream on which the host has agreed."""
    channel = CopyChannel(await stream_opener(FILES_URI))
    try:
        await channel.say(request)
        answer = await channel.hear()
        if not isinstance(answer, Ready):
            raise RemoteProtocolError(f"{type(answer).__name__} where Ready was due")
    except BaseException as error:
        await channel.__aexit__(type(error), error, None)
        raise
    return channel
