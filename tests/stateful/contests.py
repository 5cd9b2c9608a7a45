"""Several programs with one key: the newest wins, the older one is told, and there is a bound on it."""

from __future__ import annotations

from itertools import combinations
from typing import Final

import trio

from dmsg_trio._net.dialing import dial_session, shows_life
from dmsg_trio._net.session import Session
from dmsg_trio._wire.hybrid import PostQuantum

from .checks import check
from .facts import Life
from .parties import KEYS, NAMES, PKS
from .scene import Scene
from .steps import Usurp

MAX_REPLACEMENTS: Final = 10  # of a session, within
PERIOD: Final = 60.0  # seconds
MOMENT: Final = 0.001  # seconds, without latency
TOLD_WITHIN: Final = 1.0  # seconds, over the slowest of lines
TENTATIVE_TIME: Final = (
    2.0  # seconds more, for keys of servers: a session may be about to be a link
)


async def usurp(scene: Scene, step: Usurp) -> None:
    """Take a client's place again and again, in no time."""
    server = scene.server(step.server)
    if server is None or scene.world.life[step.server] is not Life.UP:
        return
    if step.client in scene.world.said_servers:  # for long it may not be known who is newest
        return
    pk = PKS[step.client]
    scene.contested.add(step.client)
    older, told, refused = server.routes.find(pk), 0, 0
    usurpers: list[Session] = []
    async with trio.open_nursery() as nursery:
        for _ in range(step.times):
            replaced = server.replacements.total
            session = await dial_session(
                KEYS[step.client],
                server.pk,
                server.options.public_address,
                connect=scene.network.net.connect,
                post_quantum=PostQuantum.OFF,
            )
            nursery.start_soon(session.run)
            await shows_life(session)
            await trio.sleep(MOMENT)
            newest = server.routes.find(pk)
            if session.connection.close_reason:
                if server.replacements.total != replaced:  # by the client itself, which came back
                    older = newest
                    continue
                refused += 1
                check(newest is older, f"{step.client} was refused at {step.server}, and yet known")
            else:
                check(newest is not older, f"{step.client} is still where it was")
                if older:
                    told += 1
                    check(bool(older.connection.close_reason), "an older session lives on")
                for each in usurpers:
                    check(each.connection.was_sent_away, "an older session was not told")
                usurpers = [session]
                older = newest
            check(newest is not None, f"{step.client} has no session at {step.server}")
        nursery.cancel_scope.cancel()
    now = trio.current_time()
    times = scene.handovers.setdefault((server, step.client), [])
    lately = sum(time > now - PERIOD for time in times) + told
    check(lately <= MAX_REPLACEMENTS, f"{lately} replacements within {PERIOD} s")
    times += [now] * told
    ours = sum(len(each) for (at, _), each in scene.handovers.items() if at is server)
    if refused and server.replacements.total == ours:
        check(lately == MAX_REPLACEMENTS, f"refused after {lately} replacements")


def check_contests(scene: Scene) -> None:
    """See that no two programs with one key have a session with one server."""
    for name in scene.twins.keys() & scene.holders.keys():
        told_within = TOLD_WITHIN + (TENTATIVE_TIME if name in scene.world.said_servers else 0.0)
        long_ago = trio.current_time() - told_within
        for a, b in combinations(scene.programs(name), 2):
            here, there = a.client.sessions, b.client.sessions
            for pk in here.keys() & there.keys():
                both = (here[pk], there[pk])
                are_open = all(each.connection.is_open for each in both)
                is_whole = scene.world.is_whole(name, NAMES[pk])
                if is_whole and max(each.began for each in both) < long_ago:
                    check(not are_open, f"two programs are {name} at {NAMES[pk]}")
