"""What must be there again, or gone, once all is healed."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import Final

import trio

from .checks import NOTICED_WITHIN, check, holds_within, tasks
from .dialing import dial
from .facts import Life
from .faults import Faults
from .invariants import check_invariants
from .parties import CLIENTS, NAMES, SERVERS
from .scene import Scene
from .steps import Dial, Twin, Usurp
from .streams import close, see_broken, transfer, use_up

LATENCY: Final = 0.005  # seconds, one way, of all lines at the end
SETTLED: Final = 6.0  # seconds in which it is known what new sessions and links can do
MOMENT: Final = 0.5  # seconds after a step until everything that follows from it at once is done
WHOLE_WITHIN: Final = 130.0  # seconds after the last fault until everybody reaches everybody
CONTEST_OVER_WITHIN: Final = (
    700.0  # for who was sent away often, who comes back more and more rarely
)
LINGER: Final = 70.0  # seconds in which what was closed is gone
REACHED_WITHIN: Final = 2.0  # seconds for a dial when all is well
ON_DEMAND: Final = {"dmsg_trio.server._demand.Demand._hold"}  # tasks that come with requests


async def see_that_all_recovers(scene: Scene, faults: Faults, usual_tasks: set[str]) -> None:
    """Heal everything: everybody must reach everybody, and nothing may be left of the faults."""
    await _heal(scene, faults)
    await use_up(scene)
    await _become_whole(scene)
    check_invariants(scene)
    for client, to in permutations(CLIENTS, 2):
        began = trio.current_time()
        await dial(scene, Dial(client, to))
        check(trio.current_time() - began < REACHED_WITHIN, f"{client} took long to reach {to}")
        check(bool(scene.kept), f"{client} does not reach {to}")
        await transfer(scene.kept[-1], 1000, forth=True)
        await close(scene, scene.kept[-1])
        await trio.sleep(MOMENT)
    for holder in scene.holders.values():
        for orphan in holder.arrived.values():  # of dials that were given up
            await see_broken(orphan)
    await holds_within(LINGER, lambda: _check_nothing_is_left(scene, usual_tasks))


async def _become_whole(scene: Scene) -> None:
    """Wait until all sessions and links are there again, and what comes with them is known."""
    limit = CONTEST_OVER_WITHIN if _was_sent_away_often(scene) else WHOLE_WITHIN
    if scene.script.on_demand:  # then what servers think of one another cannot be seen
        await trio.sleep(WHOLE_WITHIN)
    await holds_within(limit, lambda: _check_mesh(scene))
    await trio.sleep(SETTLED)
    _check_mesh(scene)


def _was_sent_away_often(scene: Scene) -> bool:
    steps = scene.script.steps
    count = sum(isinstance(step, Usurp) for step in steps)
    return count > 1 or any(isinstance(step, Twin) for step in steps)


async def _heal(scene: Scene, faults: Faults) -> None:
    world = scene.world
    world.discovery_is_up, world.discovery_delay = True, 0.0
    world.lies.clear()
    world.replies.clear()
    for pair in list(world.lines):
        scene.heal(*pair)
    for a, b in combinations((*SERVERS, *CLIENTS), 2):
        scene.slow_down(a, b, LATENCY)
    for name in list(scene.twins):
        await scene.end_client(name, scene.twins)
    for name in CLIENTS:
        if name not in scene.holders:
            await scene.start_client(name, scene.holders)
    if Life.UP not in world.life.values():
        await trio.sleep(NOTICED_WITHIN)
        await faults.start_server("s0")


def _check_mesh(scene: Scene) -> None:
    """See that all sessions, links and entries are there again."""
    up = {name for name, life in scene.world.life.items() if life is Life.UP}
    tables = scene.tables()
    for name in up:
        links = tables.links[name]
        is_right = links <= up if scene.script.on_demand else links == up - {name}
        check(is_right, f"{name} has links with {links}")
    for name, wanted in zip(CLIENTS, scene.script.clients, strict=True):
        has = set(tables.sessions[name])
        enough = has == up if wanted == 0 else len(has) >= min(wanted, len(up))
        check(enough and has <= up, f"{name} has sessions with {has}")
        published = tables.published[name]
        check(set(published or ()) == has, f"{name} is with {has}, and published {published}")
        at = {server for server in up if name in tables.routes[server] | tables.dead_ends[server]}
        check(at == has, f"{name} has sessions with {has}, and routes lead to it at {at}")


def _check_nothing_is_left(scene: Scene, usual_tasks: set[str]) -> None:
    """See that no stream, table entry or task outlived what it was for."""
    living, ends = tasks(), 0
    for server in scene.network.servers:
        check(server.metrics.streams_now == 0, f"{NAMES[server.pk]} still joins streams")
        sessions = [*server.routes, *(link.session for link in server.peers.links.all)]
        ends += len(sessions)
        for session in sessions:
            check(session.connection.stream_count == 0, f"{session} still has streams")
    for holder in scene.holders.values():
        for session in holder.client.sessions.values():
            check(session.connection.stream_count == 0, f"{session} still has streams")
        ends += len(holder.client.sessions)
    unusual = living.keys() - usual_tasks - ON_DEMAND
    check(not unusual, f"{unusual} go on")
    writers = sum(count for name, count in living.items() if name.endswith("MuxConnection._write"))
    check(writers == ends, f"{writers} connections for {ends} ends of sessions")
