"""What must hold after every step: always, and where nothing is under way any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import trio

from dmsg_trio._net.session import Session
from dmsg_trio.server import Server

from .checks import NOTICED_WITHIN, check, tasks
from .contests import check_contests
from .facts import Life
from .parties import NAMES
from .scene import MAX_ON_SESSION, Scene
from .steps import DelayReplies, Drain, LosePower, Rest, Silence, Step

MAX_SESSIONS_OF_KEY: Final = 5  # at one server: one, and those that may become links
MAX_LINKS: Final = 2  # of two servers: dialed from either side
IS_NEW: Final = (
    6.0  # seconds in which sessions have streams of their own: what can the other side do?
)
QUIET_AFTER: Final = 0.2  # seconds, and the time of news, where nothing is silent
SERVING: Final = "dmsg_trio.server._server.Server._serve_stream"


def check_invariants(scene: Scene) -> None:
    """See that streams are where they should be and nowhere else, and that nothing piles up."""
    for name, life in scene.world.life.items():
        if life is Life.LEAVING and not scene.server(name):
            scene.world.life[name] = Life.DOWN
    scene.lose_what_was_taken()
    for name, joins in scene.joins().items():
        count = len(joins)
        least, most = scene.joined(name)
        check(least <= count <= most, f"{name} joins {count} streams, not {least} to {most}")
    for server in scene.network.servers:
        _check_server(server)
    for name in scene.holders.keys() | scene.twins.keys():
        for holder in scene.programs(name):
            _check_streams(holder.client.sessions.values(), MAX_ON_SESSION)
    check_contests(scene)
    if trio.current_time() > scene.quiet_from and not scene.twins:
        _check_quiet(scene)


def _check_server(server: Server) -> None:
    name = NAMES[server.pk]
    links = [link.session for link in server.peers.links.all]
    for sessions, most, what in (
        (server.routes, MAX_SESSIONS_OF_KEY, "sessions of one key"),
        (links, MAX_LINKS, "links with one server"),
    ):
        count = max(Counter(each.remote_pk for each in sessions).values(), default=0)
        check(count <= most, f"{count} {what} at {name}")
    _check_streams([*server.routes, *links], MAX_ON_SESSION)
    connections = {id(link.connection) for link in links}
    for splice in server.metrics._splices:
        ends = {id(splice.forward.connection), id(splice.back.connection)}
        check(not ends <= connections, f"{name} joins two links: a path of more than two servers")


def _check_streams(sessions: Iterable[Session], most: int) -> None:
    for session in sessions:
        count = session.connection.stream_count
        check(count <= most, f"{count} streams in {session}")


# ---- where nothing is under way ----


def note_what_follows(scene: Scene, step: Step) -> None:
    """Note until when what a step led to goes on at the most."""
    is_noticed_late = isinstance(step, Silence | LosePower | Drain | DelayReplies)
    if isinstance(step, Rest):
        return
    if is_noticed_late or scene.twins or any(scene.world.replies.values()):
        lasts = NOTICED_WITHIN
    else:
        lasts = QUIET_AFTER + scene.news_time
    scene.quiet_from = max(scene.quiet_from, trio.current_time() + lasts)


def _check_quiet(scene: Scene) -> None:
    """See that there are the streams that are kept, and no others; nor tasks, places or bytes of others."""
    alive = [kept for kept in scene.kept if kept.lost_at is None]
    joined = 0
    for server in scene.network.servers:
        name = NAMES[server.pk]
        splices = len(server.metrics._splices)
        links = [link.session for link in server.peers.links.all]
        sessions = [*server.routes, *links]
        _check_count(sessions, 2 * splices, f"ends of {splices} streams at {name}")
        on_links = sum(each.connection.stream_count for each in links)
        places = server._relay._shares._taken.total()
        check(places <= on_links, f"{places} places for {on_links} streams on the links of {name}")
        joined += splices
    for name in scene.holders.keys() | scene.twins.keys():
        sessions = [each for one in scene.programs(name) for each in one.client.sessions.values()]
        count = sum((kept.path[0], kept.path[-1]).count(name) for kept in alive)
        _check_count(sessions, count, f"streams of {name}")
    serving = tasks()[SERVING]
    new = sum(_is_new(each) for each in _all_sessions(scene))
    check(joined <= serving <= joined + new, f"{serving} tasks for {joined} streams")


def _check_count(sessions: Sequence[Session], expected: int, what: str) -> None:
    """See that sessions have so many streams, but for what the new ones have for themselves."""
    count = sum(each.connection.stream_count for each in sessions)
    most = expected + sum(map(_is_new, sessions))
    check(expected <= count <= most, f"{count} {what}, not {expected} to {most}")


def _is_new(session: Session) -> bool:
    return session.began > trio.current_time() - IS_NEW


def _all_sessions(scene: Scene) -> Iterator[Session]:
    for server in scene.network.servers:
        yield from server.routes
        yield from (link.session for link in server.peers.links.all)
