"""Passing a request on to where its destination may be, and choosing among the answers.

Several servers are asked one after the other, each a little later and while the others still think.
What lost leaves nothing behind: its stream is reset, and its place on the link is free again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import trio

from dmsg_trio._errors import ErrorCode, RemoteProtocolError
from dmsg_trio._net.mux_stream import MuxStream
from dmsg_trio._net.session import Session
from dmsg_trio._wire.objects import SignedObject, StreamRequest, StreamResponse
from dmsg_trio._wire.yamux import MAX_STREAMS

from ._metrics import Refusal, ServerMetrics
from ._peers import Peers
from ._shares import NoShareError, Shares
from ._whereabouts import Whereabouts

logger = logging.getLogger("dmsg_trio.server")

STAGGER: Final = 0.25  # seconds until the next server is asked as well


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What came back for a request: the destination's word, and the stream on which it came."""

    stream: MuxStream
    signed: SignedObject
    response: StreamResponse
    place: ExitStack  # on the link, if it is one

    @contextmanager
    def held(self) -> Iterator[None]:
        """Give back the place after the block, and reset the stream unless it is done with."""
        with self.place, self.stream.reset_unless_done():
            yield

    def drop(self) -> None:
        """Leave nothing of it behind."""
        self.stream.reset()
        self.place.close()


class Asker:
    """Asks next hops for one server."""

    def __init__(
        self, peers: Peers, whereabouts: Whereabouts, shares: Shares, metrics: ServerMetrics
    ) -> None:
        self._peers = peers
        self._whereabouts = whereabouts
        self._shares = shares
        self._metrics = metrics

    async def ask_all(
        self, ways: Sequence[Session], signed: SignedObject, request: StreamRequest
    ) -> Answer | None:
        """Ask one after the other, each a little later; the first answer settles it.

        Unless it says that the request came twice: then another way was quicker, and its answer counts.
        """
        if len(ways) == 1:
            return await self._ask(ways[0], signed, request)
        answers: list[Answer] = []
        best: Answer | None = None
        try:
            async with trio.open_nursery() as nursery:

                async def ask(way: Session, turn: trio.Event) -> None:
                    try:
                        if answer := await self._ask(way, signed, request):
                            answers.append(answer)
                            if not _came_twice(answer):
                                nursery.cancel_scope.cancel()
                    finally:
                        turn.set()

                for way in ways:
                    turn = trio.Event()
                    nursery.start_soon(ask, way, turn)
                    with trio.move_on_after(STAGGER):
                        await turn.wait()
                    if not all(map(_came_twice, answers)):
                        break
            best = min(answers, key=_preference, default=None)
            if best and _came_twice(best) and any(way.connection.close_reason for way in ways):
                best = None  # the first answer was lost with a link: let a new request be made
        finally:
            for answer in answers:
                if answer is not best:
                    answer.drop()
        return best

    async def _ask(
        self, way: Session, signed: SignedObject, request: StreamRequest
    ) -> Answer | None:
        """Pass a request on and wait for the answer; None if there is none."""
        with ExitStack() as place:
            if self._peers.is_peer(way):
                try:
                    place.enter_context(self._shares.one(way.remote_pk))
                except NoShareError as error:
                    self._metrics.refused(Refusal.CAPACITY)
                    logger.debug("%s is not asked: %s", way.remote_pk, error)
                    return None
            if not way.connection.is_open or way.connection.stream_count >= MAX_STREAMS:
                self._metrics.refused(Refusal.DESTINATION_FULL)
                return None
            stream = way.connection.open_stream()
            with self._noting_silence(way):
                try:
                    with stream.reset_unless_done():
                        await way.send_object(stream, signed)
                        answer = await way.receive_object_untrusted(stream)
                        if answer is None:
                            raise RemoteProtocolError("a ping marker where an answer should be")
                        response = answer.response_untrusted(signed, request.destination.pk)
                except RemoteProtocolError as error:
                    # Destinations of 2024 refuse by ending the stream; only they could sign a reason.
                    self._metrics.refused(Refusal.BAD_RESPONSE)
                    logger.debug("no answer by %s: %s", way.remote_pk, error)
                    return None
                except trio.BrokenResourceError as error:
                    self._metrics.refused(Refusal.RESET)
                    logger.debug("no answer by %s: %s", way.remote_pk, error)
                    return None
            return Answer(stream, answer, response, place.pop_all())

    @contextmanager
    def _noting_silence(self, way: Session) -> Iterator[None]:
        """Remember of a server that it let a request wait until that was given up."""
        began = trio.current_time()
        try:
            yield
        except trio.Cancelled:
            if trio.current_time() - began >= STAGGER:
                self._metrics.refused(Refusal.SILENT)
                self._whereabouts.was_silent(way.remote_pk)
            raise


def _preference(answer: Answer) -> tuple[bool, bool]:
    """Order answers: one that accepts, then a refusal, then that a request came twice."""
    return not answer.response.accepted, _came_twice(answer)


def _came_twice(answer: Answer) -> bool:
    return answer.response.error_code == ErrorCode.REQUEST_TIMESTAMP
