"""Dialing: alone, several at once, or until interest is lost; and having the model judge what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final

import trio

from dmsg_trio import PublicKey, UnreachableError
from dmsg_trio._errors import Attempt, DiscoveryError
from dmsg_trio._net.nurseries import open_service_nursery
from dmsg_trio._net.session import Session
from dmsg_trio.client import DmsgStream

from .checks import check
from .facts import Attempted, Code, Ended, Life, Outcome
from .parties import NAMES, PKS
from .scene import CLOSED_PORT, MAX_ON_SESSION, OPEN_PORT, Holder, Kept, Scene
from .steps import PATIENT, CancelDial, Close, Dial, DialAtOnce, Port
from .streams import close, use

JOINED_WITHIN: Final = 0.001  # seconds: servers join streams right after they passed the answer on
ALL_JOINED: Final = 1.0  # seconds for that, and for streams to end, over the slowest of lines
WATCH_PAUSE: Final = 0.05  # seconds between two looks at the links
MAX_STREAMS: Final = 6
SETTLED: Final = (
    1.0  # seconds after which who had a session before another one knows that it lost it
)


async def dial(scene: Scene, step: Dial) -> None:
    """Dial, have it judged, and keep the stream."""
    holder = scene.holders.get(step.client)
    if holder is None:
        return
    joins, before, began = scene.joins(), scene.tables(), trio.current_time()
    stragglers = scene.may_be_joined
    port = OPEN_PORT if step.port is Port.OPEN else CLOSED_PORT
    async with open_service_nursery() as nursery:
        nursery.start_soon(_watch_links, scene)
        outcome, near = await _try(holder, step.to, port, limit=step.limit)
    scene.give_up(_without_use(outcome))
    if near:
        await trio.sleep(JOINED_WITHIN)
        path = []
        if not stragglers:
            path = [name for name, now in scene.joins().items() if now - joins.get(name, set())]
        path.sort(key=lambda name: PKS[name] != near.server_pk)
        scene.kept.append(_meet(scene, step.client, near, step.to, path))
        outcome = Outcome(outcome.attempts, scene.kept[-1].path[1:-1])
    ended = Ended(
        step.client,
        step.to,
        outcome,
        began,
        trio.current_time(),
        listens=step.port is Port.OPEN,
        enough_time=step.limit == PATIENT,
    )
    scene.judge.judge(ended, before, scene.tables())
    if len(scene.kept) > MAX_STREAMS:
        await use(scene, Close(0))


async def dial_at_once(scene: Scene, step: DialAtOnce) -> None:
    """Make several dials at one time: each is judged, and none may dial a session that another does."""
    pairs = [pair for pair in step.pairs if pair[0] in scene.holders]
    joins, before, began = scene.joins(), scene.tables(), trio.current_time()
    lines = {(client, server) for client, _ in pairs for server in scene.world.life}
    made = {ends: scene.network.connections(*map(PKS.__getitem__, ends)) for ends in lines}
    ended: list[Ended] = []
    streams: list[tuple[str, DmsgStream, str]] = []

    async def make(client: str, to: str) -> None:
        outcome, near = await _try(scene.holders[client], to, OPEN_PORT, limit=PATIENT)
        if near:
            streams.append((client, near, to))
        ended.append(Ended(client, to, outcome, began, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for client, to in pairs:
            nursery.start_soon(make, client, to)
    after = scene.tables()
    stragglers = scene.may_be_joined
    scene.give_up(sum(_without_use(each.outcome) for each in ended))
    await trio.sleep(ALL_JOINED)
    kept = [_meet(scene, client, near, to, ()) for client, near, to in streams]
    opened = iter([Outcome(path=each.path[1:-1]) for each in kept])
    by_path = [each if each.outcome.code else _with_path(each, next(opened).path) for each in ended]
    for name, now in scene.joins().items():
        count, expected = len(now - joins.get(name, set())), sum(name in k.path for k in kept)
        is_calm = scene.contested.isdisjoint(chain.from_iterable(pairs))
        is_right = expected <= count <= expected + stragglers + scene.may_be_joined
        check(is_right or not is_calm, f"{name} joins {count} streams of {expected} dials")
    if before.routes.keys() == after.routes.keys():
        for ends in lines:
            _check_coalesced(scene, ends, made[ends])
    scene.judge.judge_all(by_path, before, after)
    scene.kept += kept
    for each in kept:
        await close(scene, each)
    await trio.sleep(ALL_JOINED)


def _with_path(ended: Ended, path: tuple[str, ...]) -> Ended:
    outcome = Outcome(ended.outcome.attempts, path)
    return Ended(ended.client, ended.to, outcome, ended.began, ended.now)


def _check_coalesced(scene: Scene, ends: tuple[str, str], before: int) -> None:
    """See that a session that many waited for was dialed once."""
    client, server = ends
    is_well = scene.world.is_whole(*ends) and scene.world.life[server] is Life.UP
    if is_well and client not in scene.contested:
        count = scene.network.connections(PKS[client], PKS[server]) - before
        check(count <= 1, f"{client} connected {count} times at once with {server}")


def _without_use(outcome: Outcome) -> int:
    """On how many ways a dial may have left a stream that it does not need."""
    if outcome.code == Code.OUT_OF_TIME:
        return 1
    return sum(each.failed for each in outcome.attempts)


async def cancel_dial(scene: Scene, step: CancelDial) -> None:
    """Dial, and give up: nothing is judged, but something may be learned."""
    holder = scene.holders.get(step.client)
    if holder is None:
        return
    began, outcome = trio.current_time(), Outcome(code=Code.OUT_OF_TIME)
    with trio.move_on_after(step.after):
        try:
            stream = await holder.client.open_stream(PKS[step.to], OPEN_PORT)
            outcome = Outcome(path=(NAMES[stream.server_pk],))
            stream.reset()
        except UnreachableError as error:
            outcome = Outcome(attempted(error.attempts), code=error.code)
        except DiscoveryError:
            outcome = Outcome(code=Code.NO_DISCOVERY)
    scene.give_up(1)
    ended = Ended(step.client, step.to, outcome, began, trio.current_time(), enough_time=False)
    scene.judge.learn(ended)


async def _try(
    holder: Holder, to: str, port: int, *, limit: float
) -> tuple[Outcome, DmsgStream | None]:
    try:
        with trio.fail_after(limit):
            dialed = await holder.client.dial(PKS[to], port)
    except UnreachableError as error:
        return Outcome(attempted(error.attempts), code=error.code), None
    except DiscoveryError:
        return Outcome(code=Code.NO_DISCOVERY), None
    except trio.TooSlowError:
        return Outcome(code=Code.OUT_OF_TIME), None
    return Outcome(attempted(dialed.attempts)), dialed.stream


def _meet(scene: Scene, client: str, near: DmsgStream, to: str, path: Sequence[str]) -> Kept:
    """Find the other end of a stream: with the newest program that has the key, and where it should be."""
    arrival = scene.arrival(to, near)
    assert arrival is not None, f"a stream of {client} to {to} arrived nowhere"
    holder, far = arrival
    ends = dict.fromkeys((near.server_pk, far.server_pk))
    path = path or [NAMES[pk] for pk in ends]
    check(
        {PKS[path[0]], PKS[path[-1]]} == set(ends), f"{path} is not where the ends of a stream are"
    )
    _check_newest(scene, holder, far.server_pk)
    sessions = (
        scene.holders[client].client.sessions.get(near.server_pk),
        holder.client.sessions.get(far.server_pk),
    )
    return Kept(near, far, (client, *path, to), (scene.holders[client], holder), sessions)


def _check_newest(scene: Scene, holder: Holder, server: PublicKey) -> None:
    """See that of two programs with one key the one whose session is the newest was reached."""
    for other in scene.programs(holder.name):
        newer, session = other.client.sessions.get(server), holder.client.sessions.get(server)
        if other is not holder and newer and session and _is_settled(newer):
            check(session.began > newer.began, f"{holder.name} was reached by an older session")


def _is_settled(session: Session) -> bool:
    return session.began < trio.current_time() - SETTLED


async def _watch_links(scene: Scene) -> None:
    """See that requests do not multiply on their way."""
    while True:
        for server in scene.network.servers:
            for link in server.peers:
                count = link.session.connection.stream_count
                check(count <= MAX_ON_SESSION, f"{count} streams between two servers")
        await trio.sleep(WATCH_PAUSE)


def attempted(attempts: Sequence[Attempt]) -> tuple[Attempted, ...]:
    return tuple(
        Attempted(each.tier, NAMES[PublicKey.parse(each.server)], bool(each.reason), each.reason)
        for each in attempts
    )
