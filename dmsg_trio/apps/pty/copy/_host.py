"""Serving copies: what a host does on a stream that was opened for files and granted."""

from __future__ import annotations

import os
from functools import partial

import trio

from dmsg_trio._errors import RemoteProtocolError
from dmsg_trio._wire.file_copy import MAX_REASON, Get, Put, Ready, Refused

from ._channel import FAREWELL, CopyChannel
from ._errors import CopyBrokenError, CopyError
from ._policy import Policy
from ._progress import Outcome, Progress, Watch
from ._receiver import Receiver
from ._receiving import receive_everything
from ._sender import Sender, name_of
from ._sending import send_everything
from ._target import Target


async def serve_files(
    stream: trio.abc.HalfCloseableStream,
    *,
    home: os.PathLike[str],
    progress: Progress | None = None,
) -> Outcome:
    """Do what a client asks for, as the user of this process; paths are relative to ``home``."""
    watch = Watch(progress or Progress())
    async with CopyChannel(stream) as channel:
        try:
            await _serve(channel, os.fsencode(home), watch)
        except CopyBrokenError:
            raise
        except (RemoteProtocolError, CopyError) as error:
            await _refuse(channel, str(error))
            raise
        await channel.end()
    return watch.outcome()


async def _serve(channel: CopyChannel, home: bytes, watch: Watch) -> None:
    match await channel.hear():
        case Put() as request:
            await _receive(channel, request, home, watch)
        case Get() as request:
            await _send(channel, request, home, watch)
        case other:
            raise RemoteProtocolError(f"{type(other).__name__} where a request was due")


async def _receive(channel: CopyChannel, request: Put, home: bytes, watch: Watch) -> None:
    path = at_home(request.target, home)
    try:
        target = await trio.to_thread.run_sync(partial(Target, path, several=request.several))
    except OSError as error:
        raise CopyError(f"{os.fsdecode(path)}: {error.strerror}") from error
    policy = Policy(preserve=request.preserve, overwrite=request.overwrite, resume=request.resume)
    receiver = Receiver(target, policy, trio.from_thread.check_cancelled)
    try:
        await channel.say(Ready())
        await receive_everything(channel, receiver, watch)
    finally:
        receiver.close()


async def _send(channel: CopyChannel, request: Get, home: bytes, watch: Watch) -> None:
    sender = Sender(
        [(at_home(source, home), name_of(source)) for source in request.sources],
        recursive=request.recursive,
        resume=request.resume,
        checkpoint=trio.from_thread.check_cancelled,
    )
    await channel.say(Ready())
    await send_everything(channel, sender, watch)


def at_home(path: bytes, home: bytes) -> bytes:
    """Say what a path means on the host: "~" and nothing are the home, others begin there."""
    if path == b"~" or path.startswith(b"~/"):
        path = path[2:]
    return os.path.join(home, path)


async def _refuse(channel: CopyChannel, reason: str) -> None:
    """Say why this ends; the other side may be gone, or not listen."""
    with trio.move_on_after(FAREWELL):
        try:
            await channel.say(Refused(reason[:MAX_REASON]))
        except CopyBrokenError:
            return
        await channel.end()
