"""Using the streams that are kept: what is sent arrives, and what cannot live on breaks."""

from __future__ import annotations

import random

import trio

from dmsg_trio.client import DmsgStream

from .checks import UnexpectedError, arriving, check
from .scene import Kept, Scene
from .steps import Close, HalfClose, Reset, Transfer, Use


async def use(scene: Scene, step: Use) -> None:
    """Do with a stream what a step says, if there is one."""
    scene.lose_what_was_taken()
    if not scene.kept:
        return
    kept = scene.kept[step.stream % len(scene.kept)]
    if kept.lost_at is not None:
        await _see_it_break(scene, kept)
        return
    match step:
        case Transfer(_, size, forth):
            await transfer(kept, size, forth=forth)
        case HalfClose(_, forth):
            await _half_close(scene, kept, forth=forth)
        case Close():
            await close(scene, kept)
        case Reset(_, forth):
            sender, receiver = kept.ends(forth=forth)
            sender.reset()
            scene.leave(kept)
            if not kept.ended:
                await see_broken(receiver)
            receiver.reset()


async def use_up(scene: Scene) -> None:
    """Close all streams, or see that they break."""
    while scene.kept:
        await use(scene, Close(0))


async def transfer(kept: Kept, size: int, *, forth: bool) -> None:
    """Send bytes one way, and see that these arrive and no others."""
    if forth in kept.ended:
        return
    sender, receiver = kept.ends(forth=forth)
    data = random.Random(size).randbytes(size)
    received = bytearray()
    with arriving(f"{size} bytes over {kept.path}"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.send_all, data)
            while len(received) < size:
                piece = await receiver.receive_some()
                check(bool(piece), f"{kept.path} ended without an end")
                received += piece
    check(received == data, f"other bytes came over {kept.path} than were sent")


async def _half_close(scene: Scene, kept: Kept, *, forth: bool) -> None:
    if forth in kept.ended:
        return
    sender, receiver = kept.ends(forth=forth)
    with arriving(f"the end over {kept.path}"):
        await sender.send_eof()
        check(await receiver.receive_some() == b"", "bytes came that nobody sent")
    kept.ended.add(forth)
    await transfer(kept, 100, forth=not forth)
    if len(kept.ended) == 2:
        await close(scene, kept)


async def close(scene: Scene, kept: Kept) -> None:
    scene.leave(kept)
    await kept.near.aclose()
    await kept.far.aclose()


async def _see_it_break(scene: Scene, kept: Kept) -> None:
    scene.leave(kept)
    for stream, direction in ((kept.near, False), (kept.far, True)):
        if direction not in kept.ended:
            await see_broken(stream)
        stream.reset()


async def see_broken(stream: DmsgStream) -> None:
    """See that a stream breaks and brings nothing."""
    with arriving(f"the news that {stream} is gone"):
        try:
            received = await stream.receive_some()
        except trio.BrokenResourceError:
            return
    raise UnexpectedError(f"{stream} should have broken, and brought {bytes(received)!r}")
